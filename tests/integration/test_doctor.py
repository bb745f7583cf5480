"""The start-up checks against real servers that are configured badly."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from tests.integration.flow import deliver
from tests.ports import take_port
from tests.system import SIGNING_KEY, System, stop, wait_until
from worker.core import keys
from worker.core.contract import PROBE_ID, QUEUE, SLOW_QUEUE
from worker.core.health.checks import Level
from worker.store.embedded import server_binary

OTHER_KEY = "Zr8wQm2Nf5xLc7Vb0TkYs3HdGj6Pa9Ue"
NOWHERE = "redis://127.0.0.1:1/0"
REFUSED = 3


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """A system of its own, whose server the tests may spoil."""
    with System(tmp_path_factory.mktemp("doctor")) as system:
        system.worker()
        yield system


@pytest.fixture
def redis(system: System) -> Iterator["Redis"]:
    with Redis.from_url(system.redis_url, decode_responses=True) as redis:
        before: dict[str, str] = redis.config_get("*")
        yield redis
        for name in ("maxmemory-policy", "appendonly", "save"):
            redis.config_set(name, before[name])


def examine(system: System, *options: str, **settings: str) -> "subprocess.CompletedProcess[str]":
    return system.fermata("doctor", *options, **settings)


def findings(system: System, **settings: str) -> dict[str, dict[str, Any]]:
    """What the doctor finds, by the name of the check."""
    ran = examine(system, "--json", **settings)
    assert ran.stdout, ran.stderr
    return {each["name"]: each for each in json.loads(ran.stdout)}


def levels(system: System, **settings: str) -> dict[str, str]:
    return {name: each["level"] for name, each in findings(system, **settings).items()}


def refused(
    system: System, name: str, *, app: str = "worker.app", pool: str = "prefork", **settings: str
) -> str:
    """Start a worker that must refuse to; returns what it said."""
    worker = system.run(
        name, "-m", "celery", "-A", app, "worker", "-n", f"{name}@test", "-c", "1", "-P", pool,
        "-Q", f"{name}.queue", "--without-gossip", "--without-mingle", **settings,
    )  # fmt: skip
    assert worker.wait(60) == REFUSED, system.log(name)
    said = system.log(name)
    assert "Traceback" not in said
    assert " ready." not in said
    return said


# -- what fermata doctor says -----------------------------------------------------------------


def test_a_sound_system_has_no_danger_and_exit_code_0(system: System) -> None:
    ran = examine(system)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "danger" not in ran.stdout
    assert "credits are left" in ran.stdout
    # In a pipe, each finding is a line, and what to do about it another.
    found = ran.stdout.partition("\n\n")[0].splitlines()
    assert {line.split()[0] for line in found} <= {*Level, "→"}


def test_without_a_worker_for_slow_jobs_it_warns_and_with_one_it_does_not(system: System) -> None:
    alone = findings(system)["workers"]
    assert alone["level"] == "warning"
    assert "sonic.upload" in alone["said"]
    slow = system.worker("slow", pool="threads", queues=SLOW_QUEUE)
    assert levels(system)["workers"] == "ok"
    stop(slow)


def test_without_any_worker_it_is_a_danger_and_exit_code_1(tmp_path: Path) -> None:
    with System(tmp_path) as idle:
        ran = examine(idle)
        assert ran.returncode == 1
        assert QUEUE in ran.stdout


def test_a_job_that_nobody_attends_to_is_noticed(tmp_path: Path) -> None:
    with System(tmp_path) as idle, Redis.from_url(idle.redis_url) as redis:
        redis.zadd(keys.DUE, {"some-job": 1})
        assert levels(idle)["sweep"] == "warning"


def test_a_server_that_may_evict_or_forget_is_a_danger(system: System, redis: "Redis") -> None:
    redis.config_set("maxmemory-policy", "volatile-lru")
    redis.config_set("appendonly", "no")
    spoilt = levels(system)
    assert (spoilt["eviction"], spoilt["persistence"]) == ("danger", "danger")
    redis.config_set("save", "3600 1")
    allowed = levels(system, FERMATA_ALLOW_RISKS="eviction")
    assert (allowed["eviction"], allowed["persistence"]) == ("warning", "warning")


def test_where_the_server_forbids_config_the_rest_is_still_checked(
    system: System, redis: "Redis"
) -> None:
    redis.acl_setuser("rented", enabled=True, passwords=["+pw"], keys=["*"], channels=["*"],
                      commands=["+@all", "-config"])  # fmt: skip
    rented = "redis://rented:pw@" + system.redis_url.partition("@")[2]
    found = findings(system, FERMATA_REDIS_URL=rented, FERMATA_BROKER_URL=rented)
    assert found["eviction"]["level"] == "ok"
    assert "cannot be checked" in found["persistence"]["said"]
    redis.acl_setuser("rented", enabled=True, commands=["-info", "-time"])
    found = findings(system, FERMATA_REDIS_URL=rented, FERMATA_BROKER_URL=rented)
    assert found["server"]["level"] == found["clock"]["level"] == "note"
    assert "eviction" not in found


def test_a_file_that_keeps_processes_from_starting_here_is_a_danger(system: System) -> None:
    theirs = system.folder / "tasks.py"
    theirs.touch()
    found = findings(system)["names"]
    theirs.unlink()
    assert found["level"] == "danger"
    assert str(theirs) in found["said"]
    assert "names" not in levels(system)


def test_a_follow_up_that_nobody_takes_is_noticed(system: System, redis: "Redis") -> None:
    assert levels(system)["follow-ups"] == "ok"
    system.app.send_task("backend.misspelt", queue="celery")
    found = findings(system)["follow-ups"]
    redis.delete("celery")
    assert found["level"] == "warning"
    assert "celery (1)" in found["said"]


def test_a_wrong_api_key_is_a_danger(system: System) -> None:
    found = findings(system, FERMATA_API_KEY="sk_wrong")["API key"]
    assert found["level"] == "danger"
    assert "sk_wrong" not in found["said"]


def test_a_provider_that_is_away_is_a_danger(system: System) -> None:
    away = f"http://127.0.0.1:{take_port()}"
    assert levels(system, FERMATA_PROVIDER_URL=away)["API key"] == "danger"


def test_a_receiver_that_is_down_is_a_danger(system: System) -> None:
    away = f"http://127.0.0.1:{take_port()}"
    assert levels(system, FERMATA_PUBLIC_URL=away)["receiver"] == "danger"


def test_a_stranger_at_the_public_url_is_no_receiver(system: System) -> None:
    found = findings(system, FERMATA_PUBLIC_URL=system.simulator.url)["receiver"]
    assert found["level"] == "danger"
    assert "not by our receiver" in found["said"]


def test_a_receiver_with_another_key_is_a_danger_and_with_ours_among_its_own_is_not(
    system: System,
) -> None:
    assert levels(system, FERMATA_SIGNING_KEYS=OTHER_KEY)["receiver"] == "danger"
    ours = system.environment["FERMATA_SIGNING_KEYS"]
    rotating = levels(system, FERMATA_SIGNING_KEYS=f"{ours},{OTHER_KEY}")
    assert (rotating["receiver"], rotating["signing keys"]) == ("ok", "note")


def test_the_doctors_delivery_changes_nothing(system: System, redis: "Redis") -> None:
    before = sorted(redis.scan_iter())
    assert deliver(system, PROBE_ID, {}).json() == {"status": "without effect"}
    assert deliver(system, PROBE_ID, {}, secret="wrong").status_code == 401
    assert sorted(redis.scan_iter()) == before


def test_what_is_not_set_is_found_and_the_rest_is_checked(system: System) -> None:
    unset = dict.fromkeys(("FERMATA_API_KEY", "FERMATA_PUBLIC_URL", "FERMATA_SIGNING_KEYS"), "")
    found = levels(system, **unset)
    assert {found[name] for name in ("API key", "public URL", "signing keys")} == {"danger"}
    assert found["eviction"] == "ok"
    assert "receiver" not in found


def test_without_a_key_of_its_own_it_still_knows_our_receiver(system: System) -> None:
    assert levels(system, FERMATA_SIGNING_KEYS="")["receiver"] == "ok"


def test_a_broker_that_is_no_redis_is_noted_and_when_away_named(system: System) -> None:
    ran = examine(system, "--json", FERMATA_BROKER_URL="amqp://127.0.0.1:1//")
    assert ran.returncode == 4
    about = {each["name"]: each["where"] for each in json.loads(ran.stdout) if each["where"]}
    assert about["server"] == about["connection"] == "broker"
    assert about["eviction"] == "state, results"
    assert "visibility" not in about


def test_each_server_is_judged_by_what_it_holds(system: System, tmp_path: Path) -> None:
    socket = tmp_path / "s"
    command = [server_binary(), "--port", "0", "--unixsocket", str(socket), "--save", ""]
    server = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL)
    try:
        wait_until(socket.exists, what="the server is up")
        broker = f"redis+socket://{socket}?virtual_host=0"
        ran = examine(system, "--json", FERMATA_BROKER_URL=broker)
        judged = [each for each in json.loads(ran.stdout) if each["name"] == "persistence"]
        assert [(each["where"], each["level"]) for each in judged] == [
            ("state, results", "note"),
            ("broker", "danger"),
        ]
        assert "state, results" in examine(system, FERMATA_BROKER_URL=broker).stdout
    finally:
        stop(server)


def test_a_dead_redis_is_exit_code_4_and_the_rest_is_checked(system: System) -> None:
    ran = examine(system, "--json", FERMATA_REDIS_URL=NOWHERE, FERMATA_BROKER_URL=NOWHERE)
    assert ran.returncode == 4
    found = {each["name"]: each["level"] for each in json.loads(ran.stdout)}
    assert (found["connection"], found["API key"]) == ("danger", "ok")


def test_wrong_settings_are_exit_code_3(system: System) -> None:
    ran = examine(system, FERMATA_ALLOW_RISKS="evicton")
    assert ran.returncode == REFUSED
    assert "FERMATA_ALLOW_RISKS" in ran.stderr


def test_secrets_in_a_file_that_everyone_can_read_are_noticed(system: System) -> None:
    path = system.folder / ".env"
    path.write_text("# FERMATA_API_KEY=\nFERMATA_API_KEY=\n")
    path.chmod(0o644)
    assert "secrets" not in levels(system)
    path.write_text("FERMATA_API_KEY=sk_secret\n")
    assert levels(system)["secrets"] == "warning"
    path.chmod(0o600)
    assert levels(system)["secrets"] == "ok"
    path.unlink()


# -- what a worker refuses to start with ------------------------------------------------------


@pytest.mark.parametrize("pool", ["prefork", "threads", "solo"])
def test_a_worker_refuses_a_server_that_may_evict(
    system: System, redis: "Redis", pool: str
) -> None:
    redis.config_set("maxmemory-policy", "allkeys-lru")
    said = refused(system, f"evicted-{pool}", pool=pool)
    assert "allkeys-lru" in said
    assert "FERMATA_ALLOW_RISKS=eviction" in said
    redis.config_set("maxmemory-policy", "noeviction")
    stop(system.worker(f"kept-{pool}", pool=pool, concurrency=2))


def test_a_worker_names_every_risk_and_starts_where_all_are_allowed(
    system: System, redis: "Redis"
) -> None:
    redis.config_set("maxmemory-policy", "allkeys-lru")
    redis.config_set("appendonly", "no")
    said = refused(system, "partly", FERMATA_ALLOW_RISKS="persistence")
    assert "FERMATA_ALLOW_RISKS=eviction,persistence" in said
    assert "loses every job" in said
    stop(system.worker("bold", FERMATA_ALLOW_RISKS="eviction,persistence"))
    assert system.log("bold").count("data_at_risk") == 2


@pytest.mark.parametrize(
    ("change", "risk"),
    [
        ("result_expires=60", "expiry"),
        ("result_chord_expires=60", "expiry"),
        ("broker_transport_options={'visibility_timeout': 30}", "visibility"),
    ],
)
def test_a_worker_refuses_a_configuration_of_ones_own_that_loses_results(
    system: System, change: str, risk: str
) -> None:
    name = f"own_{risk}_{change.partition('=')[0]}"
    module = system.folder / f"{name}.py"
    module.write_text(f"from worker.app import app\n\napp.conf.update({change})\n")
    said = refused(system, name, app=name, PYTHONDONTWRITEBYTECODE="1")
    assert f"FERMATA_ALLOW_RISKS={risk}" in said


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"FERMATA_API_KEY": ""}, "FERMATA_API_KEY: Required"),
        ({"FERMATA_REDIS_URL": "localhost"}, "FERMATA_REDIS_URL: Must be a URL"),
    ],
)
def test_a_worker_with_a_wrong_setting_ends_with_one_clear_line(
    system: System, wrong: dict[str, str], said: str
) -> None:
    told = refused(system, f"wrong-{len(said)}", **wrong)
    assert said in told
    assert "Traceback" not in told


def test_a_server_that_comes_late_is_checked_when_it_has_come(
    system: System, tmp_path: Path
) -> None:
    port = take_port()
    url = f"redis://127.0.0.1:{port}/0"
    urls = dict.fromkeys(("FERMATA_REDIS_URL", "FERMATA_BROKER_URL"), url)
    worker = system.run("early", "-m", "celery", "-A", "worker.app", "worker", "-P", "solo", **urls)
    wait_until(lambda: "Cannot connect" in system.log("early"), what="it waits for Redis")
    assert worker.poll() is None
    command = [server_binary(), "--port", str(port), "--maxmemory-policy", "allkeys-lru"]
    server = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, env=os.environ)
    try:
        assert worker.wait(60) == REFUSED
        assert "allkeys-lru" in system.log("early")
    finally:
        stop(server)


def test_a_state_that_is_away_does_not_stop_a_worker(system: System, redis: "Redis") -> None:
    redis.config_set("appendonly", "no")
    stop(system.worker("hopeful", FERMATA_REDIS_URL=NOWHERE, FERMATA_ALLOW_RISKS="persistence"))
    said = system.log("hopeful")
    assert "It cannot be reached" in said
    assert "loses every job" in said


# -- the desk ---------------------------------------------------------------------------------


def test_the_desk_is_found_and_who_may_enter_it_is_said_without_their_secrets(
    system: System,
) -> None:
    tokens = f"ada:operate:{SIGNING_KEY},shop:read@acme:{SIGNING_KEY[::-1]}"
    desk = system.desk(FERMATA_DESK_TOKENS=tokens)
    ran = examine(system, "--json", FERMATA_DESK_URL=desk.url, FERMATA_DESK_TOKENS=tokens)
    found = {each["name"]: each for each in json.loads(ran.stdout)}
    assert found["desk"]["level"] == "ok"
    assert found["desk's visitors"]["said"] == "ada (operate), shop (read for acme)."
    assert SIGNING_KEY not in ran.stdout
    stop(desk.process)
    away = findings(system, FERMATA_DESK_URL=desk.url)
    assert (away["desk"]["level"], away["desk's visitors"]["level"]) == ("note", "note")
    assert "`fermata desk` starts one here" in away["desk"]["said"]
