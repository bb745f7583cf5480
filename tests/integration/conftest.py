"""Fixtures: a flow over the running system, and a last look at how often every step ran."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.cdn import CDN
from tests.integration.flow import Flow
from tests.system import System
from worker.store import connection
from worker.store.embedded import EmbeddedValkey

IMPATIENT: dict[str, Any] = {
    "FERMATA_DEADLINE_SECONDS": "2",
    "FERMATA_UNCONFIRMED_GRACE_SECONDS": "0.7",
    "FERMATA_SUBMIT_TIMEOUT_SECONDS": "1",
}


@pytest.fixture(scope="session", params=[False, True], ids=["Redis", "RabbitMQ"])
def impatient(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[System]:
    """A system whose deadline, grace period and HTTP timeout a test can outwait."""
    folder = tmp_path_factory.mktemp("impatient")
    with System(folder, rabbitmq=request.param, **IMPATIENT) as system:
        system.worker(app="tests.canvas_app")
        yield system


class Flows:
    """The flows of one system."""

    def __init__(self, system: System) -> None:
        self._system = system
        self._redis = connection.connect(system.redis_url)
        self._flows: list[Flow] = []

    def open(self) -> Flow:
        self._flows.append(Flow(self._system, self._redis))
        return self._flows[-1]

    def close(self) -> None:
        """Check once more at the very end: a duplicate may come late."""
        try:
            for flow in filter(lambda flow: flow.ended, self._flows):
                assert flow.runs() == flow.expected_runs
        finally:
            self._redis.close()
            # A result unsubscribes when it is garbage-collected, and the server is gone by then.
            backend: Any = self._system.app.backend
            backend.result_consumer.cancel_for = lambda _: None


@pytest.fixture(scope="session")
def flows(system: System) -> Iterator[Flows]:
    flows = Flows(system)
    yield flows
    flows.close()


@pytest.fixture
def flow(flows: Flows) -> Flow:
    return flows.open()


@pytest.fixture(scope="session")
def impatient_flows(impatient: System) -> Iterator[Flows]:
    flows = Flows(impatient)
    yield flows
    flows.close()


@pytest.fixture
def impatient_flow(impatient_flows: Flows) -> Flow:
    return impatient_flows.open()


@pytest.fixture(scope="session")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedValkey]:
    """A server for tests that need nothing else of the system; it is emptied before each."""
    server = EmbeddedValkey(tmp_path_factory.mktemp("valkey"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def redis(valkey: Any) -> Iterator[Any]:
    client = connection.connect(valkey.url)
    client.flushdb()
    yield client
    client.close()


@pytest.fixture
def cdn() -> Iterator[CDN]:
    cdn = CDN()
    yield cdn
    cdn.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "the archive"
