"""Use cases: submit a batch, cancel it, retry what failed of it."""

import itertools
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Protocol

from worker.batch.ledger import Job, Ledger, LedgerRow, Phase
from worker.core.batch import Row, row_id
from worker.core.batch.flows import Plan
from worker.core.contract import BATCH_HEADER, PRIORITY_HEADER, TENANT_HEADER
from worker.core.job.canvas import Step
from worker.core.job.models import JobId
from worker.core.ports import Clock
from worker.engine.cancel import Cancellation, Cancellations
from worker.messages.flow import Flow, lay_out

_PAGE: Final = 100
Progress = Callable[[int], None]
"""Told how many rows have been looked at."""


class Enqueue(Protocol):
    """Enqueues a flow under the id of its first job; once, however often it is called."""

    def __call__(self, plan: Plan, *, job_id: str, headers: Mapping[str, str]) -> Flow: ...


@dataclass(slots=True)
class Submission:
    """What a run of a batch did."""

    submitted: int = 0
    present: int = 0
    """Rows that an earlier run had submitted."""
    cancelled: bool = False
    """The batch was cancelled meanwhile: what was submitted ends, and the rest was not."""


@dataclass(slots=True)
class Retry:
    """What a retry did."""

    retried: int = 0
    """Jobs that were submitted anew."""
    lost: list[int] = field(default_factory=list)
    """Lines of rows where a job needs a result that is past its retention."""
    late: list[int] = field(default_factory=list)
    """Lines of rows where a job failed whose result came afterwards: it is not bought again."""


class Runs:
    """Runs batches. All methods may be interrupted at any line, and begun again."""

    def __init__(
        self, enqueue: Enqueue, ledger: Ledger, cancellations: Cancellations, clock: Clock
    ) -> None:
        self._enqueue = enqueue
        self._ledger = ledger
        self._cancellations = cancellations
        self._clock = clock

    def submit(
        self, batch_id: str, rows: Iterable[Row], progress: Progress = lambda _: None
    ) -> Submission:
        """Submit the rows of a manifest that are not on record yet, each as one flow.

        Raises StoreUnavailable; kombu's OperationalError where the broker cannot be reached.
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
        """Say that all rows were submitted; False where the batch was cancelled meanwhile."""
        self._ledger.enter(batch_id, Phase.SUBMITTED, only_from=Phase.SUBMITTING)
        return not self._ledger.is_cancelled(batch_id)

    def submit_page(self, batch_id: str, page: list[Row]) -> int:
        """Submit a few rows; returns how many were new."""
        booked = [_ledger_row(row, row_id(batch_id, row)) for row in page]
        submitted = self._ledger.submitted(batch_id, booked)
        missing = (entry for entry, present in zip(booked, submitted, strict=True) if not present)
        # Written down first: whoever cancels the batch meanwhile finds what is submitted here.
        self._ledger.announce(batch_id, missing)
        for row, entry, present in zip(page, booked, submitted, strict=True):
            if not present:
                headers = _headers(batch_id, row)
                self._enqueue(row.plan, job_id=entry.row_id, headers=headers)
        # Written down last: a row that is booked was submitted. Should we die in between, the
        # next run finds its job on record, and books it.
        self._ledger.book(batch_id, booked)
        return len(page) - sum(submitted)

    def cancel(self, batch_id: str, *, by: str, progress: Progress = lambda _: None) -> int:
        """Cancel what is under way; returns how many jobs that were.

        Raises UnknownBatch, StoreUnavailable.
        """
        self._ledger.read(batch_id)
        # From here on, what begins ends by itself; what has begun is found.
        self._ledger.cancel(batch_id)
        cancelled = 0
        for job_id in self._ledger.live(batch_id):
            outcome = self._cancellations.cancel_in_turn(job_id, by=by)
            cancelled += outcome is Cancellation.ENDING
            progress(cancelled)
        return cancelled

    def retry(
        self, batch_id: str, rows: Iterable[Row], progress: Progress = lambda _: None
    ) -> Retry:
        """Submit anew the jobs that failed, and what follows them.

        What succeeded is not paid again: a follow-up that failed takes the result that the job
        before it had. Nor is what failed, and came late.

        Args:
            rows: the manifest's, for the parameters of the jobs.

        Raises UnknownBatch, StoreUnavailable.
        """
        self._ledger.read(batch_id)
        # A cancelled batch goes on when what was cancelled is retried.
        self._ledger.enter(batch_id, Phase.SUBMITTED, only_from=Phase.CANCELLED)
        done = Retry()
        for page in _pages(rows):
            wanted = {row_id(batch_id, row): row for row in page}
            lines = {job_id: row.line for job_id, row in wanted.items()}
            for row, jobs in self._ledger.find(batch_id, lines):
                self._retry_row(batch_id, wanted[row.row_id], row, jobs, done)
            progress(done.retried)
        return done

    def _retry_row(
        self, batch_id: str, wanted: Row, row: LedgerRow, jobs: list[Job], done: Retry
    ) -> None:
        by_id = dict(zip((step.job_id for step in row.steps), jobs, strict=True))
        failed = [step for step in row.steps if by_id[step.job_id].failed]
        unpaid = [step for step in failed if not by_id[step.job_id].late]
        if len(unpaid) < len(failed):
            done.late.append(row.line)
        ready = [step for step in unpaid if step.after is None or by_id[step.after].result]
        if len(ready) < len(unpaid):
            done.lost.append(row.line)
        done.retried += len(ready)
        for step in ready:
            plan = _rest(wanted.plan, row, step, by_id)
            again = _again(step.job_id)
            enqueued = self._enqueue(plan, job_id=again, headers=_headers(batch_id, wanted))
            renewed = _renewed(row, step, enqueued.steps)
            self._ledger.replace(batch_id, row, renewed, by_id[step.job_id])
            if self._ledger.is_cancelled(batch_id):
                # Whoever cancelled it just now may not have found the new job in its row.
                self._cancellations.cancel_in_turn(again, by="batch cancel")
            row = renewed


def _pages(rows: Iterable[Row]) -> Iterator[list[Row]]:
    remaining = iter(rows)
    while page := list(itertools.islice(remaining, _PAGE)):
        yield page


def _headers(batch_id: str, row: Row) -> dict[str, str]:
    lane = {PRIORITY_HEADER: row.priority.value, TENANT_HEADER: row.tenant}
    return lane | {BATCH_HEADER: batch_id}


def _ledger_row(row: Row, job_id: JobId) -> LedgerRow:
    trunk, branches = lay_out(job_id, row.plan)
    steps = (*trunk, *(step for branch in branches for step in branch))
    return LedgerRow(job_id, row.line, row.name, row.key, steps)


def _again(job_id: JobId) -> JobId:
    """Name the job that stands for another one: the same however often that is tried."""
    return JobId(str(uuid.uuid5(uuid.NAMESPACE_URL, f"fermata:again:{job_id}")))


def _rest(plan: Plan, row: LedgerRow, step: Step, jobs: dict[JobId, Job]) -> Plan:
    """Plan what is left of a row from one of its jobs on."""
    before = jobs[step.after].result if step.after else None
    place = [each.job_id for each in row.steps].index(step.job_id)
    if place == 0:
        return plan
    if place == 1 and plan.then:
        operation, parameters = plan.then
        return Plan(operation, parameters, source=before, branches=plan.branches)
    following = _following(row, step)
    return Plan(step.operation, {}, source=before, branches=(following,) if following else ())


def _following(row: LedgerRow, step: Step) -> tuple[str, ...]:
    after = {each.after: each for each in row.steps}
    operations: list[str] = []
    while step.job_id in after:
        step = after[step.job_id]
        operations.append(step.operation)
    return tuple(operations)


def _renewed(row: LedgerRow, failed: Step, steps: tuple[Step, ...]) -> LedgerRow:
    """Put new jobs in the place of a failed one and of all that would have followed it."""
    replaced = {failed.job_id}
    for step in row.steps:
        if step.after in replaced:
            replaced.add(step.job_id)
    place = [step.job_id for step in row.steps].index(failed.job_id)
    first = replace(steps[0], after=failed.after)
    kept_before = [step for step in row.steps[:place] if step.job_id not in replaced]
    kept_after = [step for step in row.steps[place:] if step.job_id not in replaced]
    return replace(row, steps=(*kept_before, first, *steps[1:], *kept_after))
