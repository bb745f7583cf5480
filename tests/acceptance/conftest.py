"""Fixtures of the desk's browser tests; each module has a ``system`` of its own."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from tests.acceptance.browser import open_browser
from tests.system import Desk, System


@pytest.fixture(scope="module")
def desk(system: System) -> Desk:
    return system.desk()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with open_browser() as browser:
        yield browser
