"""Who is published when the gate lets them pass, and when the balance is asked for."""

from typing import Any

import pytest

from tests import fakes
from tests.unit import recorded
from tests.unit.lab import Lab
from worker.core.job.lanes import Limits
from worker.core.job.models import JobId
from worker.core.job.states import JobState
from worker.engine.admit import LISTEN_SECONDS, Admissions, Treasury

HELD = [JobId("held-1"), JobId("held-2")]


def admissions(lab: Lab) -> Admissions:
    for job_id in HELD:
        lab.bring(JobState.HELD, job_id)
    submit_legs: Any = lab.submit_legs
    return Admissions(lab.gate, submit_legs, lab.clock)


def test_an_open_gate_lets_all_pass_in_their_order() -> None:
    lab = Lab()
    assert admissions(lab).run_once() == LISTEN_SECONDS
    assert lab.submit_legs.published == [(job_id, 0) for job_id in HELD]
    assert [lab.state(job_id) for job_id in HELD] == [JobState.ADMITTED] * 2


def test_a_closed_gate_is_asked_again_when_it_lets_one_through() -> None:
    lab = Lab()
    lab.memory.breaker, lab.memory.probe_at = "OutOfCredits", lab.now + 20
    admission = admissions(lab)
    assert (admission.run_once(), lab.submit_legs.published) == (20, [])
    lab.now += 20
    assert admission.run_once() == 30
    assert lab.submit_legs.published == [(HELD[0], 0)]


@pytest.mark.parametrize(
    ("floor", "answer", "balance"),
    [(None, "credits", None), (10, "credits", (50, 0)), (10, "error_503_empty", None)],
)
def test_the_balance_is_asked_for_if_there_is_a_floor(
    floor: float | None, answer: str, balance: Any
) -> None:
    lab = Lab()
    gate = fakes.Gate(lab.memory, Limits(credit_floor=floor))
    lab.transport.answers.append(recorded.answer(answer))
    Treasury(gate, lab.provider, lab.transport, every_seconds=60).refresh()
    assert lab.memory.balance == balance
    assert len(lab.transport.asked) == (floor is not None)
