"""Adapter: lists of jobs, and the indexes behind them, in Redis or Valkey.

The scripts that change jobs keep the indexes (``lua/common/overview.lua``): a sorted set of jobs
for each state and operation, and one for each tenant. So nothing here scans all records, and a list
costs the same among 1,000 jobs and among 1,000,000. A filter that no index answers is checked on
the records, a bounded number at a time: a page says how many it has looked at, and where to go on.
"""

import contextlib
import heapq
import itertools
import math
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final, cast

from worker.core import keys
from worker.core.job.lanes import DEFAULT_TENANT, OTHER_TENANTS, tenant_of
from worker.core.job.models import JobId
from worker.core.job.states import TERMINAL, JobState
from worker.core.overview import Filter, Page, Row
from worker.store.scripts import Script

if TYPE_CHECKING:
    from redis import Redis

MOST_LOOKED_AT: Final = 1_000
"""So many records are looked at for one page at most."""
_CHUNK: Final = 200
_HEADS: Final = 2 * _CHUNK
"""If a list reads many indexes, it begins with so many places of them all together."""
_TRIM_EVERY_SECONDS: Final = 600
_STRAIGHTENED: Final = 500
"""So many jobs of each live state are looked at each time."""
_FIELDS: Final = (
    "operation", "state", "created_at", "lane", "cost", "batch",
    "error_type", "provider_task_id", "clip_id", "source", "again", "cancelled_by",
)  # fmt: skip
_SILENT_SECONDS: Final = 86400
"""A worker that was silent for so long is forgotten."""

_Found = tuple[float, str]
_FIRST: Final = (math.inf, "")


class WrongCursor(ValueError):
    """A cursor that no page has given."""


class Lists:
    """Lists jobs. Every method raises StoreUnavailable if Redis is away."""

    def __init__(self, redis: "Redis", *, named: Collection[str] = ()) -> None:
        """Read and keep the lists.

        Args:
            named: the tenants whose counters are kept although they have no jobs left.
        """
        self._redis = redis
        self._named = named
        self._index = Script(redis, "index_older")
        self._trim_state = Script(redis, "trim_state")
        self._trim_tenants = Script(redis, "trim_tenants")
        self._fold_credits = Script(redis, "fold_credits")

    def page(
        self,
        wanted: Filter,
        *,
        cursor: str | None = None,
        limit: int = 25,
        own: bool = False,
    ) -> Page:
        """List jobs that match a filter.

        If a state, an operation or an error is given, the jobs that reached their state last come
        first; else the newest.

        Args:
            cursor: of the page before.
            own: for the filter's tenant itself: only its own jobs are looked at, the newest first.
                So a cursor tells it nothing about others.

        Raises WrongCursor.
        """
        rows: list[Row] = []
        looked_at, last = 0, None
        for behind, row in self.walk(wanted, cursor=cursor, own=own):
            if len(rows) == limit or looked_at == MOST_LOOKED_AT:
                return Page(rows, last, looked_at)
            looked_at, last = looked_at + 1, behind
            if row:
                rows.append(row)
        return Page(rows, None, looked_at)

    def select(self, wanted: Filter) -> Iterator[Row]:
        """Yield every job that matches a filter, however many.

        A job that reaches another state meanwhile may be left out.
        """
        return (row for _, row in self.walk(wanted) if row)

    def turned(self, wanted: Filter, *, since: float) -> Iterator[Row]:
        """Yield every job that matches and has reached its state since then."""
        chosen = self._indexes(wanted, by_tenant=False)
        found = (place for index in chosen for place in _down(self._redis, index, _FIRST, since))
        return (row for _, row in self._read(wanted, found) if row)

    def walk(
        self, wanted: Filter, *, cursor: str | None = None, own: bool = False
    ) -> Iterator[tuple[str, Row | None]]:
        """Yield every job that matches, in the order of its pages, each with the cursor behind it.

        None stands for a job that was looked at and does not match. So a caller can end a search
        that takes long, and go on later.

        Raises WrongCursor.
        """
        by_tenant, after = _read_cursor(cursor)
        if own and wanted.tenant:
            by_tenant = True
        elif by_tenant is None:
            by_tenant = self._is_smaller_by_tenant(wanted)
        chosen = self._indexes(wanted, by_tenant=by_tenant)
        if wanted.until is not None and (by_tenant or chosen == [keys.JOBS]):
            after = min(after, (wanted.until, ""))  # these are in the order of their recording
        head = min(_CHUNK, 1 + _HEADS // max(len(chosen), 1))
        each = (_down(self._redis, index, after, wanted.since, head=head) for index in chosen)
        for place, row in self._read(wanted, heapq.merge(*each, reverse=True)):
            yield _cursor(place, by_tenant=by_tenant), row

    def _read(self, wanted: Filter, found: Iterator[_Found]) -> Iterator[tuple[_Found, Row | None]]:
        """Read the jobs at some places; None: there is none that matches."""
        while chunk := list(itertools.islice(found, _CHUNK)):
            for place, row in zip(chunk, self._rows([each for _, each in chunk]), strict=True):
                yield place, row if row and wanted.matches(row) else None

    def rows(self, job_ids: Sequence[str]) -> list[Row]:
        """Read those of some jobs that have a record."""
        return [row for row in self._rows(job_ids) if row]

    def _is_smaller_by_tenant(self, wanted: Filter) -> bool:
        """Say whether the index of a filter's tenant is smaller than the others that fit."""
        if wanted.tenant is None:
            return False
        tenants, others = [_of_tenant(wanted.tenant)], self._indexes(wanted, by_tenant=False)
        return others == [keys.JOBS] or _size(self._redis, tenants) < _size(self._redis, others)

    def _indexes(self, wanted: Filter, *, by_tenant: bool) -> list[str]:
        """Name the indexes that have every job that matches a filter."""
        if by_tenant and wanted.tenant is not None:
            return [_of_tenant(wanted.tenant)]
        if not wanted.operation and wanted.states == frozenset(JobState):
            return [keys.JOBS]
        return [
            f"{keys.STATES}:{name}"
            for name in indexes(self._redis)
            if named(name)[0] in wanted.states and wanted.operation in {None, named(name)[1]}
        ]

    def _rows(self, job_ids: Sequence[str]) -> list[Row | None]:
        with self._redis.pipeline(transaction=False) as pipe:
            for job_id in job_ids:
                pipe.hmget(keys.job(JobId(job_id)), _FIELDS)
            found = pipe.execute()
        return [_row(JobId(job_id), stored) for job_id, stored in zip(job_ids, found, strict=True)]

    def _complete(self) -> None:
        """Add the jobs to the indexes that were recorded before there were any. Done once."""
        if self._redis.exists(keys.INDEXED):
            return
        found = (job_id for job_id, _ in self._redis.zscan_iter(keys.JOBS, count=_CHUNK))
        while chunk := list(itertools.islice(found, _CHUNK)):
            self._add(chunk)
        self._redis.set(keys.INDEXED, str(time.time()))

    def forget(self, *, recorded_before: float, ended_before: float) -> None:
        """Keep the lists: drop the jobs that have expired, and tenants and workers that are gone.

        It is done once in a while, by one worker. The first time it also adds the jobs that an
        earlier version recorded.
        """
        if not self._redis.set(keys.TRIMMED, str(time.time()), nx=True, ex=_TRIM_EVERY_SECONDS):
            return
        self._complete()
        with self._redis.pipeline(transaction=False) as pipe:
            pipe.zremrangebyscore(keys.JOBS, "-inf", recorded_before)
            pipe.zremrangebyscore(keys.WORKERS, "-inf", time.time() - _SILENT_SECONDS)
            pipe.execute()
        for name in indexes(self._redis):
            if named(name)[0] in TERMINAL:
                self._redis.zremrangebyscore(f"{keys.STATES}:{name}", "-inf", ended_before)
            else:
                self._straighten(name)
        tenants = self._redis.sscan_iter(keys.TENANTS, count=_CHUNK)
        while chunk := list(itertools.islice(tenants, _CHUNK)):
            self._trim_tenants(tenants=keys.TENANTS, before=recorded_before, tenants_named=chunk)
        self._fold_credits(
            totals=keys.TOTALS,
            tenants=keys.TENANTS,
            other=OTHER_TENANTS,
            kept=[DEFAULT_TENANT, *self._named],
        )

    def _straighten(self, name: str) -> None:
        """Put the jobs of an index where they stand, if an earlier version has moved them."""
        moved = self._trim_state(
            states=keys.STATES, records=keys.RECORDS, name=name, most=_STRAIGHTENED
        )
        if moved:
            self._add(moved)

    def _add(self, job_ids: Sequence[str]) -> None:
        self._index(states=keys.STATES, tenants=keys.TENANTS, records=keys.RECORDS, job_ids=job_ids)


def _down(
    redis: "Redis", index: str, after: _Found, since: float | None, *, head: int = _CHUNK
) -> Iterator[_Found]:
    """Yield the members of a sorted set that come after one, from the highest score down.

    Each read goes on from the last member that was seen, and not by its number: meanwhile members
    may leave the set, as jobs do that the reader of a list cancels.

    Args:
        head: how many to read first; each read doubles it, up to a chunk.
    """
    lowest: Any = "-inf" if since is None else since
    size = head
    while True:
        found = cast(
            "list[tuple[str, float]]",
            redis.zrevrangebyscore(index, after[0], lowest, start=0, num=size, withscores=True),
        )
        places = [(score, job_id) for job_id, score in found]
        new = [place for place in places if place < after]
        yield from new
        if len(found) < size:
            return
        if new:
            after, size = new[-1], max(size, min(2 * size, _CHUNK))
        else:  # all of these have the score of the last one, and come before it
            size *= 2


def _size(redis: "Redis", indexes: Iterable[str]) -> int:
    with redis.pipeline(transaction=False) as pipe:
        for index in indexes:
            pipe.zcard(index)
        return sum(pipe.execute())


def _of_tenant(tenant: str) -> str:
    return f"{keys.TENANTS}:{tenant}"


def indexes(redis: "Redis") -> list[str]:
    """Name the indexes by state and operation that there are."""
    return sorted(cast("set[str]", redis.smembers(keys.STATES)))


def named(index: str) -> tuple[JobState, str]:
    """Return the state and the operation of such an index."""
    state, _, operation = index.partition(":")
    return JobState(state), operation


def _row(job_id: JobId, stored: Sequence[str | None]) -> Row | None:
    operation, state, created_at, lane, cost, batch, *rest = stored
    if state is None:
        return None
    lane = lane or ""
    return Row(
        job_id,
        operation or "",
        JobState(state),
        float(created_at or 0),
        tenant_of(lane),
        lane.partition(":")[0],
        float(cost or 0) / 1000,
        batch,
        *rest,
    )


def _cursor(place: _Found, *, by_tenant: bool) -> str:
    # A tenant's index has other times than those by state: a list goes on where it has begun.
    return f"{'t' if by_tenant else 's'}{place[0]!r}~{place[1]}"


def _read_cursor(cursor: str | None) -> tuple[bool | None, _Found]:
    """Return whether a list has begun in its tenant's index, and where it goes on."""
    if cursor is None:
        return None, _FIRST
    score, _, job_id = cursor[1:].partition("~")
    with contextlib.suppress(ValueError):
        if cursor[:1] in {"s", "t"} and math.isfinite(at := float(score)):
            return cursor[0] == "t", (at, job_id)
    raise WrongCursor("this cursor is not one that a page has given")
