"""What becomes of a request to cancel, by where the job stands."""

import pytest

from tests.unit.lab import JOB, Lab
from worker.core.job.states import TERMINAL, JobState
from worker.engine.cancel import Cancellation

IN_TURN = [JobState.QUEUED, JobState.HELD, JobState.ADMITTED]
PARKED = [*IN_TURN, JobState.SUBMITTING, JobState.UNCONFIRMED, JobState.WAITING]


@pytest.mark.parametrize("state", PARKED)
def test_a_parked_job_ends_at_once(state: JobState) -> None:
    lab = Lab()
    lab.bring(state)
    assert lab.cancellations.cancel(JOB, by="a test") is Cancellation.ENDING
    assert (lab.state(), lab.error()) == (JobState.RESUMING, "JobCancelled")


@pytest.mark.parametrize("state", [JobState.RESUMING, *sorted(TERMINAL)])
def test_a_job_that_ends_or_has_ended_is_not_cancelled(state: JobState) -> None:
    lab = Lab()
    lab.bring(state)
    before = lab.readings.read(JOB)
    assert lab.cancellations.cancel(JOB, by="a test") is Cancellation.TOO_LATE
    assert lab.readings.read(JOB) == before


def test_a_job_without_a_record_is_marked_for_the_worker_that_begins_it() -> None:
    lab = Lab()
    assert lab.cancellations.cancel(JOB, by="a test") is Cancellation.WAITING
    standing = lab.readings.standing(JOB)
    assert (standing.state, standing.cancelled_by) == (None, "a test")


def test_a_job_that_is_not_announced_is_marked_for_its_own_leg() -> None:
    lab = Lab()
    lab.begin(lab.attempt())
    assert lab.cancellations.cancel(JOB, by="a test") is Cancellation.ENDING
    standing = lab.attempts.announce(lab.attempt())
    assert standing
    assert (standing.state, standing.cancelled_by) == (JobState.SUBMITTING, "a test")


@pytest.mark.parametrize("state", IN_TURN)
def test_one_of_many_before_the_gate_is_left_to_the_sweep(state: JobState) -> None:
    lab = Lab()
    lab.bring(state)
    assert lab.cancellations.cancel_in_turn(JOB, by="a test") is Cancellation.ENDING
    assert (lab.state(), lab.due_in()) == (state, 0)
    lab.sweep.run_once()
    assert (lab.state(), lab.error()) == (JobState.RESUMING, "JobCancelled")


def test_one_of_many_that_was_submitted_ends_at_once() -> None:
    lab = Lab()
    lab.bring(JobState.WAITING)
    assert lab.cancellations.cancel_in_turn(JOB, by="a test") is Cancellation.ENDING
    assert lab.state() is JobState.RESUMING
