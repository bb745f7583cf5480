"""Fixtures: the real system, once for each way of handing over."""

from collections.abc import Iterator

import pytest

from tests.system import System

pytest_plugins = ["tests.side_by_side"]


@pytest.fixture(scope="session", params=["one script", "any broker", "RabbitMQ"])
def system(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[System]:
    """Valkey, simulator, receiver and a prefork worker; the hand-over is the parameter."""
    folder = tmp_path_factory.mktemp("system")
    one_database, rabbitmq = request.param == "one script", request.param == "RabbitMQ"
    with System(folder, one_database=one_database, rabbitmq=rabbitmq) as system:
        system.worker(app="tests.canvas_app")
        yield system
