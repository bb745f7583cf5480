"""A user of Redis that may not do everything (ACL): what it lacks is named, and is all it lacks."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from redis import Redis

from tests.acceptance.test_cli import fermata
from tests.integration.conftest import Flows
from tests.integration.flow import GET_SECONDS, clip, who
from tests.integration.test_doctor import examine, findings, refused
from tests.ports import take_port
from tests.system import System, stop, wait_until
from worker.core.contract import QUEUE
from worker.doctor import rights
from worker.store import connection
from worker.store.embedded import EmbeddedValkey

USER = "limited"
HELD = ["state", "broker", "results"]


def as_user(url: str, name: str = USER, password: str = "pw") -> str:
    return f"redis://{name}:{password}@{url.partition('@')[2]}"


class Fenced:
    """A Valkey, and the URL of a user who may do what the doctor asks for, and nothing else."""

    def __init__(self, folder: Path) -> None:
        self._valkey = EmbeddedValkey(folder)
        self.stop = self._valkey.stop
        self.given: list[str] = []

    def start(self) -> str:
        url = self._valkey.start()
        with Redis.from_url(url) as redis:
            # The test's own plain steps write keys of theirs.
            redis.execute_command("ACL", "SETUSER", USER, "reset", "on", ">pw", "~test:*")
            client = connection.connect(as_user(url))
            while missing := rights.missing(client, HELD):
                assert not set(missing) & set(self.given)
                redis.execute_command("ACL", "SETUSER", USER, *missing)
                self.given += missing
        return as_user(url)


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """A system of its own, whose server the tests may spoil."""
    with System(tmp_path_factory.mktemp("rights")) as system:
        system.worker()
        yield system


@pytest.fixture
def user(system: System) -> Iterator[Any]:
    """Make a user who lacks something; returns the settings with it."""
    with Redis.from_url(system.redis_url) as redis:

        def make(*lacks: str) -> dict[str, str]:
            everything: tuple[str, ...] = () if "~" in str(lacks) else ("~*",)
            everything += () if "&" in str(lacks) else ("&*",)
            redis.execute_command(
                "ACL", "SETUSER", USER, "reset", "on", ">pw", "+@all", *everything, *lacks
            )
            names = ("FERMATA_REDIS_URL", "FERMATA_BROKER_URL", "FERMATA_RESULT_BACKEND")
            return dict.fromkeys(names, as_user(system.redis_url))

        yield make
        redis.acl_deluser(USER)


@pytest.fixture(scope="module")
def fenced(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flows]:
    """The flows of a system that may do no more than the doctor asks for."""
    folder = tmp_path_factory.mktemp("fenced")
    server = Fenced(folder)
    with System(folder, redis=server, FERMATA_ALLOW_RISKS="clock") as system:
        system.worker(app="tests.canvas_app")
        flows = Flows(system)
        yield flows
        flows.close()
    assert {"+hset", "+blmove", "~fermata:*", "~unacked*", "&*"} <= set(server.given)


def test_the_rights_that_are_asked_for_are_enough_for_a_whole_flow(fenced: Flows) -> None:
    flow = fenced.open()
    job = flow.job(clip())
    result = (job | flow.group(flow.note(), flow.note())).apply_async()
    assert [who(each) for each in result.get(timeout=GET_SECONDS)] == [job.id, job.id]
    flow.ends()
    for command in (
        ["jobs"], ["jobs", "--state", "succeeded"], ["job", job.id], ["wait", job.id], ["status"],
        ["quarantine", "list"], ["batch", "list"],
    ):  # fmt: skip
        ran = fermata(flow.system, *command)
        assert ran.returncode == 0, ran.stderr
    said = flow.system.log("worker") + flow.system.log("receiver")
    assert "permission" not in said.lower()


@pytest.mark.parametrize(
    ("lacks", "named"),
    [
        (("-hset", "-blmove"), ["+hset", "+blmove"]),
        (("-multi",), ["+multi"]),
        (("~fermata*", "~celery-task*"), ["~unacked*", "~_kombu.*", "~*.celery.pidbox*"]),
        (("&celery*",), ["&*"]),
        (("-@all",), ["+multi"]),
    ],
    ids=" ".join,
)
def test_the_doctor_names_each_right_that_is_missing(
    system: System, user: Any, lacks: tuple[str, ...], named: list[str]
) -> None:
    ran = examine(system, "--json", **user(*lacks))
    (found,) = (each for each in json.loads(ran.stdout) if each["name"] == "rights")
    assert found["level"] == "danger"
    assert f"ACL SETUSER {USER} " in found["do"]
    assert set(named) <= set(found["do"].split())
    assert "It cannot be reached" not in ran.stdout


def test_the_doctor_tells_of_a_queue_of_follow_ups_that_is_closed_to_fermata(
    system: System, user: Any
) -> None:
    settings = user("~fermata*", "~unacked*", "~_kombu.*", "~*.celery.pidbox*", "~celery-*", "&*")
    ran = examine(system, "--json", **settings)
    found = [each for each in json.loads(ran.stdout) if each["name"] == "follow-ups"]
    (closed,) = (each for each in found if each["level"] == "warning")
    assert "may not send to celery" in closed["said"]
    assert f"ACL SETUSER {USER} ~celery*" in closed["do"]


def test_a_user_who_may_do_all_has_no_finding_but_ok(system: System) -> None:
    assert findings(system)["rights"]["level"] == "ok"


def test_nothing_is_changed_by_asking(system: System) -> None:
    with Redis.from_url(system.redis_url, decode_responses=True) as redis:
        before = {key: redis.type(key) for key in redis.scan_iter() if "pidbox" not in key}
        assert rights.missing(redis, HELD) == []
        after = {key: redis.type(key) for key in redis.scan_iter() if "pidbox" not in key}
    assert before == after


def test_a_connection_that_is_opened_anew_meanwhile_runs_nothing(tmp_path: Path) -> None:
    server = EmbeddedValkey(tmp_path)
    url = server.start()
    try:
        # Pings before each command that may wait for it: between MULTI and DISCARD, in vain.
        with Redis.from_url(url, health_check_interval=1e-9, socket_timeout=3) as redis:
            redis.rpush(QUEUE, "a message")
            assert rights.missing(redis, HELD) == []
            assert (redis.keys(), redis.llen(QUEUE)) == ([QUEUE.encode()], 1)
    finally:
        server.stop()


def test_a_worker_refuses_a_user_who_lacks_a_right_and_names_it(system: System, user: Any) -> None:
    said = refused(system, "fenced", **user("-hset"))
    assert "lacks these rights: +hset" in said
    assert f"ACL SETUSER {USER} +hset" in said
    assert "FERMATA_ALLOW_RISKS=rights" in said


def status(url: str) -> int | None:
    try:
        return requests.get(url, timeout=5).status_code
    except requests.RequestException:
        return None  # it is still starting


def test_a_receiver_says_in_its_log_what_it_may_not(system: System, user: Any) -> None:
    address = f"127.0.0.1:{take_port()}"
    receiver = system.run(
        "fenced-receiver", "-m", "gunicorn", "--no-control-socket", "--bind", address,
        "--worker-class", "webhook_receiver.server.Worker", system.receiver_app, **user("-set"),
    )  # fmt: skip
    wait_until(lambda: status(f"http://{address}/healthz") == 503, what="it may not write")
    assert "no permissions to run the 'set' command" in system.log("fenced-receiver")
    stop(receiver)


def test_the_command_line_repeats_what_redis_refuses(system: System, user: Any) -> None:
    ran = fermata(system, "jobs", **user("-zrevrange"))
    assert ran.returncode == 4
    assert "no permissions to run the" in ran.stderr


@pytest.mark.parametrize("password", ["wrong", ""])
def test_a_wrong_password_is_named_as_one(system: System, password: str) -> None:
    host = system.redis_url.partition("@")[2]
    url = f"redis://:{password}@{host}" if password else f"redis://{host}"
    ran = examine(system, "--json", FERMATA_REDIS_URL=url, FERMATA_BROKER_URL=url)
    assert ran.returncode == 4
    found = [each for each in json.loads(ran.stdout) if each["name"] == "connection"]
    assert all("It lets nobody in" in each["said"] for each in found)
    assert all("user and the password" in each["do"] for each in found)
