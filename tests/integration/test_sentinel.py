"""Redis with Sentinel, by URL: records, broker and results move to the replica in a failover."""

from collections.abc import Iterator
from pathlib import Path
from signal import SIGKILL
from typing import Any

import pytest
from redis import Redis

from tests.integration.conftest import Flows
from tests.integration.flow import Flow, completed, outcome, who
from tests.servers import RedisServer, Sentinel, stop_all
from tests.system import System, wait_until
from worker.core.health.checks import Risk
from worker.doctor import facts
from worker.settings import Role, load

GET_SECONDS = 60
PASSWORD = "a p@ss/word"
QUOTED = "a%20p%40ss%2Fword"


class Watched:
    """A master with a replica, and three sentinels that agree by two."""

    def __init__(self, folder: Path) -> None:
        secret = ("--requirepass", PASSWORD, "--masterauth", PASSWORD)
        self.master = RedisServer(folder, *secret)
        self.master.start()
        follow = ("--replicaof", f"127.0.0.1 {self.master.port}")
        self.replica = RedisServer(folder, *secret, *follow)
        self.replica.start()
        self.sentinels = [
            Sentinel(folder, self.master.port, quorum=2, password=PASSWORD) for _ in range(3)
        ]
        for sentinel in self.sentinels:
            sentinel.start()
        hosts = ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in self.sentinels)
        self.url = f"redis+sentinel://:{QUOTED}@{hosts}/fermata/0"

    def start(self) -> str:
        wait_until(self._ready, seconds=30, what="every sentinel knows the replica and the others")
        return self.url

    def _ready(self) -> bool:
        for sentinel in self.sentinels:
            with Redis(port=sentinel.port, decode_responses=True) as client:
                [master] = client.sentinel_masters().values()
            if (master["num-slaves"], master["num-other-sentinels"]) != (1, 2):
                return False
        return True

    def caught_up(self) -> bool:
        with Redis(port=self.master.port, password=PASSWORD) as client:
            told = client.info("replication")
        return bool(told["slave0"]["offset"] == told["master_repl_offset"])

    def stop(self) -> None:
        stop_all([*self.sentinels, self.replica, self.master])


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    watched = Watched(tmp_path_factory.mktemp("sentinel"))
    yield watched
    watched.stop()


@pytest.fixture(scope="module")
def redundant(watched: Watched, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    settings: dict[str, Any] = {"FERMATA_REDIS_TIMEOUT_SECONDS": "2"}
    with System(tmp_path_factory.mktemp("redundant"), redis=watched, **settings) as system:
        system.worker(app="tests.canvas_app")
        yield system


@pytest.fixture
def flow(redundant: System) -> Iterator[Flow]:
    flows = Flows(redundant)
    yield flows.open()
    flows.close()


def test_a_flow_runs_by_the_url_of_the_sentinels_alone(flow: Flow) -> None:
    job = flow.hold()
    result = (job | flow.note()).apply_async()
    flow.waits(job.id)

    assert flow.record(job.id).claims == 0
    assert flow.deliver(job.id, completed()).json() == {"status": "resumed"}

    assert who(result.get(timeout=GET_SECONDS)) == job.id
    flow.ends()
    flow.paid_once()


def test_the_master_is_looked_at_like_any_other_server(
    flow: Flow, watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in flow.system.environment.items():
        monkeypatch.setenv(name, value)
    with Redis(port=watched.master.port, password=PASSWORD) as master:
        refused: list[bool] = []
        for policy in ("allkeys-lru", "noeviction"):
            master.config_set("maxmemory-policy", policy)
            found = facts.risks(load(Role.WORKER), flow.system.app)
            refused.append(any(each.name == Risk.EVICTION and each.refused for each in found))
    assert refused == [True, False]


def test_jobs_parked_before_a_failover_settle_after_it(flow: Flow, watched: Watched) -> None:
    jobs = [flow.hold() for _ in range(10)]
    results = [(job | flow.note()).apply_async() for job in jobs]
    for job in jobs:
        flow.waits(job.id)
    wait_until(watched.caught_up, what="the replica has it all")

    watched.master.signal(SIGKILL)

    for job in jobs:
        wait_until(
            lambda j=job: flow.deliver(j.id, completed()).status_code == 200,
            seconds=60,
            what="the receiver stores deliveries again",
        )
    assert [who(outcome(r)) for r in results] == [job.id for job in jobs]
    flow.ends()
    flow.paid_once()
