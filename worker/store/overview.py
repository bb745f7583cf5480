"""Adapter: what people look at, read from Redis or Valkey.

The scripts that change jobs keep indexes and counters (``lua/common/overview.lua``), so nothing
here scans all records, and a list costs the same among 1,000 jobs and among 1,000,000. A filter
that no index answers is checked on the records, a bounded number at a time: a page says how many it
has looked at, and where to go on.
"""

import contextlib
import heapq
import itertools
import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, cast

from worker.core import keys
from worker.core.job.lanes import DEFAULT_TENANT, tenant_of
from worker.core.job.models import JobId
from worker.core.job.states import TERMINAL, JobState
from worker.core.overview import Counts, Filter, GateView, Page, Row, Turned
from worker.store.scripts import Script

if TYPE_CHECKING:
    from redis import Redis

MOST_LOOKED_AT: Final = 2_000
"""So many records are looked at for one page at most."""
_CHUNK: Final = 200
_TRIM_EVERY_SECONDS: Final = 600
_FIELDS: Final = (
    "operation", "state", "created_at", "lane", "cost", "batch",
    "error_type", "provider_task_id", "clip_id", "source",
)  # fmt: skip
_CLASSES: Final = ("interactive", "interactive.slow", "batch", "batch.slow")
_SILENT_SECONDS: Final = 86400
"""A worker that was silent for so long is forgotten."""

_Found = tuple[float, str]


class Overview:
    """Reads indexes and counters. Every method raises StoreUnavailable if Redis is away."""

    def __init__(self, redis: "Redis") -> None:
        self._redis = redis
        self._index = Script(redis, "index_older")

    # Counters.

    def counts(self) -> dict[tuple[JobState, str], int]:
        """Count the jobs by state and operation."""
        names = self._indexes()
        with self._redis.pipeline(transaction=False) as pipe:
            for name in names:
                pipe.zcard(f"{keys.STATES}:{name}")
            sizes = pipe.execute()
        return {_named(name): size for name, size in zip(names, sizes, strict=True) if size}

    def oldest(self) -> dict[JobState, float]:
        """Return since when the oldest job of each live state stands there."""
        names = [name for name in self._indexes() if _named(name)[0] not in TERMINAL]
        with self._redis.pipeline(transaction=False) as pipe:
            for name in names:
                pipe.zrange(f"{keys.STATES}:{name}", 0, 0, withscores=True)
            firsts = pipe.execute()
        oldest: dict[JobState, float] = {}
        for name, first in zip(names, firsts, strict=True):
            state = _named(name)[0]
            for _, since in first:
                oldest[state] = min(since, oldest.get(state, math.inf))
        return oldest

    def totals(self) -> Counts:
        """Read the counters that only grow."""
        return _counts(self._redis.hgetall(keys.TOTALS))

    def minutes(self, *, now: float, count: int) -> list[Counts]:
        """Read the counters of the last minutes, this one included; the oldest first."""
        return self._spans(keys.MINUTES, int(now // 60), count)

    def days(self, *, now: float, count: int) -> list[Counts]:
        """Read the counters of the last days (UTC), today included; the oldest first."""
        return self._spans(keys.DAYS, int(now // 86400), count)

    def _spans(self, prefix: str, last: int, count: int) -> list[Counts]:
        with self._redis.pipeline(transaction=False) as pipe:
            for number in range(last - count + 1, last + 1):
                pipe.hgetall(f"{prefix}:{number}")
            return [_counts(found) for found in pipe.execute()]

    def workers(self) -> dict[str, float]:
        """Return the time of each worker's last sign of life."""
        found = self._redis.zrange(keys.WORKERS, 0, -1, withscores=True)
        return dict(cast("list[tuple[str, float]]", found))

    def gate(self) -> GateView:
        """Read how the gate stands."""
        with self._redis.pipeline(transaction=False) as pipe:
            pipe.hgetall(keys.GATE)
            pipe.zcard(keys.FLIGHT)
            for each in _CLASSES:
                pipe.zrange(keys.LANES + each, 0, -1)
            gate, in_flight, *tenants = pipe.execute()
        found = zip(_CLASSES, tenants, strict=True)
        lanes = [(each, tenant) for each, names in found for tenant in names]
        with self._redis.pipeline(transaction=False) as pipe:
            for each, tenant in lanes:
                pipe.zcard(f"{keys.HELD}{each}:{tenant}")
            sizes = pipe.execute()
        return GateView(
            closed_for=gate.get("breaker"),
            closed_at=_float(gate.get("closed_at")),
            probe_at=_float(gate.get("probe_at")) if "breaker" in gate else None,
            paused_by=gate.get("paused"),
            paused_at=_float(gate.get("paused_at")),
            in_flight=in_flight,
            credits=_credits_left(gate),
            waiting={lane: size for lane, size in zip(lanes, sizes, strict=True) if size},
        )

    # Lists.

    def page(self, wanted: Filter, *, cursor: str | None = None, limit: int = 25) -> Page:
        """List jobs that match a filter.

        If a state or an operation is given, the jobs that reached their state last come first; else
        the newest.

        Args:
            cursor: of the page before.

        Raises ValueError if the cursor is not one of ours.
        """
        found = self._walk(wanted, _read_cursor(cursor))
        rows: list[Row] = []
        looked_at, last = 0, None
        while looked_at < MOST_LOOKED_AT:
            chunk = list(itertools.islice(found, _CHUNK))
            for place, row in zip(chunk, self._rows([each for _, each in chunk]), strict=True):
                if len(rows) == limit:
                    return Page(rows, last, looked_at)
                looked_at, last = looked_at + 1, _cursor(place)
                if row and wanted.matches(row):
                    rows.append(row)
            if len(chunk) < _CHUNK:
                return Page(rows, None, looked_at)
        return Page(rows, last, looked_at)

    def select(self, wanted: Filter) -> Iterator[Row]:
        """Yield every job that matches a filter, however many.

        A job that reaches another state meanwhile may be left out.
        """
        found = self._walk(wanted, (math.inf, ""))
        while chunk := [job_id for _, job_id in itertools.islice(found, _CHUNK)]:
            yield from (row for row in self._rows(chunk) if row and wanted.matches(row))

    def rows(self, job_ids: Sequence[str]) -> list[Row]:
        """Read those of some jobs that have a record."""
        return [row for row in self._rows(job_ids) if row]

    def _walk(self, wanted: Filter, after: _Found) -> Iterator[_Found]:
        """Yield the jobs of the index that fits a filter best, the latest first."""
        indexes = [keys.JOBS]
        if wanted.state or wanted.operation:
            indexes = [
                f"{keys.STATES}:{name}"
                for name in self._indexes()
                if wanted.state in {None, _named(name)[0]}
                and wanted.operation in {None, _named(name)[1]}
            ]
        if wanted.tenant not in {None, DEFAULT_TENANT}:
            tenants = f"{keys.TENANTS}:{wanted.tenant}"
            if indexes == [keys.JOBS] or self._size([tenants]) < self._size(indexes):
                indexes = [tenants]
        return heapq.merge(
            *(self._down(index, after, wanted.since) for index in indexes), reverse=True
        )

    def _down(self, index: str, after: _Found, since: float | None) -> Iterator[_Found]:
        """Yield the members of a sorted set that come after one, from the highest score down."""
        lowest: Any = "-inf" if since is None else since
        for start in itertools.count(0, _CHUNK):
            found = cast(
                "list[tuple[str, float]]",
                self._redis.zrevrangebyscore(
                    index, after[0], lowest, start=start, num=_CHUNK, withscores=True
                ),
            )
            places = [(score, job_id) for job_id, score in found]
            yield from (place for place in places if place < after or after[0] == math.inf)
            if len(found) < _CHUNK:
                return

    def _indexes(self) -> list[str]:
        return sorted(cast("set[str]", self._redis.smembers(keys.STATES)))

    def _size(self, indexes: Iterable[str]) -> int:
        with self._redis.pipeline(transaction=False) as pipe:
            for index in indexes:
                pipe.zcard(index)
            return sum(pipe.execute())

    def _rows(self, job_ids: Sequence[str]) -> list[Row | None]:
        with self._redis.pipeline(transaction=False) as pipe:
            for job_id in job_ids:
                pipe.hmget(keys.job(JobId(job_id)), _FIELDS)
            found = pipe.execute()
        return [_row(JobId(job_id), stored) for job_id, stored in zip(job_ids, found, strict=True)]

    # What happens.

    def turns(self, *, after: str = "$", wait_seconds: float, limit: int = 500) -> list[Turned]:
        """Wait for turns of any job; returns them, or nothing when the time is over.

        Args:
            after: the last turn that was heard of; ``$``: the last one there is.
            wait_seconds: must be shorter than the timeout of the connection.
        """
        read = self._redis.xread({keys.TURNS: after}, count=limit, block=round(wait_seconds * 1000))
        return [
            Turned(turn_id, JobId(said["job"]), JobState(said["state"]), said["operation"],
                   said["tenant"])
            for _, entries in cast("list[Any]", read)
            for turn_id, said in entries
        ]  # fmt: skip

    def last_turn(self) -> str:
        """Return the id of the last turn; ``0-0`` if there was none."""
        last = cast("list[Any]", self._redis.xrevrange(keys.TURNS, count=1))
        return last[0][0] if last else "0-0"

    # Upkeep.

    def _complete(self) -> None:
        """Add the jobs to the indexes that were recorded before there were any. Done once."""
        if self._redis.exists(keys.INDEXED):
            return
        found = (job_id for job_id, _ in self._redis.zscan_iter(keys.JOBS, count=_CHUNK))
        while chunk := list(itertools.islice(found, _CHUNK)):
            self._index(
                states=keys.STATES, tenants=keys.TENANTS, records=keys.RECORDS, job_ids=chunk
            )
        self._redis.set(keys.INDEXED, str(time.time()))

    def forget(self, *, recorded_before: float, ended_before: float) -> None:
        """Keep the lists: drop the jobs that have expired, and the workers that are gone.

        It is done once in a while, by one worker. The first time it also adds the jobs that an
        earlier version recorded.
        """
        if not self._redis.set(keys.TRIMMED, str(time.time()), nx=True, ex=_TRIM_EVERY_SECONDS):
            return
        self._complete()
        ended = [name for name in self._indexes() if _named(name)[0] in TERMINAL]
        with self._redis.pipeline(transaction=False) as pipe:
            pipe.zremrangebyscore(keys.JOBS, "-inf", recorded_before)
            pipe.zremrangebyscore(keys.WORKERS, "-inf", time.time() - _SILENT_SECONDS)
            for name in ended:
                pipe.zremrangebyscore(f"{keys.STATES}:{name}", "-inf", ended_before)
            pipe.execute()
        tenants = self._redis.sscan_iter(keys.TENANTS, count=_CHUNK)
        while chunk := list(itertools.islice(tenants, _CHUNK)):
            with self._redis.pipeline(transaction=False) as pipe:
                for tenant in chunk:
                    pipe.zremrangebyscore(f"{keys.TENANTS}:{tenant}", "-inf", recorded_before)
                pipe.execute()


def _named(name: str) -> tuple[JobState, str]:
    state, _, operation = name.partition(":")
    return JobState(state), operation


def _counts(found: Any) -> Counts:
    return {tuple(name.split("/")): int(count) for name, count in found.items()}


def _float(text: str | None) -> float | None:
    return float(text) if text else None


def _credits_left(gate: Mapping[str, str]) -> float | None:
    """Return the balance, less what it does not know of (gate.lua); None if it is not known."""
    if "balance" not in gate:
        return None
    balance, spent, before, reserved = (
        int(gate.get(name, 0)) for name in ("balance", "spent", "spent_before", "reserved")
    )
    return (balance - (spent - before) - reserved) / 1000


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


def _cursor(place: _Found) -> str:
    return f"{place[0]!r}~{place[1]}"


def _read_cursor(cursor: str | None) -> _Found:
    if cursor is None:
        return math.inf, ""
    score, _, job_id = cursor.partition("~")
    with contextlib.suppress(ValueError):
        if math.isfinite(at := float(score)):
            return at, job_id
    raise ValueError("this cursor is not one that a page has given")
