"""What a worker does beside its tasks."""

import time
from types import SimpleNamespace
from typing import Any

import pytest

from worker.app.background import SweepStep
from worker.core.health.checks import Risk

HOUR = 3600


@pytest.mark.parametrize(
    ("ahead", "allowed", "sweeps"),
    [(0, (), True), (HOUR, (), False), (-HOUR, (), False), (HOUR, (Risk.CLOCK,), True)],
)
def test_a_worker_whose_clock_was_set_wrong_does_not_sweep(
    ahead: float, allowed: Any, sweeps: bool
) -> None:
    swept: list[str] = []
    step: Any = SweepStep.__new__(SweepStep)
    step._stopping = SimpleNamespace(is_set=lambda: False)
    step._parts = SimpleNamespace(
        agenda=SimpleNamespace(clock=lambda: time.time() + ahead),
        settings=SimpleNamespace(allowed_risks=frozenset(allowed), sweep_every_seconds=2),
        sweep=SimpleNamespace(run_once=lambda: 0, forget=lambda: swept.append("forget")),
        treasury=SimpleNamespace(refresh=lambda: None),
    )
    assert step._work() == 2
    assert bool(swept) is sweeps
