"""Batches: each row once, whatever interrupts the submission; and what is done about failures."""

import csv
import io
import json
import os
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from tests import launcher
from tests.launcher import Process
from tests.system import System, wait_until
from worker.batch import manifest
from worker.core import keys
from worker.core.batch import Row, row_id
from worker.messages.flow import lay_out

SAMPLES = Path(__file__).parent.parent / "samples/manifests"
MISTAKES = [SAMPLES / f"mistakes.{form}" for form in ("csv", "jsonl", "yaml")]


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    with System(tmp_path_factory.mktemp("batches")) as system:
        system.worker()
        yield system


class Desk:
    """One batch of a test: its manifest, and the commands on it."""

    def __init__(self, system: System, folder: Path, name: str) -> None:
        self.system, self.name = system, name
        self.path = folder / f"{name}.jsonl"
        self.rows: list[dict[str, Any]] = []

    def write(self, count: int, *, first: int = 0, then: str = "sonic.wav") -> None:
        """Write rows; the source of each names the batch and the row, for the simulator's books."""
        for n in range(first, first + count):
            tag = f"{abs(hash(self.name)) % 10**8:08d}"
            source = f"{tag}-0000-4000-8000-{n:012d}"
            row = {"operation": "sonic.remaster", "mv": "chirp-v5", "source": source}
            self.rows.append(row | ({"then": then} if then else {}))
        self.save()

    def steps(self) -> list[list[str]]:
        """Name the jobs of the first row: its trunk, then each branch."""
        row = next(manifest.read([self.path.read_bytes()], form=manifest.Format.JSONL))
        assert isinstance(row, Row)
        trunk, branches = lay_out(row_id(self.name, row), row.plan)
        return [[step.job_id for step in steps] for steps in (trunk, *branches)]

    def save(self) -> None:
        self.path.write_text("\n".join(map(json.dumps, self.rows)))

    def start(self, *arguments: str) -> Process:
        command = ("-m", "worker", "batch", *arguments)
        return launcher.start(
            *command, environment=self.system.environment, folder=self.system.folder
        )

    def run(self, *arguments: str, code: int = 0) -> str:
        process = self.start(*arguments)
        out, err = process.communicate(timeout=100)
        assert process.returncode == code, (out, err)
        return out

    def submit(self, *options: str, code: int = 0) -> dict[str, Any]:
        out = self.run("submit", str(self.path), "--json", *options, code=code)
        found: dict[str, Any] = json.loads(out)
        return found

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.run("status", self.name, "--json"))
        return found

    def ends(self) -> dict[str, Any]:
        wait_until(
            lambda: self.system.batch(self.name).done, seconds=60, what=f"{self.name} has ended"
        )
        return self.status()

    def paid(self) -> Counter[str]:
        """How often the provider accepted the first job of each row."""
        return self.system.simulator.submissions(row["source"] for row in self.rows)

    def each_row_once(self) -> None:
        assert self.paid() == Counter(row["source"] for row in self.rows)

    def report(self) -> list[dict[str, Any]]:
        lines = self.run("report", self.name, "--format", "jsonl").splitlines()
        return [json.loads(line) for line in lines]


@pytest.fixture
def desk(system: System, tmp_path: Path, request: pytest.FixtureRequest) -> Desk:
    return Desk(system, tmp_path, request.node.originalname[5:60])


def test_a_batch_is_submitted_watched_and_reported(desk: Desk) -> None:
    desk.write(6)
    assert desk.submit() == {"batch_id": desk.name, "submitted": 6, "present": 0}
    watched = json.loads(desk.run("watch", desk.name, "--timeout", "60", "--json"))
    assert (watched["rows"], watched["jobs"], watched["live"]) == (6, 12, 0)
    assert watched["ended"]["succeeded"] == 12
    assert watched["spent"] == watched["expected_credits"]
    report = desk.report()
    assert [line["line"] for line in report] == [1, 2, 3, 4, 5, 6]
    assert all(line["state"] == "succeeded" and line["urls"] for line in report)
    table = list(csv.DictReader(io.StringIO(desk.run("report", desk.name))))
    assert [row["job_id"] for row in table] == [line["job_id"] for line in report]
    desk.each_row_once()


def test_without_a_terminal_a_watched_batch_is_told_of_in_lines(desk: Desk) -> None:
    desk.write(2)
    desk.submit()
    _, told = desk.start("watch", desk.name, "--timeout", "60").communicate(timeout=100)
    assert told.splitlines()[-1] == (f"batch {desk.name}: over, 4 of 4 jobs ended, 4 succeeded")


def test_what_is_run_again_submits_what_is_missing(desk: Desk) -> None:
    desk.write(4)
    desk.submit()
    assert desk.submit()["submitted"] == 0
    desk.rows.reverse()
    desk.write(2, first=4)
    assert desk.submit() == {"batch_id": desk.name, "submitted": 2, "present": 4}
    assert desk.ends()["ended"]["succeeded"] == 12
    desk.each_row_once()


@pytest.mark.parametrize("kill", [signal.SIGKILL, signal.SIGINT])
def test_a_submission_that_dies_in_the_middle_is_completed_by_the_next(
    desk: Desk, kill: signal.Signals
) -> None:
    desk.name += kill.name
    desk.path = desk.path.with_stem(desk.name)
    desk.write(400, then="")
    process = desk.start("submit", str(desk.path))
    with Redis.from_url(desk.system.redis_url) as redis:
        wait_until(lambda: int(redis.hget(keys.BATCH + desk.name, "jobs") or 0) > 120)
    process.send_signal(kill)
    _, said = process.communicate(timeout=30)
    assert process.returncode == (130 if kill is signal.SIGINT else -9)
    assert "Traceback" not in said
    assert desk.status()["phase"] == "submitting"

    again = desk.submit()

    assert again["present"] > 100
    assert again["submitted"] + again["present"] == 400
    assert desk.ends()["jobs"] == 400
    assert len(desk.report()) == 400
    desk.each_row_once()


def test_two_submissions_at_once_submit_each_row_once(desk: Desk) -> None:
    desk.write(150, then="")
    both = [desk.start("submit", str(desk.path), "--json") for _ in range(2)]
    for process in both:
        process.communicate(timeout=100)
    assert [process.returncode for process in both] == [0, 0]
    assert desk.ends()["jobs"] == 150
    desk.each_row_once()


def expected(mistaken: Path) -> list[tuple[int, str | None, str]]:
    """The mistakes of a sample: line, column and reason of each."""
    found: list[tuple[int, str | None, str]] = json.loads(Path(f"{mistaken}.json").read_text())
    return found


@pytest.mark.parametrize("mistaken", MISTAKES, ids=lambda path: path.suffix)
def test_a_manifest_of_mistakes_is_listed_whole_and_nothing_is_submitted(
    desk: Desk, mistaken: Path
) -> None:
    before = len(desk.system.simulator.accepted(""))
    listed = desk.run("submit", str(mistaken), "--id", desk.name, code=2).splitlines()[1:]
    wanted = expected(mistaken)
    # What is right in the sample is priced after the mistakes.
    for line, (number, column, reason) in zip(listed[: len(wanted)], wanted, strict=True):
        assert line.split()[0] == str(number)
        assert (column or "") in line
        assert reason in line
    with Redis.from_url(desk.system.redis_url) as redis:
        assert not redis.exists(keys.BATCH + desk.name, keys.ROWS + desk.name)
    assert len(desk.system.simulator.accepted("")) == before


def test_rows_that_are_right_are_submitted_without_the_wrong_ones_by_choice(desk: Desk) -> None:
    desk.write(2, then="")
    desk.path.write_text(desk.path.read_text() + '\n{"operation": "sonic.remaster"}')
    desk.run("submit", str(desk.path), code=2)
    desk.run("submit", str(desk.path), "--dry-run", "--skip-bad", code=2)
    assert desk.paid() == Counter()
    assert desk.submit("--skip-bad")["submitted"] == 2
    desk.ends()
    desk.each_row_once()


def test_standard_input_needs_a_name(desk: Desk) -> None:
    desk.write(2, then="")
    arguments = ("batch", "submit", "-", "--format", "jsonl")
    rows = desk.path.read_text()
    for more, code in (((), 2), (("--id", desk.name), 0)):
        done = desk.system.fermata(*arguments, *more, given=rows)
        assert done.returncode == code, done.stderr
    desk.ends()
    desk.each_row_once()


def test_a_cancelled_batch_ends_and_its_rows_with_it(desk: Desk) -> None:
    desk.write(30, then="sonic.wav")
    desk.system.simulator.rule(desk.rows[0]["source"][:8], webhook="lost", latency_seconds=600)
    desk.submit()
    wait_until(lambda: len(desk.paid()) == 30, seconds=30)

    cancelled = json.loads(desk.run("cancel", desk.name, "--json"))

    ended = desk.ends()
    assert cancelled["cancelled"] == ended["ended"]["cancelled"] == 30
    assert ended["errors"] == {"JobCancelled": 30}
    assert {line["state"] for line in desk.report()} == {"cancelled"}
    assert desk.submit()["submitted"] == 0


def test_a_batch_that_is_cancelled_while_it_is_submitted_ends_whole(desk: Desk) -> None:
    desk.write(400)
    desk.system.simulator.rule(desk.rows[0]["source"][:8], webhook="lost", latency_seconds=600)
    process = desk.start("submit", str(desk.path))
    with Redis.from_url(desk.system.redis_url) as redis:
        wait_until(lambda: int(redis.hget(keys.BATCH + desk.name, "jobs") or 0) > 30)
    process.send_signal(signal.SIGSTOP)

    desk.run("cancel", desk.name)

    begun = desk.status()["jobs"]
    process.send_signal(signal.SIGCONT)
    _, said = process.communicate(timeout=60)
    assert (process.returncode, "was cancelled meanwhile" in " ".join(said.split())) == (1, True)
    ended = desk.ends()
    assert (ended["phase"], ended["ended"]["cancelled"]) == ("cancelled", ended["jobs"])
    assert len(desk.report()) == ended["jobs"] < 400
    # What was at the provider by then is paid for; what was submitted behind it is not.
    assert len(desk.paid()) <= begun


def test_a_batch_that_is_cancelled_while_its_manifest_is_checked_stays_cancelled(
    desk: Desk,
) -> None:
    desk.write(2, then="")
    desk.submit()
    desk.ends()
    text = desk.path.read_text()
    desk.path.unlink()
    os.mkfifo(desk.path)
    process = desk.start("submit", str(desk.path))
    with desk.path.open("w") as checked:  # it is open now: the command reads it
        desk.run("cancel", desk.name)
        checked.write(text)
    _, said = process.communicate(timeout=30)
    assert (process.returncode, "was cancelled meanwhile" in " ".join(said.split())) == (1, True)
    assert desk.status()["phase"] == "cancelled"
    # Whoever asks for it when it is cancelled has it go on.
    desk.path.unlink()
    desk.save()
    assert desk.submit()["present"] == 2
    assert desk.status()["phase"] == "submitted"


def test_a_row_that_failed_is_retried_whole(desk: Desk) -> None:
    desk.write(3)
    desk.system.simulator.rule(desk.rows[1]["source"], times=1, outcome="fail")
    desk.submit()
    ended = desk.ends()
    assert (ended["ended"]["failed"], ended["errors"]) == (1, {"TaskFailed": 1})
    failed = desk.report()[1]
    assert (failed["state"], failed["error_type"]) == ("failed", "TaskFailed")

    assert json.loads(desk.run("retry", desk.name, "--failed", "--json"))["retried"] == 1

    ended = desk.ends()
    assert (ended["jobs"], ended["ended"]["succeeded"], ended["errors"]) == (6, 6, {})
    desk.run("watch", desk.name, "--timeout", "60")
    assert [line["state"] for line in desk.report()] == ["succeeded"] * 3
    assert desk.paid() == Counter({row["source"]: 1 for row in desk.rows}) + Counter(
        [desk.rows[1]["source"]]
    )
    assert json.loads(desk.run("retry", desk.name, "--failed", "--json"))["retried"] == 0


def test_a_batch_is_retried_without_its_manifest(desk: Desk) -> None:
    desk.write(2, then="")
    desk.system.simulator.rule(desk.rows[1]["source"], times=1, outcome="fail")
    desk.submit()
    desk.ends()
    desk.path.unlink()
    assert "1 job run again" in desk.run("retry", desk.name, "--failed")
    assert desk.ends()["errors"] == {}


def test_a_follow_up_that_failed_is_retried_alone(desk: Desk) -> None:
    desk.write(2, then="sonic.concat+sonic.midi, sonic.wav")
    _, (joined, *_), _ = desk.steps()
    desk.system.simulator.rule(joined, outcome="fail")
    desk.submit()
    ended = desk.ends()
    assert (ended["jobs"], ended["errors"], ended["not_run"]) == (7, {"TaskFailed": 1}, 1)
    assert desk.report()[0]["job_id"] == joined

    assert json.loads(desk.run("retry", desk.name, "--failed", "--json"))["retried"] == 1

    ended = desk.ends()
    assert (ended["ended"]["succeeded"], ended["not_run"]) == (8, 0)
    desk.each_row_once()
    report = desk.report()
    assert len(report[0]["urls"]) == len(report[1]["urls"])


def test_a_job_that_may_have_been_paid_is_retried_only_if_that_is_accepted(desk: Desk) -> None:
    desk.write(2, then="")
    source = desk.rows[0]["source"]
    desk.system.simulator.rule(source, times=1, webhook="lost", latency_seconds=600)
    desk.submit()
    wait_until(lambda: len(desk.paid()) == 2, seconds=30)
    wait_until(lambda: desk.status()["ended"]["succeeded"] == 1, seconds=60)
    desk.run("cancel", desk.name)
    assert desk.ends()["errors"] == {"JobCancelled": 1}

    done = json.loads(desk.run("retry", desk.name, "--failed", "--json", code=1))
    assert (done["retried"], [*done["refused"].values()]) == (0, [1])
    assert "may have charged" in next(iter(done["refused"]))
    assert desk.paid()[source] == 1
    desk.run("retry", desk.name, "--failed", "--even-if-paid")
    assert desk.ends()["ended"]["succeeded"] == 2
    assert desk.paid()[source] == 2


def test_an_unknown_batch_says_where_to_look(desk: Desk) -> None:
    for command in ("status", "watch", "cancel", "report", "retry --failed"):
        process = desk.start(*command.split(), "no-such-batch")
        _, said = process.communicate(timeout=30)
        assert process.returncode == 2
        assert "fermata batch list" in said


def test_without_redis_it_says_so_and_nothing_is_lost(desk: Desk) -> None:
    desk.write(2, then="")
    away = {"FERMATA_REDIS_URL": "redis://127.0.0.1:1/0", "FERMATA_BROKER_URL": ""}
    done = desk.system.fermata("batch", "submit", str(desk.path), **away)
    assert (done.returncode, "cannot be reached" in done.stderr) == (4, True)
    assert desk.submit()["submitted"] == 2
    desk.ends()
    desk.each_row_once()
