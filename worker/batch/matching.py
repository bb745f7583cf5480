"""Use cases: cancel, or run again, all jobs that match a filter, a slice at a time.

A filter may match 100,000 jobs, and no request may take minutes. So each call works for a few
seconds and says how many jobs are left, and its caller calls again until there are none. Nobody has
to remember how far it came: a job that was cancelled is not cancelled again, and one that was
retried is not retried again. If the caller or this process ends in between, nothing is lost.

What matches is found anew by each call. A caller that wants no job that comes meanwhile names a
time in its filter.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import islice
from time import monotonic
from typing import Final

from worker.core.errors import InvalidRequest, UnknownJob
from worker.core.job.models import JobId
from worker.core.job.states import LOST, UNSETTLED, JobState
from worker.core.overview import Filter, Row
from worker.core.providers import chosen
from worker.engine.cancel import Cancellation, Cancellations
from worker.messages.retry import PERHAPS_PAID, NotRetried, Retries
from worker.store.lists import Lists

SLICE_SECONDS: Final = 3.0
PRICE_SECONDS: Final = 1.0
MOST_COUNTED: Final = 10_000
"""So many of the jobs that are left are counted at most."""


@dataclass(slots=True)
class Cancelled:
    """What a slice cancelled."""

    ending: int = 0
    too_late: int = 0
    """Jobs that had ended, or had their result, when their turn came."""
    left: int = 0
    """Jobs for further slices, counted to :data:`MOST_COUNTED`."""


@dataclass(slots=True)
class Retrying:
    """What a slice ran again."""

    retried: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    """Why jobs were not retried, and how many."""
    left: int = 0
    """Jobs for further slices, counted to :data:`MOST_COUNTED`."""
    cursor: str | None = None
    """Where the next slice begins; None: none is left. Jobs that were refused are behind it."""


@dataclass(slots=True)
class Price:
    """What it would cost to retry: jobs and their list price, by what stands against it."""

    jobs: Counter[str] = field(default_factory=Counter)
    """By why they would be refused; by '' if they would run again."""
    credits: dict[str, float] = field(default_factory=dict)
    left: int = 0
    """Jobs that were not looked at, counted to :data:`MOST_COUNTED`."""

    @property
    def refused(self) -> dict[str, int]:
        """Why jobs cannot be retried whatever is accepted, and how many."""
        return {why: n for why, n in self.jobs.items() if why not in {"", PERHAPS_PAID}}

    def add(self, why: str, credits_: float) -> None:
        self.jobs[why] += 1
        self.credits[why] = self.credits.get(why, 0) + credits_


class Matching:
    """Changes all jobs that match a filter. Every method raises StoreUnavailable."""

    def __init__(self, *, lists: Lists, cancellations: Cancellations, retries: Retries) -> None:
        self._lists = lists
        self._cancellations = cancellations
        self._retries = retries

    def count(self, wanted: Filter) -> int:
        """Count the jobs that would be cancelled, to :data:`MOST_COUNTED`."""
        return _count(self._to_cancel(wanted))

    def cancel(self, wanted: Filter, *, by: str) -> Cancelled:
        """Cancel jobs that have not ended."""
        return cancel_slice(self._cancellations, self._to_cancel(wanted), by=by)

    def _to_cancel(self, wanted: Filter) -> Iterator[JobId]:
        # In the order in which a job passes its states: one that moves on meanwhile is not missed.
        for state in JobState:
            if state in wanted.states & UNSETTLED:
                found = self._lists.select(replace(wanted, state=state))
                yield from (row.job_id for row in found if row.cancelled_by is None)

    def price(self, wanted: Filter, *, own: bool = False) -> Price:
        """Say what would run again, for how much; it looks at some jobs, and counts the others."""
        found, price = self._to_retry(wanted, None, own=own), Price()
        until: float | None = None
        for _, row in found:
            until = until or monotonic() + PRICE_SECONDS
            operation = chosen().operations.get(row.operation)
            try:
                why = self._retries.refusal(row.job_id)
            except UnknownJob:
                continue
            price.add(why, operation.credits if operation else row.credits)
            if monotonic() > until:
                break
        price.left = _count(found)
        return price

    def retry(
        self,
        wanted: Filter,
        *,
        by: str,
        even_if_paid: bool = False,
        cursor: str | None = None,
        own: bool = False,
    ) -> Retrying:
        """Run jobs again that were lost; the rest of their flows follows.

        Args:
            cursor: that of the slice before.
            own: for the filter's tenant itself: no cursor names another tenant's job.

        Raises WrongCursor; OperationalError if the broker is away.
        """
        found, done = self._to_retry(wanted, cursor, own=own), Retrying()
        until: float | None = None
        for done.cursor, row in found:
            until = until or monotonic() + SLICE_SECONDS
            try:
                self._retries.retry(row.job_id, by=by, even_if_paid=even_if_paid)
                done.retried += 1
            except NotRetried as error:
                done.refused[error.why] += 1
            except InvalidRequest as error:
                # As an operation that is gone: no later slice could get past it.
                done.refused[error.message] += 1
            except UnknownJob:
                continue
            if monotonic() > until:
                break
        done.left = _count(found)
        if not done.left:
            done.cursor = None
        return done

    def _to_retry(
        self, wanted: Filter, cursor: str | None, *, own: bool
    ) -> Iterator[tuple[str, Row]]:
        lost = replace(wanted, among=LOST)
        found = self._lists.walk(lost, cursor=cursor, own=own)
        return (each for each in found if each[1].again is None)


def cancel_slice(cancellations: Cancellations, job_ids: Iterator[JobId], *, by: str) -> Cancelled:
    """Cancel jobs for as long as a slice lasts, at least one; counts the others."""
    counts, until = Counter[Cancellation](), 0.0
    for job_id in job_ids:
        # To find the first one may take a while, if most were cancelled by earlier slices.
        until = until or monotonic() + SLICE_SECONDS
        counts[cancellations.cancel_in_turn(job_id, by=by)] += 1
        if monotonic() > until:
            break
    ending, late = counts[Cancellation.ENDING], counts[Cancellation.TOO_LATE]
    return Cancelled(ending, late, _count(job_ids))


def _count(left: Iterable[object]) -> int:
    return sum(1 for _ in islice(left, MOST_COUNTED))
