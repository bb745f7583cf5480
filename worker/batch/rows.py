"""The rows of batches, in Redis: which were submitted, and with which jobs.

A row is announced before it is submitted, and booked afterwards. A cancellation finds the jobs of
all rows that were announced. A row that is booked, or has its first job on record, is not submitted
again: the process that submitted it may have died before it booked it.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast

from worker.batch.jobs import Job, read_jobs
from worker.batch.matching import ToCancel
from worker.core import keys
from worker.core.job.canvas import Step
from worker.core.job.models import JobId
from worker.store.lists import WrongCursor

if TYPE_CHECKING:
    from redis import Redis

_PAGE: Final = 200


@dataclass(frozen=True, slots=True)
class BatchRow:
    """A row that was submitted, with its jobs."""

    row_id: JobId
    """The id of its first job, before any of it was retried."""
    line: int
    name: str
    key: str | None
    steps: tuple[Step, ...]
    """Of a job that was retried, the record names the one that runs in its place."""

    def dumps(self) -> str:
        """Write its name, key and jobs as JSON; Redis holds its id and line beside them."""
        # A job that another one follows is named by its place: that is shorter than its id.
        places = {step.job_id: place for place, step in enumerate(self.steps)}
        steps = [(s.job_id, s.operation, places.get(s.after or JobId(""))) for s in self.steps]
        return json.dumps([self.name, self.key, steps], separators=(",", ":"))

    @classmethod
    def loads(cls, row_id: JobId, text: str, line: int) -> "BatchRow":
        name, key, stored = json.loads(text)
        steps = tuple(
            Step(JobId(job_id), operation, None if after is None else JobId(stored[after][0]))
            for job_id, operation, after in stored
        )
        return cls(row_id, line, name, key, steps)


class BatchRows:
    """The rows. Every method raises StoreUnavailable if Redis cannot be reached."""

    def __init__(self, redis: "Redis", retain_seconds: int) -> None:
        self._redis = redis
        self._retain_seconds = retain_seconds

    def announce(self, batch_id: str, rows: Iterable[BatchRow]) -> None:
        """Write down the jobs of rows that are about to be submitted."""
        if jobs := {row.row_id: row.dumps() for row in rows}:
            with self._redis.pipeline() as pipe:
                pipe.hset(keys.ROW_JOBS + batch_id, mapping=cast("dict[Any, Any]", jobs))
                pipe.expire(keys.ROW_JOBS + batch_id, self._retain_seconds)
                pipe.execute()

    def book(self, batch_id: str, rows: Iterable[BatchRow]) -> None:
        """Write down rows that were announced, and submitted."""
        with self._redis.pipeline() as pipe:
            pipe.zadd(keys.ROWS + batch_id, {row.row_id: row.line for row in rows})
            for key in (keys.ROWS, keys.ROW_JOBS):
                pipe.expire(key + batch_id, self._retain_seconds)
            pipe.execute()

    def submitted(self, batch_id: str, rows: Sequence[BatchRow]) -> list[bool]:
        """Say for each row if it was submitted: it is booked, or its first job is on record."""
        with self._redis.pipeline(transaction=False) as pipe:
            for row in rows:
                pipe.zscore(keys.ROWS + batch_id, row.row_id)
                pipe.hexists(keys.job(row.row_id), "state")
            found = pipe.execute()
        pairs = zip(found[::2], found[1::2], strict=True)
        return [line is not None or bool(state) for line, state in pairs]

    def pages(self, batch_id: str) -> Iterator[list[tuple[BatchRow, list[Job]]]]:
        """Read the rows in the order of their lines, with their jobs, page by page."""
        start = 0
        while page := cast(
            "list[Any]",
            self._redis.zrange(keys.ROWS + batch_id, start, start + _PAGE - 1, withscores=True),
        ):
            yield self.find(batch_id, {JobId(row_id): int(line) for row_id, line in page})
            start += _PAGE

    def find(self, batch_id: str, lines: Mapping[JobId, int]) -> list[tuple[BatchRow, list[Job]]]:
        """Read the given rows, if the batch has them, with their jobs.

        Args:
            lines: the line of each row.
        """
        texts = cast("list[str | None]", self._redis.hmget(keys.ROW_JOBS + batch_id, list(lines)))
        pairs = zip(lines.items(), texts, strict=True)
        rows = [BatchRow.loads(row_id, text, line) for (row_id, line), text in pairs if text]
        jobs = iter(read_jobs(self._redis, [step.job_id for row in rows for step in row.steps]))
        return [(row, [next(jobs) for _ in row.steps]) for row in rows]

    def to_cancel(self, batch_id: str, cursor: str | None = None) -> ToCancel:
        """Yield the jobs that may be cancelled, also those of rows that are being submitted.

        Each comes with the cursor of its page; behind each page comes None, with that of the next.

        Raises WrongCursor.
        """
        # HSCAN: rows that are announced meanwhile may be missed. Their jobs begin in a cancelled
        # batch, and so end by themselves.
        key, place = keys.ROW_JOBS + batch_id, _place(cursor)
        while True:
            after, page = cast(
                "tuple[int, dict[str, str]]", self._redis.hscan(key, place, count=_PAGE)
            )
            rows = [BatchRow.loads(JobId(row_id), text, 0) for row_id, text in page.items()]
            jobs = read_jobs(self._redis, [step.job_id for row in rows for step in row.steps])
            yield from ((str(place), job.job_id) for job in jobs if job.may_be_cancelled)
            if after == 0:
                return
            yield str(after), None
            place = after


def _place(cursor: str | None) -> int:
    if cursor is None:
        return 0
    if cursor.isascii() and cursor.isdecimal() and int(cursor[:21]) < 2**64:
        return int(cursor[:21])
    raise WrongCursor("this cursor is not one that a slice has given")
