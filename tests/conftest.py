"""Fixtures: the real system, once for each way of handing over."""

from collections.abc import Iterator

import pytest

from tests.system import System


@pytest.fixture(scope="session", params=["one script", "any broker"])
def system(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[System]:
    """Valkey, simulator, receiver and a prefork worker; the hand-over is the parameter."""
    folder = tmp_path_factory.mktemp("system")
    with System(folder, one_database=request.param == "one script") as system:
        system.worker(app="tests.canvas_app")
        yield system
