"""Adapter: what a batch consists of, and what became of it, in Redis."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, cast

from worker.core import keys
from worker.core.errors import UnknownBatch
from worker.core.models import JobId, JSONObject
from worker.core.states import TERMINAL, JobState
from worker.flow import Step

if TYPE_CHECKING:
    from redis import Redis

_PAGE: Final = 200
_ERROR: Final = "error:"


class Phase(StrEnum):
    """How far a batch has come."""

    SUBMITTING = "submitting"
    SUBMITTED = "submitted"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch as it stands; credits are list prices."""

    batch_id: str
    phase: Phase
    created_at: float
    rows: int
    expected_jobs: int
    expected_credits: float
    jobs: int
    """Those on record: a follow-up is not, until the job before it has succeeded."""
    ended: Mapping[JobState, int]
    spent: float
    errors: Mapping[str, int]
    """How many jobs failed, by the type of the error."""

    @property
    def live(self) -> int:
        return self.jobs - sum(self.ended.values())

    @property
    def done(self) -> bool:
        return self.phase is not Phase.SUBMITTING and self.live == 0

    def to_json(self) -> JSONObject:
        described: JSONObject = {name: getattr(self, name) for name in self.__slots__}
        return described | {"live": self.live, "done": self.done}


@dataclass(frozen=True, slots=True)
class LedgerRow:
    """A row that was submitted: the jobs that it consists of."""

    row_id: JobId
    """The id of its first job, before any of it was retried."""
    line: int
    name: str
    key: str | None
    steps: tuple[Step, ...]

    def dumps(self) -> str:
        places = {step.job_id: place for place, step in enumerate(self.steps)}
        steps = [(s.job_id, s.operation, places.get(s.after or JobId(""))) for s in self.steps]
        return json.dumps([self.row_id, self.name, self.key, steps], separators=(",", ":"))

    @classmethod
    def loads(cls, text: str, line: int) -> "LedgerRow":
        row_id, name, key, stored = json.loads(text)
        steps = tuple(
            Step(JobId(job_id), operation, None if after is None else JobId(stored[after][0]))
            for job_id, operation, after in stored
        )
        return cls(row_id, line, name, key, steps)


@dataclass(frozen=True, slots=True)
class Job:
    """What a batch shows of a job; its state is None where it has not begun."""

    state: JobState | None
    result: JSONObject | None = field(default=None, repr=False)
    error: JSONObject | None = None
    cost: float = 0

    @property
    def failed(self) -> bool:
        return self.state in TERMINAL and self.state is not JobState.SUCCEEDED


class Ledger:
    """The batches. Every method raises StoreUnavailable where Redis cannot be reached."""

    def __init__(self, redis: "Redis", retain_seconds: int) -> None:
        self._redis = redis
        self._retain_seconds = retain_seconds

    def open(
        self, batch_id: str, *, now: float, rows: int, expected_jobs: int, expected_credits: float
    ) -> None:
        """Begin a batch, or go on with it."""
        batch = keys.BATCH + batch_id
        expected: dict[Any, Any] = {"rows": rows, "expected_jobs": expected_jobs}
        with self._redis.pipeline() as pipe:
            pipe.hsetnx(batch, "created_at", str(now))
            pipe.hset(batch, mapping=expected | {"expected_credits": expected_credits})
            pipe.hset(batch, "phase", Phase.SUBMITTING)
            pipe.zadd(keys.BATCHES, {batch_id: now})
            pipe.zremrangebyscore(keys.BATCHES, "-inf", now - self._retain_seconds)
            pipe.expire(batch, self._retain_seconds)
            pipe.execute()

    def is_cancelled(self, batch_id: str) -> bool:
        return self._redis.hget(keys.BATCH + batch_id, "phase") == Phase.CANCELLED

    def enter(self, batch_id: str, phase: Phase) -> None:
        self._redis.hset(keys.BATCH + batch_id, "phase", phase)

    def book(self, batch_id: str, rows: Iterable[LedgerRow]) -> None:
        """Write down rows that were submitted."""
        with self._redis.pipeline() as pipe:
            pipe.zadd(keys.ROWS + batch_id, {row.dumps(): row.line for row in rows})
            pipe.expire(keys.ROWS + batch_id, self._retain_seconds)
            pipe.execute()

    def submitted(self, batch_id: str, rows: Sequence[LedgerRow]) -> list[bool]:
        """Say of each row whether it was submitted: it is booked, or its first job is on record."""
        with self._redis.pipeline(transaction=False) as pipe:
            for row in rows:
                pipe.zscore(keys.ROWS + batch_id, row.dumps())
                pipe.hexists(keys.job(row.row_id), "state")
            found = pipe.execute()
        pairs = zip(found[::2], found[1::2], strict=True)
        return [line is not None or bool(state) for line, state in pairs]

    def replace(self, batch_id: str, row: LedgerRow, by: LedgerRow) -> None:
        """Let another row stand for one: some of its jobs were submitted anew."""
        with self._redis.pipeline() as pipe:
            pipe.zrem(keys.ROWS + batch_id, row.dumps())
            pipe.zadd(keys.ROWS + batch_id, {by.dumps(): row.line})
            pipe.execute()

    def read(self, batch_id: str) -> Batch:
        """Read what became of a batch so far.

        Raises UnknownBatch.
        """
        stored = cast("dict[str, str]", self._redis.hgetall(keys.BATCH + batch_id))
        if "phase" not in stored:
            raise UnknownBatch(f"there is no batch {batch_id}: see `fermata batch list`")
        ended = {state: int(stored.get(state, 0)) for state in JobState if state in TERMINAL}
        errors = {n.removeprefix(_ERROR): int(c) for n, c in stored.items() if n.startswith(_ERROR)}
        return Batch(
            batch_id=batch_id,
            phase=Phase(stored["phase"]),
            created_at=float(stored["created_at"]),
            rows=int(stored["rows"]),
            expected_jobs=int(stored["expected_jobs"]),
            expected_credits=float(stored["expected_credits"]),
            jobs=int(stored.get("jobs", 0)),
            ended=ended,
            spent=int(stored.get("spent", 0)) / 1000,
            errors=errors,
        )

    def recent(self, limit: int) -> list[Batch]:
        """Read the newest batches, newest first."""
        found = cast("list[str]", self._redis.zrange(keys.BATCHES, 0, limit - 1, desc=True))
        return [self.read(batch_id) for batch_id in found if self._exists(batch_id)]

    def _exists(self, batch_id: str) -> bool:
        return bool(self._redis.hexists(keys.BATCH + batch_id, "phase"))

    def rows(self, batch_id: str) -> Iterator[list[tuple[LedgerRow, list[Job]]]]:
        """Read the rows in the order of their lines, with their jobs, page by page."""
        start = 0
        while page := cast(
            "list[Any]",
            self._redis.zrange(keys.ROWS + batch_id, start, start + _PAGE - 1, withscores=True),
        ):
            rows = [LedgerRow.loads(text, int(line)) for text, line in page]
            jobs = iter(self.jobs([step.job_id for row in rows for step in row.steps]))
            yield [(row, [next(jobs) for _ in row.steps]) for row in rows]
            start += _PAGE

    def jobs(self, job_ids: Sequence[JobId]) -> list[Job]:
        """Read jobs, in one round trip."""
        with self._redis.pipeline(transaction=False) as pipe:
            for job_id in job_ids:
                pipe.hmget(keys.job(job_id), ["state", "result", "error", "cost"])
            return [_job(*found) for found in pipe.execute()]


def _job(state: str | None, result: str | None, error: str | None, cost: str | None) -> Job:
    return Job(
        state=JobState(state) if state else None,
        result=json.loads(result) if result else None,
        error=json.loads(error) if error else None,
        cost=int(cost or 0) / 1000,
    )
