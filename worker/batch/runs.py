"""Use cases: submit a batch, cancel it, retry its failed jobs.

The command line, the desk and the timetable call it. The id of each job follows from its batch and
its row, so a run that is repeated finds the jobs of the one before, and no job is paid twice.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from worker import tracing
from worker.batch.ledger import Ledger, Phase
from worker.batch.matching import Cancelled, Matching, Retrying, cancel_slice
from worker.batch.rows import BatchRow, BatchRows
from worker.core.batch import Row, row_id
from worker.core.batch.flows import Plan
from worker.core.contract import BATCH_HEADER, PRIORITY_HEADER, TENANT_HEADER
from worker.core.job.models import JobId
from worker.core.overview import Filter
from worker.engine.cancel import Cancellations
from worker.messages.flow import Flow, lay_out

_PAGE: Final = 100
Progress = Callable[[int], None]
"""Called with the number of rows that have been seen to."""


class Enqueue(Protocol):
    """Enqueues a flow under the id of its first job; once, however often it is called."""

    def __call__(self, plan: Plan, *, job_id: str, headers: Mapping[str, str]) -> Flow: ...


@dataclass(slots=True)
class Submission:
    """The outcome of one run of a batch."""

    submitted: int = 0
    present: int = 0
    """Rows that an earlier run had submitted."""
    cancelled: bool = False
    """The batch was cancelled meanwhile: its submitted jobs end, the other rows were left out."""


class Runs:
    """Runs batches. All methods may be interrupted at any line, and begun again."""

    def __init__(
        self,
        *,
        enqueue: Enqueue,
        ledger: Ledger,
        rows: BatchRows,
        cancellations: Cancellations,
        matching: Matching,
    ) -> None:
        self._enqueue = enqueue
        self._ledger = ledger
        self._rows = rows
        self._cancellations = cancellations
        self._matching = matching

    def submit(
        self, batch_id: str, rows: Iterable[Row], progress: Progress = lambda _: None
    ) -> Submission:
        """Submit the rows of a manifest that are not on record yet, each as one flow.

        Raises StoreUnavailable; kombu's OperationalError if the broker cannot be reached.
        """
        done, position = Submission(), 0
        for page in _pages(rows):
            if self._ledger.is_cancelled(batch_id):
                done.cancelled = True
                return done
            new = self.submit_page(batch_id, page)
            done.submitted += new
            done.present += len(page) - new
            position += len(page)
            progress(position)
        done.cancelled = not self.finish(batch_id)
        return done

    def finish(self, batch_id: str) -> bool:
        """Note that all rows were submitted; False if the batch was cancelled meanwhile."""
        self._ledger.enter(batch_id, Phase.SUBMITTED, only_from=Phase.SUBMITTING)
        return not self._ledger.is_cancelled(batch_id)

    def submit_page(self, batch_id: str, page: list[Row]) -> int:
        """Submit a few rows; returns how many were new."""
        booked = [_batch_row(row, row_id(batch_id, row)) for row in page]
        submitted = self._rows.submitted(batch_id, booked)
        missing = (entry for entry, present in zip(booked, submitted, strict=True) if not present)
        # Announce first: if somebody cancels the batch meanwhile, ``cancel`` finds these jobs.
        self._rows.announce(batch_id, missing)
        self._ledger.note_tenants(batch_id, {row.tenant for row in page})
        for row, entry, present in zip(page, booked, submitted, strict=True):
            if not present:
                self._enqueue_row(batch_id, row, row.plan, job_id=entry.row_id)
        # Book last: a row that is booked was submitted. If this process dies in between, the next
        # run finds the row's first job on record, and books it.
        self._rows.book(batch_id, booked)
        return len(page) - sum(submitted)

    def _enqueue_row(self, batch_id: str, row: Row, plan: Plan, *, job_id: JobId) -> Flow:
        """Enqueue a row in a trace of its own: thousands in one could not be looked at."""
        with tracing.root("row", link=tracing.traceparent(), batch=batch_id, job_id=job_id):
            return self._enqueue(plan, job_id=job_id, headers=_headers(batch_id, row))

    def cancel(self, batch_id: str, *, by: str, cursor: str | None = None) -> Cancelled:
        """Cancel the jobs that are under way, for as long as a slice lasts.

        A batch that is over is marked as cancelled, too: a retry of what failed, or a second
        submission of its manifest, may be under way, and what that begins is to end.

        Args:
            cursor: that of the slice before.

        Raises UnknownBatch, StoreUnavailable, WrongCursor.
        """
        self._ledger.read(batch_id)
        # From here on, a job that begins ends by itself, and the scan below finds those that have
        # begun. The other order would miss a job that begins during the scan.
        self._ledger.cancel(batch_id)
        found = self._rows.to_cancel(batch_id, cursor)
        return cancel_slice(self._cancellations, found, by=by)

    def retry(
        self,
        batch_id: str,
        *,
        by: str,
        even_if_paid: bool = False,
        cursor: str | None = None,
        tenant: str | None = None,
    ) -> Retrying:
        """Run the failed jobs again, for as long as a slice lasts; what is to follow them follows.

        No job that succeeded is paid again. Nor is a failed job whose result came late.

        Args:
            even_if_paid: retry also what the provider may have charged for.
            cursor: that of the slice before.
            tenant: whose batch it is, if its tenant asks.

        Raises UnknownBatch, StoreUnavailable, WrongCursor.
        """
        self._ledger.read(batch_id)
        if cursor is None:
            # A cancelled batch goes on, or its retried jobs would end as soon as they begin. If it
            # is cancelled after this, it stays so: later slices retry nothing.
            self._ledger.enter(batch_id, Phase.SUBMITTED, only_from=Phase.CANCELLED)
        return self._matching.retry(
            Filter(batch=batch_id, tenant=tenant),
            by=by,
            even_if_paid=even_if_paid,
            cursor=cursor,
            own=tenant is not None,
        )


def _pages(rows: Iterable[Row]) -> Iterator[list[Row]]:
    remaining = iter(rows)
    while page := list(itertools.islice(remaining, _PAGE)):
        yield page


def _headers(batch_id: str, row: Row) -> dict[str, str]:
    lane = {PRIORITY_HEADER: row.priority.value, TENANT_HEADER: row.tenant}
    return lane | {BATCH_HEADER: batch_id}


def _batch_row(row: Row, job_id: JobId) -> BatchRow:
    trunk, branches = lay_out(job_id, row.plan)
    steps = (*trunk, *(step for branch in branches for step in branch))
    return BatchRow(job_id, row.line, row.name, row.key, steps)
