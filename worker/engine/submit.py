"""Use cases of the submit leg: begin a job, submit it, and record what the answer means.

**This is where money is spent**: ``Submissions._send`` calls the provider, once. The task
(``app/job_task.py``) calls ``begin`` before it, which writes a record that can be resumed. After
that request the leg alone knows the answer, so it repeats its writes until Redis takes them. If the
leg dies, a sweep takes its job over.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar, assert_never
from urllib.parse import quote

import structlog

from worker.core import errors
from worker.core.job import doubt, timing
from worker.core.job.doubt import Doubt
from worker.core.job.lanes import Lane, thousandths
from worker.core.job.models import (
    Event,
    JobId,
    JobRecord,
    Parked,
    Source,
    Standing,
)
from worker.core.job.states import JobState, Turn
from worker.core.job.timing import Policy
from worker.core.ports import Clock, Gate, Provider, Readings, Records, Transport
from worker.core.signing import derive_secret
from worker.core.wire import (
    Accepted,
    AnswerLost,
    Completed,
    NeverSent,
    Operation,
    Postponed,
    Refused,
    SubmitOutcome,
    Unknown,
    Webhook,
)
from worker.engine.patience import insist

log = structlog.get_logger()

_T = TypeVar("_T")

MOST_REFUSALS: Final = 2
"""A job that closed the open gate so often before, and closes it again, fails."""


@dataclass(frozen=True, slots=True)
class Callbacks:
    """Where the provider reaches the receiver, and the key that job secrets are derived from."""

    address: str
    """The beginning of every callback's URL; the job id follows."""
    signing_key: str = field(repr=False)

    def webhook(self, job_id: JobId) -> Webhook:
        """Mint a job's callback: the URL carries the job id, the secret belongs to it alone."""
        url = f"{self.address}/{quote(job_id, safe='')}"
        return Webhook(url, derive_secret(self.signing_key, job_id))


@dataclass(frozen=True, slots=True)
class Attempt:
    """One run of a job's submit leg."""

    job_id: JobId
    operation: Operation
    leg: str
    """Unique to this run. Redis refuses the writes of a run once another one has begun."""


class Submissions:
    """Submits jobs, each by one leg at a time."""

    def __init__(
        self,
        *,
        records: Records,
        readings: Readings,
        provider: Provider,
        transport: Transport,
        gate: Gate,
        callbacks: Callbacks,
        policy: Policy,
        clock: Clock,
        jitter: Callable[[], float],
    ) -> None:
        self._records = records
        self._readings = readings
        self._provider = provider
        self._transport = transport
        self._gate = gate
        self._callbacks = callbacks
        self._policy = policy
        self._clock = clock
        self._jitter = jitter

    def standing(self, job_id: JobId) -> Standing:
        """Return where the job stands, before anything is done for it."""
        return self._readings.standing(job_id)

    def begin(
        self,
        attempt: Attempt,
        body: Mapping[str, Any],
        parked: Parked | None,
        lane: Lane,
        *,
        expires_at: float | None = None,
    ) -> bool:
        """Write the record that can be resumed, before the provider hears of the job.

        Args:
            parked: the message that starts the job; None if the record has it already.
            expires_at: when the job expires, if the gate still holds it then.

        Returns False if this leg must not submit: another has begun, or the job is held.

        Raises UnknownJob if Redis has lost the record that has the message.
        """
        now, operation = self._clock(), attempt.operation
        state = self._insist(
            attempt,
            lambda: self._records.begin(
                attempt.job_id,
                self._gate.bid(operation, lane, now=now, expires_at=expires_at),
                now=now,
                due_at=now + timing.submit_lease(operation, self._policy),
                deadline_at=timing.deadline(operation, self._policy, now=now),
                fields=_record_fields(operation, body, parked),
                leg=attempt.leg,
            ),
        )
        if state is None and parked is None:
            # The script refused, although the record should have the message. If the record is
            # gone, this read raises UnknownJob, and the task goes back to its queue.
            self._readings.read(attempt.job_id)
        return state is JobState.SUBMITTING

    def _turn(self, attempt: Attempt, turn: Turn, *, due_at: float, **options: Any) -> bool:
        now = self._clock()
        # If the reply was lost, Redis may already have applied the turn. Retrying is safe: the
        # script recognises our leg.
        return self._insist(
            attempt,
            lambda: self._records.turn(
                attempt.job_id, turn, now=now, due_at=due_at, leg=attempt.leg, **options
            ),
        )

    def pass_on(
        self,
        job_id: JobId,
        operation: Operation,
        body: Mapping[str, Any],
        parked: Parked,
        lane: Lane,
        *,
        expires_at: float | None = None,
    ) -> float | None:
        """Write the record of a job that the worker of another queue is to begin.

        Returns the due time at which the sweep publishes it again, unless it is marked as published
        or begun by then; None if another leg has begun it.
        """
        now = self._clock()
        due_at = now + timing.PUBLISH_LEASE_SECONDS
        fields = _record_fields(operation, body, parked)
        fields |= {"lane": str(lane), "cost": thousandths(operation.credits)}
        # Until its first attempt, a job's deadline is the limit for its wait in the queue.
        fields["deadline_at"] = min(now + self._policy.queued_seconds, expires_at or math.inf)
        written = self._records.turn(job_id, Turn.REROUTE, now=now, due_at=due_at, fields=fields)
        return due_at if written else None

    def announce(self, attempt: Attempt) -> Standing | None:
        """Note that the job's PARKED state is stored, and read where the job stands.

        From here on anybody may end the job. Returns None if the sweep has already declared this
        attempt dead.

        Raises UnknownJob if Redis has lost the record since it was written.
        """
        return self._records.announce(attempt.job_id, attempt.leg)

    def submit(self, attempt: Attempt, body: Mapping[str, Any]) -> Event | None:
        """Call the provider once, and record the meaning of its answer.

        Returns the event that settles the job here and now (a synchronous result, a refusal),
        or None if the job is parked, or another event has claimed it.
        """
        outcome = self._send(attempt, body)
        was_open = self._insist(
            attempt,
            lambda: self._gate.hear(attempt.job_id, attempt.operation, outcome, now=self._clock()),
        )
        # If Redis stays away, this line of the log is the only trace of what was paid for.
        log.info(
            "job_submitted",
            outcome=type(outcome).__name__.lower(),
            provider_task_id=getattr(outcome, "provider_task_id", None),
        )
        match outcome:
            case Accepted(provider_task_id):
                self._accepted(attempt, provider_task_id)
                return None
            case Postponed() as postponed:
                self._postpone(attempt, postponed)
                return None
            case Unknown(reason):
                return self._doubt(attempt, reason)
            case Completed(answer):
                return Event(Source.ANSWER, body=answer)
            case Refused(error) if error.closes_gate:
                return self._closed(attempt, error, was_open=was_open)
            case Refused(error):
                return Event(Source.ANSWER, error=error.to_json())
        assert_never(outcome)

    def _closed(
        self, attempt: Attempt, error: errors.ProviderError, *, was_open: bool
    ) -> Event | None:
        """Put the job back until the operator adds credits or replaces the API key.

        If the gate opens for other jobs and closes again with this one, this job is the cause, and
        it fails.
        """
        job = self._read(attempt)
        if was_open and job.refusals >= MOST_REFUSALS:
            return Event(Source.ANSWER, error=error.to_json())
        count = "refusals" if was_open else ""
        self._postpone(attempt, Postponed(error.message, backoff=False), count=count)
        return None

    def _read(self, attempt: Attempt) -> JobRecord:
        return self._insist(attempt, lambda: self._readings.read(attempt.job_id))

    def _send(self, attempt: Attempt, body: Mapping[str, Any]) -> SubmitOutcome:
        operation = attempt.operation
        webhook = self._callbacks.webhook(attempt.job_id) if operation.called_back else None
        try:
            request = self._provider.build_submit(operation.name, body, webhook)
            answer = self._transport.send(request)
        except NeverSent as error:
            return Postponed(error.message, failed=True)
        except AnswerLost as error:
            return Unknown(error.message)
        return self._provider.read_submit(operation.name, answer)

    def _insist(self, attempt: Attempt, write: Callable[[], _T]) -> _T:
        """Repeat a write for half the submit lease; after all of it, a sweep takes the job over."""
        seconds = timing.submit_lease(attempt.operation, self._policy) / 2
        return insist(
            write, unavailable=self._records.unavailable, seconds=seconds, clock=self._clock
        )

    def _accepted(self, attempt: Attempt, provider_task_id: str) -> None:
        now = self._clock()
        fields = {"provider_task_id": provider_task_id}
        due_at = timing.first_poll(attempt.operation, self._policy, now=now)
        if not self._turn(attempt, Turn.ACCEPT, due_at=due_at, fields=fields):
            # An event, mostly the webhook, claimed the job before this answer came. So the turn is
            # refused: do the rest of it here, which opens the gate and notes the provider's task.
            self._gate.open(attempt.job_id, paid=attempt.operation.credits > 0, now=now)
            self._records.note(attempt.job_id, now=now, sources=JobState, fields=fields)

    def postpone(self, attempt: Attempt, reason: str) -> None:
        """Put a job back that has begun but has not been sent to the provider."""
        self._postpone(attempt, Postponed(reason))

    def _postpone(self, attempt: Attempt, postponed: Postponed, *, count: str = "") -> None:
        now, after = self._clock(), postponed.retry_after
        due_at = now + (after or 0)
        if postponed.backoff:
            attempts = self._read(attempt).attempts
            due_at = timing.backoff(attempts, after, now=now, jitter=self._jitter())
        self._turn(attempt, Turn.POSTPONE, due_at=due_at, why=postponed.reason, count=count)

    def _doubt(self, attempt: Attempt, reason: str) -> Event | None:
        operation = attempt.operation
        # Where a webhook may still settle the job, the doubt is written at once: Redis may be away.
        counts = not (operation.repeatable or operation.takes_webhook)
        resubmissions = self._read(attempt).resubmissions if counts else 0
        match doubt.decide(operation, resubmissions, self._policy):
            case Doubt.ASK_AGAIN:
                self._postpone(attempt, Postponed(reason))
            case Doubt.RESUBMIT:
                self._postpone(attempt, Postponed(reason), count="resubmissions")
            case Doubt.WAIT:
                due_at = self._clock() + self._policy.unconfirmed_grace_seconds
                self._turn(attempt, Turn.DOUBT, due_at=due_at, why=reason)
            case Doubt.FAIL:
                return Event(Source.ANSWER, error=doubt.unconfirmed(operation, reason).to_json())
        return None

    def claim_here(self, attempt: Attempt, event: Event) -> None:
        """Claim a job with an event that this leg has received."""
        self._insist(
            attempt,
            lambda: self._records.claim(attempt.job_id, event, now=self._clock(), leg=attempt.leg),
        )


def _record_fields(
    operation: Operation, body: Mapping[str, Any], parked: Parked | None
) -> dict[str, str | float]:
    fields: dict[str, str | float] = {"operation": operation.name}
    if parked is not None:
        fields |= {"parked": parked.message, **parked.place}
    clip = body.get(operation.clip_field or "")
    if isinstance(clip, str):
        fields["clip_id"] = clip
    return fields
