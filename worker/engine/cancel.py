"""Use case: cancel a job, wherever it stands, so that its canvas ends natively."""

from enum import StrEnum
from typing import Final

from worker.core.errors import JobCancelled
from worker.core.job.models import Event, JobId, Source
from worker.core.job.states import TERMINAL, JobState
from worker.core.ports import Clock, Records

WAITS_SECONDS: Final = 14 * 86400
"""How long a cancellation waits for a job that has no record yet."""

_ATTEMPTS: Final = 3

_IN_TURN: Final = (JobState.QUEUED, JobState.HELD, JobState.ADMITTED)
"""Before the gate, or on the way from there: there may be any number of them."""


class Cancellation(StrEnum):
    """What became of a request to cancel."""

    ENDING = "ending"
    """The job fails with JobCancelled now."""
    WAITING = "waiting"
    """No worker has begun it: it fails with JobCancelled as soon as one takes its message."""
    TOO_LATE = "too late"
    """It has settled, or is just about to."""


class Cancellations:
    """Cancels jobs. What the provider then still delivers is kept on the record."""

    def __init__(self, records: Records, clock: Clock) -> None:
        self._records = records
        self._clock = clock

    def cancel(self, job_id: JobId, *, by: str) -> Cancellation:
        """Cancel a job: a parked, queued or held one ends with JobCancelled.

        Raises StoreUnavailable.
        """
        event = Event(Source.CANCEL, error=cancelled(job_id, by).to_json())
        marked = False
        for _ in range(_ATTEMPTS):
            # With the mark there is nothing left to do: its leg sees it before it submits.
            if self._records.claim(job_id, event, now=self._clock()) or marked:
                return Cancellation.ENDING
            state = self._mark(job_id, by, None, retain_seconds=WAITS_SECONDS)
            if state is None:
                return Cancellation.WAITING
            if state in TERMINAL or state is JobState.RESUMING:
                break
            # It got its record between the two, or its leg has only just begun.
            marked = state is JobState.SUBMITTING
            self._mark(job_id, by, JobState.SUBMITTING)
        return Cancellation.TOO_LATE

    def cancel_in_turn(self, job_id: JobId, *, by: str) -> Cancellation:
        """Cancel one of many jobs: the sweep ends them, a few at a time (lease_due.lua).

        Thousands that are ready at once would keep the jobs waiting whose webhooks come.

        Raises StoreUnavailable.
        """
        now, fields = self._clock(), {"cancelled_by": by}
        state = self._records.note(
            job_id,
            now=now,
            what="cancellation",
            why=by,
            sources=_IN_TURN,
            due_at=now,
            fields=fields,
        )
        return Cancellation.ENDING if state in _IN_TURN else self.cancel(job_id, by=by)

    def _mark(
        self, job_id: JobId, by: str, source: JobState | None, *, retain_seconds: int | None = None
    ) -> JobState | None:
        """Mark a job that cannot be resumed yet, if it is in a state; returns the one it is in."""
        return self._records.note(
            job_id,
            now=self._clock(),
            what="cancellation",
            why=by,
            sources=(source,),
            fields={"cancelled_by": by},
            retain_seconds=retain_seconds,
        )


def cancelled(job_id: JobId, by: str) -> JobCancelled:
    """Say who cancelled a job."""
    return JobCancelled(f"{job_id} was cancelled by {by}")
