"""Use case: cancel a job in any state, so that its canvas ends natively.

``AsyncResult.revoke()``, ``fermata cancel`` and ``fermata batch cancel`` end here. A parked job is
claimed with JobCancelled, and its resumed leg raises that error, so chords and errbacks hear of it.
A job that has no record yet, or whose submit leg has not announced it, is only marked: the leg sees
the mark before it calls the provider.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
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
"""States of jobs that no leg has in hand: in a queue, or held. There may be any number of them."""


class Cancellation(StrEnum):
    """What became of a request to cancel."""

    ENDING = "ending"
    """The job fails with JobCancelled now."""
    WAITING = "waiting"
    """The job has no record: it fails with JobCancelled as soon as a worker takes its message."""
    TOO_LATE = "too late"
    """The job has settled, or its event has claimed it already."""


class Cancellations:
    """Cancels jobs. If the provider still delivers a song, the record keeps it."""

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
            # If the claim fails and the mark is set, the submit leg ends the job: it sees the mark
            # before it calls the provider.
            if self._records.claim(job_id, event, now=self._clock()) or marked:
                return Cancellation.ENDING
            state = self._mark(job_id, by, None, retain_seconds=WAITS_SECONDS)
            if state is None:
                return Cancellation.WAITING
            if state in TERMINAL or state is JobState.RESUMING:
                break
            # The claim failed, and yet there is a record. The job got it in between, or its submit
            # leg has begun and not announced: then mark it. Claim once more in either case.
            marked = state is JobState.SUBMITTING
            self._mark(job_id, by, JobState.SUBMITTING)
        return Cancellation.TOO_LATE

    def cancel_in_turn(self, job_id: JobId, *, by: str) -> Cancellation:
        """Cancel one of many jobs: the sweep ends them, a few at a time (lease_due.lua).

        Thousands of jobs that become ready at once would delay the jobs whose webhooks arrive.

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

    def cancel_all(self, job_ids: Iterable[JobId], *, by: str) -> Mapping[Cancellation, int]:
        """Cancel many jobs, each in its turn; counts what became of the requests.

        Raises StoreUnavailable.
        """
        return Counter(self.cancel_in_turn(job_id, by=by) for job_id in job_ids)

    def _mark(
        self, job_id: JobId, by: str, source: JobState | None, *, retain_seconds: int | None = None
    ) -> JobState | None:
        """Mark a job that cannot be resumed yet, if its state is ``source``; returns its state."""
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
