"""What the sweep does for a job that is due."""

from typing import Any

import pytest

from tests import fakes
from tests.unit import recorded
from tests.unit.lab import HOUR, JOB, LYRICS_TIMELINE, REMASTER, WAV, Lab
from worker.core.job.models import JobId, Source
from worker.core.job.states import LIVE, JobState
from worker.core.job.timing import OnUnconfirmed
from worker.core.providers import find
from worker.core.wire import Answer, AnswerLost, NeverSent
from worker.engine.sweep import LEASE_SECONDS

RESUBMIT = {"on_unconfirmed": OnUnconfirmed.RESUBMIT}
LATER = HOUR - 1
"""A job is due, and not past its deadline."""


def sweep(lab: Lab, *, after: float = 0) -> None:
    """Sweep after a while, when the job is due."""
    lab.now += after
    if lab.state() is not None:
        lab.records.note(JOB, now=lab.now, due_at=lab.now)
    lab.sweep.run_once()


STEPS: dict[str, tuple[JobState, str, dict[str, Any], float, JobState, str | None]] = {
    "its message was lost":
        (JobState.QUEUED, REMASTER, {}, LATER, JobState.QUEUED, None),
    "no worker began it in time":
        (JobState.QUEUED, REMASTER, {}, HOUR, JobState.RESUMING, "DeadlineExceeded"),
    "it was not admitted in time":
        (JobState.HELD, REMASTER, {}, HOUR, JobState.RESUMING, "DeadlineExceeded"),
    "its leg went silent after it was announced":
        (JobState.SUBMITTING, REMASTER, {}, LATER, JobState.UNCONFIRMED, None),
    "the same, and no webhook will tell":
        (JobState.SUBMITTING, WAV, {}, LATER, JobState.RESUMING, "SubmissionUnconfirmed"),
    "the same, and the operator chose to risk it":
        (JobState.SUBMITTING, WAV, RESUBMIT, LATER, JobState.QUEUED, None),
    "the same, and it may be asked again":
        (JobState.SUBMITTING, LYRICS_TIMELINE, {}, LATER, JobState.QUEUED, None),
    "its grace period is over":
        (JobState.UNCONFIRMED, REMASTER, {}, LATER, JobState.RESUMING, "SubmissionUnconfirmed"),
    "its grace period is over, and the operator chose to risk it":
        (JobState.UNCONFIRMED, REMASTER, RESUBMIT, LATER, JobState.QUEUED, None),
    "it was unconfirmed to the deadline":
        (JobState.UNCONFIRMED, REMASTER, RESUBMIT, HOUR, JobState.RESUMING, "DeadlineExceeded"),
}  # fmt: skip


@pytest.mark.parametrize("case", STEPS)
def test_a_job_that_is_due_gets_what_it_needs(case: str) -> None:
    before, operation, policy, after, then, error = STEPS[case]
    lab = Lab(**policy)
    lab.bring(before, operation=operation)
    sweep(lab, after=after)
    assert (lab.state(), lab.error()) == (then, error)


def test_a_leg_that_went_silent_before_it_was_announced_has_sent_nothing() -> None:
    lab = Lab()
    assert lab.begin(lab.attempt())
    sweep(lab)
    assert (lab.state(), lab.due_in()) == (JobState.QUEUED, 0)
    assert lab.attempts.announce(lab.attempt()) is None


@pytest.mark.parametrize("state", [JobState.QUEUED, JobState.HELD, JobState.ADMITTED])
def test_a_job_that_was_cancelled_before_it_began_ends(state: JobState) -> None:
    lab = Lab()
    lab.bring(state)
    lab.records.note(JOB, now=lab.now, fields={"cancelled_by": "a test"})
    sweep(lab)
    assert (lab.state(), lab.error()) == (JobState.RESUMING, "JobCancelled")
    event = lab.readings.event(JOB)
    assert event
    assert event.source is Source.CANCEL


def test_a_message_that_was_lost_is_counted_and_one_that_backed_off_is_not() -> None:
    lab = Lab()
    lab.bring(JobState.QUEUED)
    for _ in range(2):
        sweep(lab)
    lab.records.note(JOB, now=lab.now, count="attempts")
    sweep(lab)
    assert lab.submit_legs.published == [(JOB, 1), (JOB, 2), (JOB, 2)]


@pytest.mark.parametrize("state", [None, *sorted(set(JobState) - LIVE)])
def test_the_due_time_of_a_job_that_needs_none_is_forgotten(state: JobState | None) -> None:
    lab = Lab()
    if state:
        lab.bring(state)
    lab.memory.due[JOB] = lab.now
    sweep(lab)
    assert lab.memory.due == {}


# -- polls ------------------------------------------------------------------------------------

RUNNING = recorded.answer("poll_running")
HALF = recorded.answer("poll_one_clip_running")
REFUNDED = recorded.answer("poll_504_refunded")
POLLS: dict[str, tuple[Any, float, JobState, str | None, float | None]] = {
    "it runs": (RUNNING, 0, JobState.WAITING, None, 15),
    "it has finished": (recorded.answer("poll_mixed"), 0, JobState.RESUMING, None, None),
    "it has failed": (REFUNDED, 0, JobState.RESUMING, "TaskFailed", None),
    "a clip still runs": (HALF, 0, JobState.WAITING, None, 15),
    "a clip still runs at the deadline": (HALF, HOUR, JobState.RESUMING, None, None),
    "it runs at the deadline": (RUNNING, HOUR, JobState.RESUMING, "DeadlineExceeded", None),
    "no answer": (recorded.answer("error_503_empty"), 0, JobState.WAITING, None, 15),
    "not to be polled so often": (recorded.answer("error_429"), 0, JobState.WAITING, None, 15),
    "never asked": (NeverSent("no route"), 0, JobState.WAITING, None, 15),
    "the answer is lost": (AnswerLost("a timeout"), 0, JobState.WAITING, None, 15),
    "no answer at the deadline":
        (NeverSent("no route"), HOUR, JobState.RESUMING, "DeadlineExceeded", None),
}  # fmt: skip


@pytest.mark.parametrize("case", POLLS)
def test_a_waiting_job_is_asked_after(case: str) -> None:
    answer, after, then, error, due_in = POLLS[case]
    lab = Lab()
    lab.bring(JobState.WAITING)
    lab.transport.answers.append(answer)
    sweep(lab, after=after)
    assert (lab.state(), lab.error(), lab.due_in()) == (then, error, due_in)
    assert len(lab.transport.asked) == 1


def test_a_job_whose_provider_task_is_unknown_cannot_be_asked_after() -> None:
    lab = Lab()
    lab.bring(JobState.SUBMITTING)
    lab.deliver(recorded.delivery("delivery_streaming"))
    lab.memory.drop(JOB, ["provider_task_id"])
    sweep(lab)
    assert (lab.state(), lab.transport.asked) == (JobState.WAITING, [])


def test_polls_are_spaced_and_one_that_has_waited_for_its_time_is_asked() -> None:
    lab = Lab(polls_per_second=0.1)
    two = [JOB, JobId("job-2")]
    for job_id in two:
        lab.bring(JobState.WAITING, job_id)
    lab.memory.due = dict.fromkeys(two, lab.now)
    lab.transport.answers += [RUNNING] * 2
    lab.sweep.run_once()
    assert len(lab.transport.asked) == 1
    put_off = next(each for each in two if lab.readings.read(each).poll_at)
    lab.now = lab.readings.read(put_off).due_at or 0
    lab.sweep.run_once()
    assert lab.readings.read(put_off).polls == 1


# -- trouble ----------------------------------------------------------------------------------


def three(lab: Lab, trouble: Exception) -> list[JobId]:
    """Queue three jobs, of which the second is trouble."""
    jobs = [JobId(f"job-{number}") for number in range(3)]
    for job_id in jobs:
        lab.bring(JobState.QUEUED, job_id)
    lab.memory.due = {job_id: lab.now + at for at, job_id in enumerate(jobs)}
    lab.submit_legs.trouble["job-1"] = trouble
    lab.now += 10
    return jobs


def test_one_jobs_trouble_does_not_stop_the_others_and_it_comes_due_again() -> None:
    lab = Lab()
    jobs = three(lab, ZeroDivisionError())
    assert lab.sweep.run_once() == 3
    assert [job_id for job_id, _ in lab.submit_legs.published] == [jobs[0], jobs[2]]
    assert lab.due_in(jobs[1]) == LEASE_SECONDS


def test_a_sweep_ends_if_the_state_is_away() -> None:
    lab = Lab()
    three(lab, fakes.Unavailable())
    with pytest.raises(fakes.Unavailable):
        lab.sweep.run_once()
    assert len(lab.submit_legs.published) == 1


def test_the_index_forgets_what_is_long_past_its_retention() -> None:
    lab = Lab(retention_seconds=HOUR)
    lab.bring(JobState.QUEUED)
    lab.now += 2 * HOUR - 1
    lab.sweep.forget()
    assert lab.memory.index
    lab.now += 1
    lab.sweep.forget()
    assert not lab.memory.index


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (RUNNING, "running"),
        (Answer(502, {}, b"x" * 999), "HTTP 502 with an unreadable body"),
        (NeverSent("y" * 999), "y" * 60),
    ],
)
def test_a_record_says_what_the_last_poll_brought(answer: Any, said: str) -> None:
    lab = Lab()
    lab.bring(JobState.WAITING)
    lab.transport.answers.append(answer)
    lab.polls.poll(lab.readings.read(JOB), find(REMASTER))
    polled = lab.readings.read(JOB)
    assert (polled.polled, polled.polled_at) == (said, lab.now)
