"""What a job needs when its moment has come, and when its next moment is."""

import dataclasses
import itertools
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.core import schedule
from worker.core.models import JobId, JobRecord
from worker.core.operations import OPERATIONS, Operation
from worker.core.schedule import OnUnconfirmed, Policy, Step, moment, next_step
from worker.core.states import TERMINAL, JobState

NOW = 1_763_800_000.0
DEADLINE = NOW + 3600
REMASTER = OPERATIONS["sonic.remaster"]
STEMS = OPERATIONS["sonic.stems_full"]

jitters = st.floats(0, 1)
attempt_counts = st.one_of(st.integers(1, 40), st.integers(1, 10**9))


def job(state: JobState) -> JobRecord:
    return JobRecord(
        job_id=JobId("job-1"),
        operation="sonic.remaster",
        state=state,
        created_at=NOW,
        deadline_at=DEADLINE,
    )


@pytest.mark.parametrize(
    ("state", "step"),
    [
        (JobState.QUEUED, Step.SUBMIT),
        (JobState.SUBMITTING, Step.DOUBT),
        (JobState.UNCONFIRMED, Step.GIVE_UP),
        (JobState.WAITING, Step.POLL),
        # A conductor has it.
        (JobState.RESUMING, Step.NOTHING),
        (JobState.SUCCEEDED, Step.NOTHING),
        (JobState.FAILED, Step.NOTHING),
        (JobState.CANCELLED, Step.NOTHING),
        (JobState.EXPIRED, Step.NOTHING),
    ],
)
def test_each_state_has_its_step_before_the_deadline(state: JobState, step: Step) -> None:
    assert next_step(job(state), Policy(), now=DEADLINE - 0.001) is step


@pytest.mark.parametrize(
    ("state", "step"),
    [
        (JobState.QUEUED, Step.EXPIRE),
        (JobState.HELD, Step.EXPIRE),
        (JobState.ADMITTED, Step.EXPIRE),
        (JobState.UNCONFIRMED, Step.EXPIRE),
        # Work that was paid for is asked after before it is given up.
        (JobState.WAITING, Step.POLL),
        # It is in somebody's hands, and comes back with a state that expires.
        (JobState.SUBMITTING, Step.DOUBT),
        (JobState.RESUMING, Step.NOTHING),
    ],
)
@pytest.mark.parametrize("late", [0, 1, 10**6])
def test_a_job_ends_from_its_deadline_on(state: JobState, step: Step, late: float) -> None:
    assert next_step(job(state), Policy(), now=DEADLINE + late) is step


@pytest.mark.parametrize("state", sorted(TERMINAL))
def test_a_settled_job_needs_nothing_ever(state: JobState) -> None:
    assert next_step(job(state), Policy(), now=DEADLINE * 2) is Step.NOTHING


def test_a_deadline_is_the_operations_unless_the_policy_has_one() -> None:
    assert schedule.deadline(REMASTER, Policy(), now=NOW) == NOW + REMASTER.deadline_seconds
    assert schedule.deadline(REMASTER, Policy(deadline_seconds=60), now=NOW) == NOW + 60


def test_the_first_poll_comes_when_the_operation_should_be_done() -> None:
    assert schedule.first_poll(REMASTER, Policy(), now=NOW) == NOW + REMASTER.expected_seconds
    assert schedule.first_poll(STEMS, Policy(poll_first_seconds=1.5), now=NOW) == NOW + 1.5


@given(attempt_counts, st.none() | st.floats(0, 10**7), jitters)
def test_a_backoff_stays_in_its_bounds(n: int, retry_after: float | None, jitter: float) -> None:
    wait = schedule.backoff(n, retry_after, now=0, jitter=jitter)
    assert wait >= schedule.FIRST_BACKOFF_SECONDS / 2
    assert wait <= max(schedule.LAST_BACKOFF_SECONDS, retry_after or 0)


@given(attempt_counts, st.floats(0, 10**7), jitters, st.floats(0, 4e9))
def test_a_backoff_never_undercuts_the_providers_word(
    n: int, retry_after: float, jitter: float, now: float
) -> None:
    assert schedule.backoff(n, retry_after, now=now, jitter=jitter) >= now + retry_after


@given(st.integers(1, 10**9), jitters)
def test_a_backoff_never_shrinks(attempts: int, jitter: float) -> None:
    before = schedule.backoff(attempts, None, now=0, jitter=jitter)
    assert schedule.backoff(attempts + 1, None, now=0, jitter=jitter) >= before


def test_a_backoff_doubles_until_its_bound() -> None:
    waits = [schedule.backoff(n, None, now=0, jitter=1) for n in range(1, 10)]
    assert waits == [2, 4, 8, 16, 32, 64, 120, 120, 120]


@given(st.integers(0, 10**9), jitters, st.floats(0.01, 3600))
def test_a_poll_interval_stays_in_its_bounds(polls: int, jitter: float, every: float) -> None:
    wait = schedule.next_poll(polls, Policy(poll_every_seconds=every), now=0, jitter=jitter)
    rounding = 1 + 1e-9
    assert 0.75 * every <= wait * rounding
    assert wait <= 1.25 * 10 * every * rounding


@given(st.integers(0, 10**9), jitters)
def test_a_poll_interval_never_shrinks(polls: int, jitter: float) -> None:
    before = schedule.next_poll(polls, Policy(), now=0, jitter=jitter)
    assert schedule.next_poll(polls + 1, Policy(), now=0, jitter=jitter) >= before


def test_polls_get_rarer_up_to_tenfold() -> None:
    policy = Policy(poll_every_seconds=20)
    waits = [schedule.next_poll(n, policy, now=0, jitter=0.5) for n in range(8)]
    assert all(a < b for a, b in itertools.pairwise(waits[:6]))
    assert waits[0] == 20
    assert waits[6:] == [200, 200]


@given(st.sampled_from(list(OPERATIONS.values())), st.floats(0.01, 3600))
def test_a_lease_outlives_the_time_limits_of_the_leg_that_holds_it(
    operation: Operation, seconds: float
) -> None:
    submit_seconds = operation.submit_seconds or seconds
    lease = schedule.submit_lease(operation, Policy(submit_timeout_seconds=seconds))
    assert lease > schedule.hard_time_limit(submit_seconds)


@given(st.floats(0.01, 3600))
def test_a_request_that_times_out_stays_below_the_limits_of_its_leg(seconds: float) -> None:
    soft, hard = schedule.soft_time_limit(seconds), schedule.hard_time_limit(seconds)
    assert seconds * 2 < soft < hard


def test_a_slow_operation_has_limits_of_its_own() -> None:
    slow, quick = OPERATIONS["sonic.upload_cover"], OPERATIONS["sonic.wav"]
    assert slow.submit_seconds == 120
    assert schedule.submit_lease(slow, Policy()) > schedule.hard_time_limit(120)
    assert schedule.submit_lease(quick, Policy()) < schedule.submit_lease(slow, Policy())


def test_an_unconfirmed_job_is_submitted_again_only_by_choice_and_not_for_ever() -> None:
    unconfirmed = job(JobState.UNCONFIRMED)
    chosen = Policy(on_unconfirmed=OnUnconfirmed.RESUBMIT)
    assert next_step(unconfirmed, chosen, now=NOW) is Step.RESUBMIT
    again = dataclasses.replace(unconfirmed, resubmissions=schedule.MOST_RESUBMISSIONS)
    assert next_step(again, chosen, now=NOW) is Step.GIVE_UP


@given(st.integers(0, 10**9))
def test_a_message_counts_as_lost_ever_later_but_not_never(republished: int) -> None:
    policy = Policy(backlog_seconds=900)
    wait = schedule.backlog(republished, policy, now=NOW) - NOW
    assert 900 <= wait <= 900 * 32
    assert schedule.backlog(republished + 1, policy, now=NOW) - NOW >= wait


def test_a_job_that_was_cancelled_before_it_could_be_resumed_ends_so() -> None:
    for state in (JobState.QUEUED, JobState.HELD, JobState.ADMITTED, JobState.SUBMITTING):
        marked = dataclasses.replace(job(state), cancelled_by="somebody")
        assert next_step(marked, Policy(), now=DEADLINE * 2) is Step.CANCEL
    waiting = dataclasses.replace(job(JobState.WAITING), cancelled_by="somebody")
    assert next_step(waiting, Policy(), now=NOW) is Step.POLL


@pytest.mark.parametrize(
    "stamp",
    ["2026-11-26T10:00:00", "2026-11-26T11:00:00+01:00", datetime(2026, 11, 26, 10)],  # noqa: DTZ001
)
def test_a_moment_without_a_time_zone_is_meant_in_utc(stamp: Any) -> None:
    assert moment(stamp) == datetime(2026, 11, 26, 10, tzinfo=UTC)


@pytest.mark.parametrize("stamp", [None, ""])
def test_no_stamp_is_no_moment(stamp: Any) -> None:
    assert moment(stamp) is None
