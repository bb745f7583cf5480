"""The gate as one sentence, on the page and in the terminal."""

import pytest

from worker.core.job.lanes import Limits
from worker.core.overview import GateView, gate_sentence

LIMITS = Limits(submits_per_second=2, in_flight=50, credit_floor=500)


@pytest.mark.parametrize(
    ("gate", "limits", "sentence"),
    [
        (
            GateView(in_flight=37, credits=1840),
            LIMITS,
            "open: 37 of 50 at the provider, 2 a second, 1,840 credits, floor 500",
        ),
        (GateView(), Limits(), "open: 0 at the provider"),
        (
            GateView(in_flight=2, waiting={("batch", "acme"): 900, ("interactive", "x"): 304}),
            Limits(credit_floor=0.5),
            "open: 2 at the provider, balance not known yet, floor 0.5, 1,204 waiting",
        ),
        (GateView(credits=12.345678), Limits(), "open: 0 at the provider, 12.346 credits"),
        (
            GateView(closed_for="OutOfCredits", closed_at=1_763_800_000, probe_at=1_763_800_030),
            LIMITS,
            "closed: OutOfCredits; since 2025-11-22 08:26:40 UTC; "
            "next probe 2025-11-22 08:27:10 UTC",
        ),
        (
            GateView(paused_by="ada", paused_at=1_763_800_000, closed_for="OutOfCredits"),
            LIMITS,
            "paused by ada; since 2025-11-22 08:26:40 UTC; closed: OutOfCredits",
        ),
        (GateView(paused_by="ada"), LIMITS, "paused by ada"),
        # Written by hand, or between the two commands of a worker that closes it.
        (GateView(closed_for="a reason"), LIMITS, "closed: a reason"),
    ],
)
def test_the_gate_is_one_sentence(gate: GateView, limits: Limits, sentence: str) -> None:
    assert gate_sentence(gate, limits) == sentence
