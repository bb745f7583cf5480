"""The command line against the real system: what it prints, and its exit codes."""

import json
import signal
import subprocess
import sys
import uuid
from typing import Any

import pexpect
import pytest

from tests.ports import take_port
from tests.system import System, wait_until
from worker.core.job.models import JobId

REMASTER = ("submit", "sonic.remaster", "-p", "mv=chirp-v5", "-p", "variation_category=subtle")


def fermata(system: System, *arguments: str, **settings: str) -> "subprocess.CompletedProcess[str]":
    return system.fermata(*arguments, **settings)


def test_follow_ups_run_in_parallel_and_in_sequence(system: System) -> None:
    ran = fermata(
        system, *REMASTER, "-p", f"continue_clip_id={uuid.uuid4()}", "--wait", "--json",
        "--then", "sonic.stems_full", "--then", "sonic.wav+sonic.midi",
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    remaster, stems, wav, midi = json.loads(ran.stdout)
    assert [job["state"] for job in (remaster, stems, wav, midi)] == ["succeeded"] * 4
    assert stems["after"] == wav["after"] == remaster["job_id"]
    assert midi["after"] == wav["job_id"]
    assert len(stems["result"]["clips"]) == 12


def test_a_flow_is_shown_as_the_tree_that_it_is(system: System) -> None:
    clip = ("--source", str(uuid.uuid4()))
    then = ("--then", "sonic.stems_full", "--then", "sonic.wav+sonic.midi")
    sent = fermata(system, *REMASTER, *clip, *then)
    ids = [line.split()[0] for line in sent.stdout.splitlines()]
    tree = ["sonic.remaster", "├ sonic.stems_full", "└ sonic.wav", "  └ sonic.midi"]
    assert [line.partition("  ")[2] for line in sent.stdout.splitlines()] == tree
    wait_until(lambda: all(system.state(job_id) == "succeeded" for job_id in ids))
    for job_id in ids:
        shown = fermata(system, "job", job_id).stdout.splitlines()
        assert [line for line in shown if any(line.startswith(f"{each}  ") for each in tree)]
        told = json.loads(fermata(system, "job", job_id, "--json").stdout)
        assert [each["job_id"] for each in told["flow"]] == ids
    listed = [line.split("  ")[1] for line in fermata(system, "jobs").stdout.splitlines()]
    assert [each for each in listed if each in tree][: len(tree) - 1] == tree[:-1]
    newest = json.loads(fermata(system, "jobs", "--limit", "1", "--json").stdout)
    assert (len(newest), newest[0]["first"]) == (1, ids[0])


def test_what_is_still_to_come_is_shown_before_it_begins(system: System) -> None:
    job_id = str(uuid.uuid4())
    system.simulator.rule(job_id, webhook="lost", latency_seconds=600)
    clip = ("--source", str(uuid.uuid4()), "--id", job_id)
    fermata(system, *REMASTER, *clip, "--then", "sonic.wav+sonic.midi")
    wait_until(lambda: system.state(job_id) == "waiting")
    told = json.loads(fermata(system, "job", job_id, "--json").stdout)["flow"]
    assert [(each["operation"], each["state"]) for each in told] == [
        ("sonic.remaster", "waiting"),
        ("sonic.wav", "not started"),
        ("sonic.midi", "not started"),
    ]
    fermata(system, "cancel", job_id)
    wait_until(lambda: system.state(job_id) == "cancelled")
    told = json.loads(fermata(system, "job", job_id, "--json").stdout)["flow"]
    assert [each["state"] for each in told] == ["cancelled", "not run", "not run"]


def test_one_branch_is_a_chain(system: System) -> None:
    ran = fermata(system, *REMASTER, "--source", str(uuid.uuid4()), "--then", "sonic.wav", "--wait")
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.count("succeeded") == 2


def test_a_command_says_who_goes_first_and_whom_it_is_for(system: System) -> None:
    lane = ("--priority", "batch", "--tenant", "acme")
    ran = fermata(
        system, *REMASTER, "--source", str(uuid.uuid4()), *lane,
        "--then", "sonic.wav", "--wait", "--json",
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert [job["lane"] for job in json.loads(ran.stdout)] == ["batch:acme"] * 2
    assert fermata(system, "submit", "account.credits", "--priority", "urgent").returncode == 2


def test_a_failed_job_is_exit_code_1_and_its_follow_up_is_not_run(system: System) -> None:
    job_id = str(uuid.uuid4())
    system.simulator.rule(job_id, outcome="fail")
    ran = fermata(
        system, *REMASTER, "--source", str(uuid.uuid4()), "--id", job_id,
        "--then", "sonic.stems_basic", "--then", "sonic.wav", "--wait",
    )  # fmt: skip
    assert ran.returncode == 1
    assert "failed" in ran.stdout
    assert ran.stdout.count("not run") == 2


def test_a_wrong_request_is_exit_code_2_with_every_field_named(system: System) -> None:
    ran = fermata(system, "submit", "sonic.remaster", "-p", "mv=chirp-v99", "-p", "foo=1")
    assert ran.returncode == 2
    for field in ("continue_clip_id", "mv", "foo"):
        assert field in ran.stderr


def test_an_unknown_operation_names_the_ones_there_are(system: System) -> None:
    ran = fermata(system, "submit", "sonic.remastr")
    assert ran.returncode == 2
    assert "sonic.remaster" in ran.stderr


def test_the_wait_ends_after_its_timeout_and_the_job_goes_on(system: System) -> None:
    job_id = str(uuid.uuid4())
    system.simulator.rule(job_id, latency_seconds=3)
    ran = fermata(
        system, *REMASTER, "--source", str(uuid.uuid4()), "--id", job_id, "--wait", "--timeout", "1"
    )
    assert ran.returncode == 5
    wait_until(lambda: system.state(job_id) == "succeeded")


def test_ctrl_c_ends_the_wait_with_130_and_leaves_the_job_alone(system: System) -> None:
    job_id = str(uuid.uuid4())
    system.simulator.rule(job_id, latency_seconds=5)
    command = [*REMASTER, "--source", str(uuid.uuid4()), "--id", job_id, "--wait"]
    waiting = system.run("waiting", "-m", "worker", *command)
    # A worker may be quicker than the command, so wait until the command itself shows the job.
    wait_until(lambda: job_id in system.log("waiting"))
    waiting.send_signal(signal.SIGINT)
    assert waiting.wait(60) == 130
    said = system.log("waiting")
    assert f"the jobs go on: see `fermata job {job_id}`" in said
    assert "Traceback" not in said
    wait_until(lambda: system.state(job_id) == "succeeded")


def test_a_job_is_explained_by_its_timeline(system: System) -> None:
    job_id = str(uuid.uuid4())
    system.simulator.rule(job_id, streaming=1)
    fermata(system, *REMASTER, "--source", str(uuid.uuid4()), "--id", job_id, "--wait")
    shown = fermata(system, "job", job_id)
    for word in ("submitting", "waiting", "song.streaming", "resuming", "succeeded", "webhook"):
        assert word in shown.stdout
    assert job_id in fermata(system, "jobs").stdout
    assert json.loads(fermata(system, "job", job_id, "--json").stdout)["attempts"] == 1


def test_in_a_pipe_nothing_is_wrapped_and_a_wait_tells_of_each_change(system: System) -> None:
    job_id = str(uuid.uuid4())
    system.simulator.rule(job_id, outcome="fail")
    command = [*REMASTER, "--source", str(uuid.uuid4()), "--id", job_id, "--wait"]
    waited = fermata(system, *command, COLUMNS="80")
    told = waited.stderr.splitlines()
    assert waited.stdout.endswith("\n")
    assert told[-1] == f"{job_id}  sonic.remaster  failed"
    assert len(set(told)) == len(told) > 1
    why = json.loads(fermata(system, "job", job_id, "--json").stdout)["error"]["message"]
    listed = fermata(system, "jobs", COLUMNS="80").stdout.splitlines()
    assert [line for line in listed if line.startswith(job_id) and why in line]


def test_cancelling_what_nobody_has_heard_of_says_so(system: System) -> None:
    ran = fermata(system, "cancel", "nobody-at-all")
    assert ran.returncode == 2
    assert "no record of it" in ran.stdout


def test_a_job_is_found_by_the_beginning_of_its_id_that_fermata_dev_shows(system: System) -> None:
    job_id = str(uuid.uuid4())
    fermata(system, "submit", "account.credits", "--id", job_id, "--wait")
    shown = fermata(system, "job", job_id[:8], "--json")
    assert json.loads(shown.stdout)["job_id"] == job_id
    too_late = fermata(system, "cancel", job_id[:8])
    assert (too_late.returncode, too_late.stdout) == (1, f"{job_id}  too late\n")
    for command in ("poll", "retry"):
        assert job_id in fermata(system, command, job_id[:13]).stderr


@pytest.mark.parametrize("command", ["job", "wait", "cancel", "retry", "poll"])
def test_no_command_takes_the_beginning_of_an_id_for_the_id(system: System, command: str) -> None:
    alike = str(uuid.uuid4())[:8]
    for last in "01":
        job_id = f"{alike}-0000-4000-8000-00000000000{last}"
        fermata(system, "submit", "account.credits", "--id", job_id)
    ambiguous, nobody = fermata(system, command, alike), fermata(system, command, "00000000")
    assert (ambiguous.returncode, ambiguous.stdout) == (2, "")
    assert f"2 jobs have an id that begins with {alike}" in ambiguous.stderr
    assert (nobody.returncode, nobody.stdout) == (2, "")
    assert "none has an id that begins with 00000000" in nobody.stderr
    whole = fermata(system, command, str(uuid.uuid4()))
    assert whole.returncode == 2
    assert "no record" in whole.stdout + whole.stderr


def test_an_unknown_job_is_exit_code_2(system: System) -> None:
    ran = fermata(system, "job", "nobody")
    assert (ran.returncode, ran.stdout) == (2, "")
    assert "nobody" in ran.stderr


def test_a_dead_redis_is_exit_code_4_within_seconds(system: System) -> None:
    nowhere = f"redis://127.0.0.1:{take_port()}/0"
    dead = {"FERMATA_REDIS_URL": nowhere, "FERMATA_BROKER_URL": nowhere}
    for command in (["submit", "account.credits"], ["jobs"], ["job", "some-id"]):
        ran = fermata(system, *command, **dead)
        assert ran.returncode == 4, ran.stderr
        assert "cannot be reached" in ran.stderr
        assert "Traceback" not in ran.stderr


def test_wrong_settings_are_exit_code_3_and_all_named_at_once(system: System) -> None:
    wrong = {"FERMATA_REDIS_URL": "http://x", "FERMATA_POLL_EVERY_SECONDS": "soon"}
    ran = fermata(system, "jobs", **wrong)
    assert ran.returncode == 3
    for name in wrong:
        assert name in ran.stderr


def test_the_operations_are_listed_for_people_and_programs(system: System) -> None:
    listed = json.loads(fermata(system, "operations", "--json").stdout)
    assert {"sonic.remaster", "producer.create_music", "account.credits"} <= {
        each["name"] for each in listed
    }
    assert all({"mode", "method", "path", "fields"} <= set(each) for each in listed)
    shown = fermata(system, "operations")
    assert shown.returncode == 0
    assert all(each["name"] in shown.stdout for each in listed)


def test_a_waiting_job_can_be_polled_at_once(system: System) -> None:
    job_id = str(uuid.uuid4())
    system.simulator.rule(job_id, latency_seconds=600, webhook="lost")
    fermata(system, *REMASTER, "--source", str(uuid.uuid4()), "--id", job_id)
    wait_until(lambda: system.state(job_id) == "waiting")
    polled = fermata(system, "poll", job_id, "--json")
    assert polled.returncode == 0, polled.stderr
    assert json.loads(polled.stdout)["polls"] >= 1
    assert fermata(system, "poll", "nobody").returncode == 2


def test_jobs_are_listed_by_what_is_asked_for(system: System) -> None:
    tenant, batch = f"t-{uuid.uuid4()}", "--priority=batch"
    ids = [str(uuid.uuid4()) for _ in range(3)]
    for job_id in ids:
        system.simulator.rule(job_id, outcome="fail")
        clip = ("--source", str(uuid.uuid4()), "--id", job_id)
        fermata(system, *REMASTER, *clip, "--tenant", tenant, batch)
    wait_until(lambda: all(system.state(job_id) == "failed" for job_id in ids))
    wanted = ("--tenant", tenant, "--state", "failed", "--error", "TaskFailed", "--since", "1h")
    first = json.loads(fermata(system, "jobs", *wanted, "--limit", "2", "--json").stdout)
    rest = json.loads(
        fermata(system, "jobs", *wanted, "--cursor", first["cursor"], "--json").stdout
    )
    found = [*first["jobs"], *rest["jobs"]]
    assert {each["job_id"] for each in found} == {*ids}
    assert (len(found), rest["cursor"]) == (3, None)
    assert {(each["tenant"], each["error_type"]) for each in found} == {(tenant, "TaskFailed")}
    shown = fermata(system, "jobs", *wanted, "--limit", "2")
    assert len(shown.stdout.splitlines()) == 3
    assert "Looked at 2 jobs; go on with --cursor " in shown.stderr
    none = fermata(system, "jobs", *wanted, "--until", "1h")
    assert (none.returncode, none.stdout, none.stderr) == (0, "", "No job matches.\n")


def test_a_filter_that_can_match_nothing_is_exit_code_2(system: System) -> None:
    unknown = fermata(system, "jobs", "--operation", "sonic.remastr")
    assert "there is no operation 'sonic.remastr'" in unknown.stderr
    cursor = fermata(system, "jobs", "--cursor", "nonsense")
    assert "this cursor is not one that a page has given" in cursor.stderr
    assert (unknown.returncode, cursor.returncode) == (2, 2)


def test_a_wait_ends_with_the_jobs_that_it_names(system: System) -> None:
    good, bad = str(uuid.uuid4()), str(uuid.uuid4())
    system.simulator.rule(good, latency_seconds=1)
    system.simulator.rule(bad, outcome="fail")
    clip = ("--source", str(uuid.uuid4()))
    sent = fermata(system, *REMASTER, *clip, "--id", good, "--then", "sonic.wav")
    wav = sent.stdout.splitlines()[1].split()[0]
    fermata(system, *REMASTER, *clip, "--id", bad)
    waited = fermata(system, "wait", wav, good[:8], "--json")
    assert waited.returncode == 0, waited.stderr
    assert [(each["job_id"], each["state"]) for each in json.loads(waited.stdout)] == [
        (good, "succeeded"), (wav, "succeeded"),
    ]  # fmt: skip
    assert fermata(system, "wait", good, bad).returncode == 1
    nobody = fermata(system, "wait", good, "nobody")
    assert nobody.returncode == 2
    assert "there is no record of job nobody" in nobody.stderr


def test_the_status_says_how_all_is(system: System) -> None:
    job_id = str(uuid.uuid4())
    system.simulator.rule(job_id, latency_seconds=600, webhook="lost")
    clip = ("--source", str(uuid.uuid4()))
    fermata(system, *REMASTER, *clip, "--wait")
    fermata(system, *REMASTER, *clip, "--id", job_id)
    wait_until(lambda: system.state(job_id) == "waiting", what="it waits")
    wait_until(lambda: system.readings.read(JobId(job_id)).polled == "running", what="it is polled")
    silent = "workers_silent_seconds"

    def seen() -> dict[str, Any] | None:
        """Return the status, once the worker has given its first sign of life."""
        said = json.loads(fermata(system, "status", "--json").stdout)
        return said if said[silent] else None

    found = wait_until(seen, what="the worker gives a sign of life")
    assert found["jobs"]["waiting"] >= 1
    assert found["jobs"]["succeeded"] >= 1
    assert found["gate"].startswith("open: ")
    assert found["oldest_seconds"]["waiting"] > 0
    assert 0 < found["webhook_share"] <= 1
    assert found["wait_p95_seconds"] > 0
    assert min(found[silent].values()) < 30
    shown = fermata(system, "status").stdout
    for word in (
        "jobs ",
        "waiting",
        "gate ",
        "that take a webhook",
        "workers ",
        "quarantine ",
        "none",
    ):
        assert word in shown
    job = fermata(system, "job", job_id).stdout
    assert "last poll" in job
    assert "\n  variation_category: subtle\n" in job


def test_a_watched_status_ends_with_ctrl_c_and_says_nothing_of_it(system: System) -> None:
    command = ["-m", "worker", "status", "--watch"]
    environment = system.environment | {"TERM": "xterm"}
    watching = pexpect.spawn(sys.executable, command, env=environment, encoding="utf-8")
    for _ in range(2):
        watching.expect("unconfirmed", timeout=30)
    watching.sendintr()
    watching.expect(pexpect.EOF, timeout=10)
    assert watching.wait() == 0
    assert "interrupted" not in (watching.before or "")
