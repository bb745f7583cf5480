"""What a job needs when its moment has come, and when its next moment is."""

import dataclasses
import itertools
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.core.job import timing
from worker.core.job.models import JobId, JobRecord
from worker.core.job.states import TERMINAL, JobState
from worker.core.job.timing import OnUnconfirmed, Policy, Step, moment, next_step
from worker.core.providers.aimusic.operations import OPERATIONS, Operation

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
    assert timing.deadline(REMASTER, Policy(), now=NOW) == NOW + REMASTER.deadline_seconds
    assert timing.deadline(REMASTER, Policy(deadline_seconds=60), now=NOW) == NOW + 60


def test_the_first_poll_comes_when_the_operation_should_be_done() -> None:
    assert timing.first_poll(REMASTER, Policy(), now=NOW) == NOW + REMASTER.expected_seconds
    assert timing.first_poll(STEMS, Policy(poll_first_seconds=1.5), now=NOW) == NOW + 1.5


@given(attempt_counts, st.none() | st.floats(0, 10**7), jitters)
def test_a_backoff_stays_in_its_bounds(n: int, retry_after: float | None, jitter: float) -> None:
    wait = timing.backoff(n, retry_after, now=0, jitter=jitter)
    assert wait >= timing.FIRST_BACKOFF_SECONDS / 2
    assert wait <= max(timing.LAST_BACKOFF_SECONDS, retry_after or 0)


@given(attempt_counts, st.floats(0, 10**7), jitters, st.floats(0, 4e9))
def test_a_backoff_never_undercuts_the_providers_word(
    n: int, retry_after: float, jitter: float, now: float
) -> None:
    assert timing.backoff(n, retry_after, now=now, jitter=jitter) >= now + retry_after


@given(st.integers(1, 10**9), jitters)
def test_a_backoff_never_shrinks(attempts: int, jitter: float) -> None:
    before = timing.backoff(attempts, None, now=0, jitter=jitter)
    assert timing.backoff(attempts + 1, None, now=0, jitter=jitter) >= before


def test_a_backoff_doubles_until_its_bound() -> None:
    waits = [timing.backoff(n, None, now=0, jitter=1) for n in range(1, 10)]
    assert waits == [2, 4, 8, 16, 32, 64, 120, 120, 120]


@given(st.integers(0, 10**9), jitters, st.floats(0.01, 3600))
def test_a_poll_interval_stays_in_its_bounds(polls: int, jitter: float, every: float) -> None:
    wait = timing.next_poll(polls, Policy(poll_every_seconds=every), now=0, jitter=jitter)
    rounding = 1 + 1e-9
    assert 0.75 * every <= wait * rounding
    assert wait <= 1.25 * 10 * every * rounding


@given(st.integers(0, 10**9), jitters)
def test_a_poll_interval_never_shrinks(polls: int, jitter: float) -> None:
    before = timing.next_poll(polls, Policy(), now=0, jitter=jitter)
    assert timing.next_poll(polls + 1, Policy(), now=0, jitter=jitter) >= before


def test_polls_get_rarer_up_to_tenfold() -> None:
    policy = Policy(poll_every_seconds=20)
    waits = [timing.next_poll(n, policy, now=0, jitter=0.5) for n in range(8)]
    assert all(a < b for a, b in itertools.pairwise(waits[:6]))
    assert waits[0] == 20
    assert waits[6:] == [200, 200]


@given(st.sampled_from(list(OPERATIONS.values())), st.floats(0.01, 3600))
def test_a_lease_outlives_the_time_limits_of_the_leg_that_holds_it(
    operation: Operation, seconds: float
) -> None:
    submit_seconds = operation.submit_seconds or seconds
    lease = timing.submit_lease(operation, Policy(submit_timeout_seconds=seconds))
    assert lease > timing.hard_time_limit(submit_seconds)


@given(st.floats(0.01, 3600))
def test_a_request_that_times_out_stays_below_the_limits_of_its_leg(seconds: float) -> None:
    soft, hard = timing.soft_time_limit(seconds), timing.hard_time_limit(seconds)
    assert seconds * 2 < soft < hard


def test_a_slow_operation_has_limits_of_its_own() -> None:
    slow, quick = OPERATIONS["sonic.upload_cover"], OPERATIONS["sonic.wav"]
    assert slow.submit_seconds == 120
    assert timing.submit_lease(slow, Policy()) > timing.hard_time_limit(120)
    assert timing.submit_lease(quick, Policy()) < timing.submit_lease(slow, Policy())


def test_an_unconfirmed_job_is_submitted_again_only_by_choice_and_not_for_ever() -> None:
    unconfirmed = job(JobState.UNCONFIRMED)
    chosen = Policy(on_unconfirmed=OnUnconfirmed.RESUBMIT)
    assert next_step(unconfirmed, chosen, now=NOW) is Step.RESUBMIT
    again = dataclasses.replace(unconfirmed, resubmissions=timing.MOST_RESUBMISSIONS)
    assert next_step(again, chosen, now=NOW) is Step.GIVE_UP


@given(st.integers(0, 10**9))
def test_a_message_counts_as_lost_ever_later_but_not_never(republished: int) -> None:
    policy = Policy(backlog_seconds=900)
    wait = timing.backlog(republished, policy, now=NOW) - NOW
    assert 900 <= wait <= 900 * 32
    assert timing.backlog(republished + 1, policy, now=NOW) - NOW >= wait


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
