"""When a job is due next, and what it needs when that time has come.

Every job that waits for its event has exactly one due time. The sweep asks ``next_step`` what to do
with a job that is due; the legs and the sweep set the next due time with the functions below.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final

from worker.core.errors import DeadlineExceeded
from worker.core.job.models import JobRecord, JSONObject, Source
from worker.core.job.states import JobState, Turn
from worker.core.wire import Operation

PUBLISH_LEASE_SECONDS: Final = 30
"""How long a publish may take before the sweep publishes again: many times what it needs."""

MOST_RESUBMISSIONS: Final = 2
"""The limit even if the operator chose to resubmit: a silent provider is not paid for ever."""

FIRST_BACKOFF_SECONDS: Final = 2.0
LAST_BACKOFF_SECONDS: Final = 120.0
GROWTH: Final = 1.5


class OnUnconfirmed(StrEnum):
    """What becomes of a job if nobody ever learns whether the provider took it."""

    FAIL = "fail"
    RESUBMIT = "resubmit"


@dataclass(frozen=True, slots=True)
class Policy:
    """How patient Fermata is; all in seconds. See ``.env.example`` for each."""

    submit_timeout_seconds: float = 30
    poll_first_seconds: float | None = None
    poll_every_seconds: float = 20
    polls_per_second: float = 10
    unconfirmed_grace_seconds: float = 900
    on_unconfirmed: OnUnconfirmed = OnUnconfirmed.FAIL
    backlog_seconds: float = 900
    queued_seconds: float = 86400
    held_seconds: float = 518400
    deadline_seconds: float | None = None
    retention_seconds: int = 7 * 86400


def moment(stamp: object) -> datetime | None:
    """Read a time from a Celery message. A time without a zone is in UTC."""
    if not stamp:
        return None
    at = stamp if isinstance(stamp, datetime) else datetime.fromisoformat(str(stamp))
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def resubmits(resubmissions: int, policy: Policy) -> bool:
    """Say whether a job whose submission is in doubt is submitted once more."""
    chosen = policy.on_unconfirmed is OnUnconfirmed.RESUBMIT
    return chosen and resubmissions < MOST_RESUBMISSIONS


def soft_time_limit(submit_seconds: float) -> float:
    """Return the soft time limit of a task, well above what its request may take."""
    return submit_seconds * 2 + 30


def hard_time_limit(submit_seconds: float) -> float:
    """Return the hard time limit of a task. With a pool of processes, Celery kills the task."""
    return soft_time_limit(submit_seconds) * 1.25


def submit_lease(operation: Operation, policy: Policy) -> float:
    """Return how long a submit leg may say nothing before the sweep declares it dead."""
    submit_seconds = operation.submit_seconds or policy.submit_timeout_seconds
    # Longer than the hard limit, at which Celery kills the leg: nothing is sent after the lease.
    return hard_time_limit(submit_seconds) * 1.2


class Step(StrEnum):
    """What a job needs."""

    SUBMIT = "submit"
    """Publish its submit leg again: it backed off, or its message was lost."""
    DOUBT = "doubt"
    """Its worker died between the record and the provider's answer."""
    POLL = "poll"
    GIVE_UP = "give up"
    """It stayed unconfirmed through the grace period."""
    RESUBMIT = "resubmit"
    """It stayed unconfirmed, and the operator chose to submit it again."""
    EXPIRE = "expire"
    CANCEL = "cancel"
    """It was cancelled before anybody could resume it."""
    NOTHING = "nothing"


def next_step(job: JobRecord, policy: Policy, *, now: float) -> Step:
    """Decide what a job needs when its due time has come."""
    match job.state:
        case JobState.QUEUED | JobState.HELD | JobState.ADMITTED | JobState.SUBMITTING if (
            job.cancelled_by
        ):
            return Step.CANCEL
        case JobState.SUBMITTING:
            return Step.DOUBT
        case JobState.WAITING:
            # Poll even after the deadline: the job was paid for, and may have ended meanwhile.
            return Step.POLL
        case JobState.QUEUED | JobState.HELD | JobState.ADMITTED | JobState.UNCONFIRMED if (
            now >= job.deadline_at
        ):
            return Step.EXPIRE
        case JobState.QUEUED | JobState.ADMITTED:
            return Step.SUBMIT
        case JobState.UNCONFIRMED if resubmits(job.resubmissions, policy):
            return Step.RESUBMIT
        case JobState.UNCONFIRMED:
            return Step.GIVE_UP
        case _:
            return Step.NOTHING


def backlog(republished: int, policy: Policy, *, now: float) -> float:
    """Return the time from which on a message that was published now counts as lost.

    The wait doubles with each copy, up to 32-fold: the message may well be in its queue still,
    behind a backlog, and each copy makes the queue longer.
    """
    return now + policy.backlog_seconds * float(2 ** min(republished, 5))


def deadline(operation: Operation, policy: Policy, *, now: float) -> float:
    """Return the time at which a job that begins now expires."""
    return now + (policy.deadline_seconds or operation.deadline_seconds)


def first_poll(operation: Operation, policy: Policy, *, now: float) -> float:
    """Return the time of a parked job's first poll: after the operation's expected time."""
    return now + (policy.poll_first_seconds or operation.expected_seconds)


def next_poll(polls: int, policy: Policy, *, now: float, jitter: float) -> float:
    """Return the time of the poll after the ``polls``-th; the interval grows up to tenfold.

    Args:
        jitter: 0 to 1, spreads jobs that were polled together.
    """
    interval = policy.poll_every_seconds * min(float(GROWTH ** min(polls, 20)), 10.0)
    return now + interval * (0.75 + 0.5 * jitter)


def backoff(attempts: int, retry_after: float | None, *, now: float, jitter: float) -> float:
    """Return the time of the attempt after the ``attempts``-th (from 1).

    The provider may ask for a longer pause by ``retry_after``, in seconds.
    """
    grown = min(FIRST_BACKOFF_SECONDS * float(2 ** min(attempts - 1, 20)), LAST_BACKOFF_SECONDS)
    return now + max(grown * (0.5 + 0.5 * jitter), retry_after or 0)


def expired(job: JobRecord) -> DeadlineExceeded:
    """Say that a job did not end in time."""
    lasted = round(job.deadline_at - job.created_at)
    if job.state is JobState.HELD:
        why = job.timeline[-1].get("why", "") if job.timeline else ""
        return DeadlineExceeded(f"{job.operation} was not admitted within {lasted} s: {why}")
    return DeadlineExceeded(f"{job.operation} did not finish within {lasted} s (was {job.state})")


def at_provider(timeline: Iterable[JSONObject], source: Source) -> tuple[float, float] | None:
    """Return when the provider accepted a claimed job and when it was claimed, in Unix seconds.

    None if the provider never had it, or answered at once.
    """
    last = {entry["what"]: float(entry["at"]) for entry in timeline}
    accepted, claimed = last.get(Turn.ACCEPT), last.get(Turn.CLAIM)
    if accepted is None and source is Source.WEBHOOK:
        accepted = last.get(Turn.SUBMIT)  # the webhook came before the submit's answer
    return None if accepted is None or claimed is None else (accepted, claimed)


def held_at(timeline: Iterable[JSONObject]) -> float | None:
    """Return since when the gate last held a job, in Unix seconds; None if it never did."""
    at, before = None, ""
    for entry in timeline:
        # A job that is held for one reason and then for another was held all the time.
        if entry["what"] == Turn.HOLD != before:
            at = float(entry["at"])
        before = entry["what"]
    return at
