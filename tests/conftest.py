"""Fixtures: the real system, once for each broker."""

import os
from collections.abc import Iterator

import pytest

from tests.servers import SharedNode, VirtualHost
from tests.system import System
from tests.toy.system import ToySystem

pytest_plugins = ["tests.side_by_side"]


@pytest.fixture(scope="session", autouse=True)
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The RabbitMQ node of this run. If several processes run the tests, their folders have one
    parent, where they find each other."""
    folder = tmp_path_factory.getbasetemp()
    VirtualHost.node = SharedNode(folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder)
    yield
    VirtualHost.node.leave()


@pytest.fixture(scope="session", params=["Redis", "RabbitMQ"])
def system(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[System]:
    """Valkey, simulator, receiver and a worker; the parameter is the broker, or the provider."""
    folder = tmp_path_factory.mktemp("system")
    kind = ToySystem if request.param == "Toy" else System
    with kind(folder, rabbitmq=request.param == "RabbitMQ") as system:
        system.worker(app="tests.canvas_app")
        yield system
