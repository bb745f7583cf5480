"""Hostile requests, on a provider that speaks otherwise (see :mod:`.test_toy`)."""
# ruff: noqa: F401, F811  (pytest finds the fixture that is imported)

import pytest

from tests.integration import test_hostile, tongue
from tests.integration.flow import Flow
from tests.integration.test_hostile import besieged
from tests.integration.test_toy import TOY
from tests.toy.system import ToySystem


@pytest.fixture(autouse=True)
def besieging_toy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a smaller storm blow at a system of the toy provider, in its words."""
    monkeypatch.setattr(tongue, "current", TOY)
    monkeypatch.setattr(test_hostile, "System", ToySystem)
    monkeypatch.setattr(test_hostile, "REQUESTS", 1_000)


def test_hostile_requests_write_nothing_and_harm_no_delivery(besieged: Flow) -> None:
    test_hostile.test_ten_thousand_hostile_requests_write_nothing_and_harm_no_delivery(besieged)
