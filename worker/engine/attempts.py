"""Attempts: what a submit leg writes on its job's record, from its begin to its claim.

A leg first writes a record that can be resumed, announces the job, and only then submits it
(``submit.py``). After that request the leg alone knows the answer, so it repeats its writes until
Redis takes them. Each names the leg: Redis refuses it once another leg has begun. If the leg dies,
a sweep takes its job over.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from worker.core.job import timing
from worker.core.job.lanes import Lane, thousandths
from worker.core.job.models import Event, JobId, JobRecord, Parked, Shown, Standing
from worker.core.job.states import JobState, Turn
from worker.core.job.timing import Policy
from worker.core.ports import Clock, Gate, Readings, Records
from worker.core.wire import Operation, Postponed
from worker.engine.patience import insist

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Attempt:
    """One run of a job's submit leg."""

    job_id: JobId
    operation: Operation
    leg: str
    """Unique to this run. Redis refuses the writes of a run once another one has begun."""


class Attempts:
    """Writes what the legs of jobs do, each job's by one leg at a time."""

    def __init__(
        self,
        *,
        records: Records,
        readings: Readings,
        gate: Gate,
        policy: Policy,
        clock: Clock,
        jitter: Callable[[], float],
    ) -> None:
        self._records = records
        self._readings = readings
        self._gate = gate
        self._policy = policy
        self._clock = clock
        self._jitter = jitter

    def begin(
        self,
        attempt: Attempt,
        body: Mapping[str, Any],
        parked: Parked | None,
        lane: Lane,
        *,
        expires_at: float | None = None,
        unseen: bool = False,
    ) -> bool:
        """Write the record that can be resumed, before the provider hears of the job.

        Args:
            parked: the message that starts the job; None if the record has it already.
            expires_at: when the job expires, if the gate still holds it then.
            unseen: nobody has looked whether the job may begin: begin only if it has not begun
                before and is still wanted.

        Returns False if this leg must not submit: another has begun, or the job is held.

        Raises UnknownJob if Redis has lost the record that has the message.
        """
        now, operation = self._clock(), attempt.operation
        state = self.insist(
            attempt,
            lambda: self._records.begin(
                attempt.job_id,
                self._gate.bid(operation, lane, now=now, expires_at=expires_at),
                now=now,
                due_at=now + timing.submit_lease(operation, self._policy),
                deadline_at=timing.deadline(operation, self._policy, now=now),
                fields=_record_fields(operation, body, parked),
                leg=attempt.leg,
                unseen=unseen,
            ),
        )
        if state is None and parked is None:
            # The script refused, although the record should have the message. If the record is
            # gone, this read raises UnknownJob, and the task goes back to its queue.
            self._readings.read(attempt.job_id)
        return state is JobState.SUBMITTING

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

    def announce(self, attempt: Attempt, shown: Shown | None = None) -> Standing | None:
        """Note that the job's PARKED state is stored, and read where the job stands.

        From here on anybody may end the job. Returns None if the sweep has already declared this
        attempt dead.

        Args:
            shown: the state, if it is to be stored in the same step.

        Raises UnknownJob if Redis has lost the record since it was written.
        """
        return self._records.announce(attempt.job_id, attempt.leg, shown)

    def turn(self, attempt: Attempt, turn: Turn, *, due_at: float, **options: Any) -> bool:
        """Take a turn if the job's state allows it and no other leg has begun; says whether it did.

        Args:
            options: further ones of :meth:`Records.turn`.
        """
        now = self._clock()
        # If the reply was lost, Redis may already have applied the turn. Retrying is safe: the
        # script recognises our leg.
        return self.insist(
            attempt,
            lambda: self._records.turn(
                attempt.job_id, turn, now=now, due_at=due_at, leg=attempt.leg, **options
            ),
        )

    def postpone(self, attempt: Attempt, postponed: Postponed, *, count: str = "") -> None:
        """Put a job back that the provider has certainly not accepted.

        Args:
            count: a counter of the record to increment.
        """
        now, after = self._clock(), postponed.retry_after
        due_at = now + (after or 0)
        if postponed.backoff:
            attempts = self.read(attempt).attempts
            due_at = timing.backoff(attempts, after, now=now, jitter=self._jitter())
        self.turn(attempt, Turn.POSTPONE, due_at=due_at, why=postponed.reason, count=count)

    def claim(self, attempt: Attempt, event: Event) -> None:
        """Claim a job with an event that this leg has received."""
        self.insist(
            attempt,
            lambda: self._records.claim(attempt.job_id, event, now=self._clock(), leg=attempt.leg),
        )

    def read(self, attempt: Attempt) -> JobRecord:
        """Read the job's record."""
        return self.insist(attempt, lambda: self._readings.read(attempt.job_id))

    def insist(self, attempt: Attempt, write: Callable[[], _T]) -> _T:
        """Repeat a write for half the submit lease; after all of it, a sweep takes the job over."""
        seconds = timing.submit_lease(attempt.operation, self._policy) / 2
        return insist(
            write, unavailable=self._records.unavailable, seconds=seconds, clock=self._clock
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
