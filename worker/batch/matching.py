"""Use cases: cancel, or run again, all jobs that match a filter, a slice at a time.

A filter may match 100,000 jobs, and no request may take minutes. So each call works for a few
seconds and returns a cursor, and its caller calls again with it until there is none. The cursor
only saves time. If it is lost, a caller begins anew: a job that was cancelled is not cancelled
again, and one that was retried is not retried again.

A caller that wants no job that comes meanwhile names a time in its filter.
"""

import contextlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import islice
from math import isfinite
from time import monotonic, time
from typing import Final

from worker.core.errors import InvalidRequest, UnknownJob
from worker.core.job.models import JobId
from worker.core.job.states import LOST, UNSETTLED, JobState
from worker.core.overview import Filter, Row
from worker.core.providers import chosen
from worker.engine.cancel import Cancellation, Cancellations
from worker.messages.retry import PERHAPS_PAID, NotRetried, Retries
from worker.store.lists import Lists, WrongCursor

SLICE_SECONDS: Final = 3.0
MOST_COUNTED: Final = 1_000
"""So many jobs are looked at to count those that match: a person waits for the number."""
MOST_PRICED: Final = 250
"""So many jobs are looked at to price those that would run again."""
_CLOCKS_DIFFER: Final = 60
"""Seconds by which the clock of a worker may be behind, and more."""

ToCancel = Iterator[tuple[str, JobId | None]]
"""Jobs to cancel, each with the cursor behind it; None: a job that was looked at and is none."""


@dataclass(frozen=True, slots=True)
class Left:
    """How many jobs are left."""

    jobs: int = 0
    more: bool = False
    """There may be more: the rest was not looked at."""


@dataclass(slots=True)
class Cancelled:
    """What a slice cancelled."""

    ending: int = 0
    too_late: int = 0
    """Jobs that had ended, or had their result, when their turn came."""
    left: Left = Left()
    cursor: str | None = None
    """Where the next slice begins; None: none is left."""

    def add(self, outcome: Cancellation) -> None:
        self.ending += outcome is Cancellation.ENDING
        self.too_late += outcome is Cancellation.TOO_LATE


@dataclass(slots=True)
class Retrying:
    """What a slice ran again."""

    retried: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    """Why jobs were not retried, and how many."""
    left: Left = Left()
    cursor: str | None = None
    """Where the next slice begins; None: none is left. Jobs that were refused are behind it."""


@dataclass(slots=True)
class Price:
    """What it would cost to retry: jobs and their list price, by what stands against it."""

    jobs: Counter[str] = field(default_factory=Counter)
    """By why they would be refused; by '' if they would run again."""
    credits: dict[str, float] = field(default_factory=dict)
    following: dict[str, float] = field(default_factory=dict)
    """The list price of the steps after them, which are paid for once these succeed."""
    left: Left = Left()
    """Jobs of which nobody has asked yet whether they can be retried."""

    @property
    def refused(self) -> dict[str, int]:
        """Why jobs cannot be retried whatever is accepted, and how many."""
        return {why: n for why, n in self.jobs.items() if why not in {"", PERHAPS_PAID}}

    def add(self, why: str, credits_: float, following: float) -> None:
        self.jobs[why] += 1
        self.credits[why] = self.credits.get(why, 0) + credits_
        self.following[why] = self.following.get(why, 0) + following


class Matching:
    """Changes all jobs that match a filter. Every method raises StoreUnavailable."""

    def __init__(self, *, lists: Lists, cancellations: Cancellations, retries: Retries) -> None:
        self._lists = lists
        self._cancellations = cancellations
        self._retries = retries

    def count(self, wanted: Filter, *, own: bool = False) -> Left:
        """Count the jobs that would be cancelled."""
        return count_left(self._to_cancel(wanted, None, own=own))

    def cancel(
        self, wanted: Filter, *, by: str, cursor: str | None = None, own: bool = False
    ) -> Cancelled:
        """Cancel jobs that have not ended.

        Args:
            cursor: that of the slice before.
            own: for the filter's tenant itself: no cursor names another tenant's job.

        Raises WrongCursor.
        """
        began, place = (time() - _CLOCKS_DIFFER, None) if cursor is None else _read_cursor(cursor)
        found = self._to_cancel(wanted, place, own=own)
        done = cancel_slice(self._cancellations, found, by=by)
        if done.cursor is not None:
            done.cursor = f"{began!r}/{done.cursor}"
        elif cursor is not None:
            # Jobs whose submission was postponed went back meanwhile, behind what was looked at.
            live = replace(wanted, among=UNSETTLED)
            for row in self._lists.turned(live, since=began):
                if row.cancelled_by is None:
                    done.add(self._cancellations.cancel_in_turn(row.job_id, by=by))
        return done

    def _to_cancel(self, wanted: Filter, cursor: str | None, *, own: bool) -> ToCancel:
        at, _, inner = (cursor or "").partition(":")
        # In the order in which a job passes its states: one that moves on meanwhile is not missed.
        states = [state for state in JobState if state in wanted.states & UNSETTLED]
        if cursor is not None:
            if at not in states:
                raise WrongCursor("this cursor is not one of this filter")
            states = states[states.index(JobState(at)) :]
        for state in states:
            begin = inner if state == at else None
            found = self._lists.walk(replace(wanted, state=state), cursor=begin, own=own)
            for behind, row in found:
                to_cancel = row.job_id if row and row.cancelled_by is None else None
                yield f"{state}:{behind}", to_cancel

    def price(self, wanted: Filter, *, own: bool = False, with_batch: str | None = None) -> Price:
        """Say what would run again, for how much; it looks at some jobs, and counts the others.

        Args:
            with_batch: the batch that is retried as a whole: it goes on if it was cancelled.
        """
        found, price = self._to_retry(wanted, None, own=own), Price()
        rows = {row.job_id: row for _, row in islice(found, MOST_PRICED) if row}
        for each in self._retries.prospects([*rows], with_batch=with_batch):
            row = rows[each.job_id]
            following = sum(_credits(step.operation) for step in each.following)
            price.add(each.why, _credits(row.operation, row.credits), following)
        price.left = count_left(found)
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
        until = monotonic() + SLICE_SECONDS
        for done.cursor, row in found:
            if row:
                self._retry(row.job_id, done, by=by, even_if_paid=even_if_paid)
            if monotonic() > until:
                break
        done.left = count_left(found)
        if done.left == Left():
            done.cursor = None
        return done

    def _retry(self, job_id: JobId, done: Retrying, *, by: str, even_if_paid: bool) -> None:
        try:
            self._retries.retry(job_id, by=by, even_if_paid=even_if_paid)
            done.retried += 1
        except NotRetried as error:
            done.refused[error.why] += 1
        except InvalidRequest as error:
            # As an operation that is gone: no later slice could get past it.
            done.refused[error.message] += 1
        except UnknownJob:
            pass

    def _to_retry(
        self, wanted: Filter, cursor: str | None, *, own: bool
    ) -> Iterator[tuple[str, Row | None]]:
        lost = replace(wanted, among=LOST)
        for behind, row in self._lists.walk(lost, cursor=cursor, own=own):
            yield behind, row if row and row.again is None else None


def _credits(operation: str, otherwise: float = 0) -> float:
    """Return the list price of an operation; if there is none of this name, the other one."""
    found = chosen().operations.get(operation)
    return found.credits if found else otherwise


def _read_cursor(cursor: str) -> tuple[float, str]:
    """Return when a cancellation began, and where it goes on."""
    began, _, place = cursor.partition("/")
    with contextlib.suppress(ValueError):
        if isfinite(at := float(began)):
            return at, place
    raise WrongCursor("this cursor is not one that a slice has given")


def cancel_slice(cancellations: Cancellations, found: ToCancel, *, by: str) -> Cancelled:
    """Cancel jobs for as long as a slice lasts; counts the others."""
    done, until = Cancelled(), monotonic() + SLICE_SECONDS
    for done.cursor, job_id in found:
        if job_id:
            done.add(cancellations.cancel_in_turn(job_id, by=by))
        if monotonic() > until:
            break
    done.left = count_left(found)
    if done.left == Left():
        done.cursor = None
    return done


def count_left(found: Iterator[tuple[str, object | None]]) -> Left:
    """Count the jobs that match among the next ones."""
    matching = [bool(each) for _, each in islice(found, MOST_COUNTED)]
    return Left(sum(matching), more=len(matching) == MOST_COUNTED)
