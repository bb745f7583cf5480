"""Use cases: submit a batch, cancel it, retry its failed jobs.

The command line and the timetable call it. The id of each job follows from its batch and its row,
so a run that is repeated finds the jobs of the one before, and no job is paid twice.
"""

import itertools
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Protocol

from worker import tracing
from worker.batch.jobs import Job
from worker.batch.ledger import Ledger, Phase
from worker.batch.rows import BatchRow, BatchRows
from worker.core.batch import Row, row_id
from worker.core.batch.flows import Plan
from worker.core.contract import BATCH_HEADER, PRIORITY_HEADER, TENANT_HEADER
from worker.core.errors import InvalidRequest
from worker.core.job.canvas import Step
from worker.core.job.models import JobId
from worker.engine.cancel import Cancellation, Cancellations
from worker.messages.flow import Flow, lay_out

_PAGE: Final = 100
Progress = Callable[[int], None]
"""Called with the number of rows or jobs that have been seen to."""


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


@dataclass(slots=True)
class Retry:
    """The outcome of one retry."""

    retried: int = 0
    """Jobs that were submitted anew."""
    lost: list[int] = field(default_factory=list)
    """Lines of rows with a job that needs a result that is past its retention, or of no use."""
    late: list[int] = field(default_factory=list)
    """Lines of rows with a failed job whose result came afterwards: it is not bought again."""


class Runs:
    """Runs batches. All methods may be interrupted at any line, and begun again."""

    def __init__(
        self,
        *,
        enqueue: Enqueue,
        ledger: Ledger,
        rows: BatchRows,
        cancellations: Cancellations,
    ) -> None:
        self._enqueue = enqueue
        self._ledger = ledger
        self._rows = rows
        self._cancellations = cancellations

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

    def cancel(self, batch_id: str, *, by: str, progress: Progress = lambda _: None) -> int:
        """Cancel the jobs that are under way; returns how many.

        Raises UnknownBatch, StoreUnavailable.
        """
        self._ledger.read(batch_id)
        # From here on, a job that begins ends by itself, and the scan below finds those that have
        # begun. The other order would miss a job that begins during the scan.
        self._ledger.cancel(batch_id)
        cancelled = 0
        for job_id in self._rows.live_jobs(batch_id):
            outcome = self._cancellations.cancel_in_turn(job_id, by=by)
            cancelled += outcome is Cancellation.ENDING
            progress(cancelled)
        return cancelled

    def retry(
        self, batch_id: str, rows: Iterable[Row], progress: Progress = lambda _: None
    ) -> Retry:
        """Submit the failed jobs anew, and the jobs that follow them.

        No job that succeeded is paid again: a follow-up that failed takes the stored result of the
        job before it. Nor is a failed job whose result came late.

        Args:
            rows: the rows of the manifest, which have the parameters of the jobs.

        Raises UnknownBatch, StoreUnavailable.
        """
        self._ledger.read(batch_id)
        # A cancelled batch goes on, or its retried jobs would end as soon as they begin.
        self._ledger.enter(batch_id, Phase.SUBMITTED, only_from=Phase.CANCELLED)
        done = Retry()
        for page in _pages(rows):
            wanted = {row_id(batch_id, row): row for row in page}
            lines = {job_id: row.line for job_id, row in wanted.items()}
            for row, jobs in self._rows.find(batch_id, lines):
                self._retry_row(batch_id, wanted[row.row_id], row, jobs, done)
            progress(done.retried)
        return done

    def _retry_row(
        self, batch_id: str, wanted: Row, row: BatchRow, jobs: list[Job], done: Retry
    ) -> None:
        by_id = dict(zip((step.job_id for step in row.steps), jobs, strict=True))
        failed = [step for step in row.steps if by_id[step.job_id].failed]
        unpaid = [step for step in failed if not by_id[step.job_id].late]
        if len(unpaid) < len(failed):
            done.late.append(row.line)
        ready = [step for step in unpaid if step.after is None or by_id[step.after].result]
        if len(ready) < len(unpaid):
            done.lost.append(row.line)
        for step in ready:
            plan = _rest(wanted.plan, row, step, by_id)
            again = _again(step.job_id)
            try:
                enqueued = self._enqueue_row(batch_id, wanted, plan, job_id=again)
            except InvalidRequest:
                # The result has no such clip; that is no reason to leave out the other rows.
                done.lost.append(row.line)
                continue
            done.retried += 1
            renewed = _renewed(row, step, enqueued.steps)
            self._rows.replace(batch_id, row, renewed, by_id[step.job_id])
            if self._ledger.is_cancelled(batch_id):
                # A cancel that ran between ``_enqueue`` and ``replace`` did not find the new job.
                self._cancellations.cancel_in_turn(again, by="batch cancel")
            # ``replace`` compares with the row as it stands, so the next one starts from this.
            row = renewed


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


def _again(job_id: JobId) -> JobId:
    """Name the job that replaces a failed one: the same name each time, so it is paid once."""
    return JobId(str(uuid.uuid5(uuid.NAMESPACE_URL, f"fermata:again:{job_id}")))


def _rest(plan: Plan, row: BatchRow, step: Step, jobs: dict[JobId, Job]) -> Plan:
    """Plan the rest of a row, from one of its jobs on."""
    before = jobs[step.after].result if step.after else None
    place = [each.job_id for each in row.steps].index(step.job_id)
    if place == 0:
        return plan
    # The second operation of a flow has parameters of its own. Any later step takes a result alone.
    if place == 1 and plan.then:
        operation, parameters = plan.then
        return Plan(
            operation, parameters, source=before, branches=plan.branches, pick=plan.next_pick
        )
    following = _following(row, step)
    branches = (following,) if following else ()
    is_next = step.after == row.steps[0].job_id and not plan.then
    pick = plan.next_pick if is_next else None
    return Plan(step.operation, {}, source=before, branches=branches, pick=pick)


def _following(row: BatchRow, step: Step) -> tuple[str, ...]:
    after = {each.after: each for each in row.steps}
    operations: list[str] = []
    while step.job_id in after:
        step = after[step.job_id]
        operations.append(step.operation)
    return tuple(operations)


def _renewed(row: BatchRow, failed: Step, steps: tuple[Step, ...]) -> BatchRow:
    """Put new jobs in the place of a failed one and of all the jobs that follow it."""
    replaced = {failed.job_id}
    for step in row.steps:
        if step.after in replaced:
            replaced.add(step.job_id)
    place = [step.job_id for step in row.steps].index(failed.job_id)
    first = replace(steps[0], after=failed.after)
    kept_before = [step for step in row.steps[:place] if step.job_id not in replaced]
    kept_after = [step for step in row.steps[place:] if step.job_id not in replaced]
    return replace(row, steps=(*kept_before, first, *steps[1:], *kept_after))
