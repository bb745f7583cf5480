"""The jobs of each batch, and what became of them, in Redis.

The counters of a batch are written by the scripts that turn its jobs (tally.lua), in the same step
as the turn. So they agree with the records, and reading a batch costs the same for any size.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, cast

from worker.core import keys
from worker.core.errors import FermataError, UnknownBatch
from worker.core.job.canvas import Step
from worker.core.job.models import JobId, JSONObject
from worker.core.job.states import TERMINAL, JobState
from worker.core.providers import chosen
from worker.store.scripts import Script

if TYPE_CHECKING:
    from redis import Redis

_PAGE: Final = 200
_ERROR: Final = "error:"
_SHOWN: Final = ("state", "result", "error", "cost")
_READ_LATE: Final = ("late", "operation", "clip_id", "provider_task_id")


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
    """The jobs on record. A follow-up is on record once the job before it has succeeded."""
    ended: Mapping[JobState, int]
    spent: float
    errors: Mapping[str, int]
    """How many jobs failed, by the type of the error."""
    manifest: str | None = None
    """The path of the file that was submitted last, on the machine that submitted it."""
    form: str | None = None
    """The format of that file."""

    @property
    def live(self) -> int:
        return self.jobs - sum(self.ended.values())

    @property
    def done(self) -> bool:
        return self.phase is not Phase.SUBMITTING and self.live == 0

    @property
    def standing(self) -> str:
        """The phase of the batch, or that it is over."""
        if not self.done:
            return self.phase
        return "cancelled, over" if self.phase is Phase.CANCELLED else "over"

    @property
    def not_run(self) -> int:
        """How many jobs never ran: the one before them failed, or the batch was cancelled."""
        return max(self.expected_jobs - sum(self.ended.values()), 0) if self.done else 0

    def to_json(self) -> JSONObject:
        described: JSONObject = {name: getattr(self, name) for name in self.__slots__}
        return described | {"live": self.live, "done": self.done, "not_run": self.not_run}


@dataclass(frozen=True, slots=True)
class LedgerRow:
    """A row that was submitted, with its jobs."""

    row_id: JobId
    """The id of its first job, before any of it was retried."""
    line: int
    name: str
    key: str | None
    steps: tuple[Step, ...]

    def dumps(self) -> str:
        """Write its name, key and jobs as JSON; Redis holds its id and line beside them."""
        # A job that another one follows is named by its place: that is shorter than its id.
        places = {step.job_id: place for place, step in enumerate(self.steps)}
        steps = [(s.job_id, s.operation, places.get(s.after or JobId(""))) for s in self.steps]
        return json.dumps([self.name, self.key, steps], separators=(",", ":"))

    @classmethod
    def loads(cls, row_id: JobId, text: str, line: int) -> "LedgerRow":
        name, key, stored = json.loads(text)
        steps = tuple(
            Step(JobId(job_id), operation, None if after is None else JobId(stored[after][0]))
            for job_id, operation, after in stored
        )
        return cls(row_id, line, name, key, steps)


@dataclass(frozen=True, slots=True)
class Job:
    """A job as a batch shows it; its state is None if there is no record of it."""

    state: JobState | None
    result: JSONObject | None = field(default=None, repr=False)
    error: JSONObject | None = None
    cost: float = 0
    late: JSONObject | None = field(default=None, repr=False)
    """A result that came after the job had ended without it. It was paid for."""

    @property
    def failed(self) -> bool:
        return self.state in TERMINAL and self.state is not JobState.SUCCEEDED

    @property
    def live(self) -> bool:
        return self.state is not None and self.state not in TERMINAL


class Ledger:
    """The batches. Every method raises StoreUnavailable if Redis cannot be reached."""

    def __init__(self, redis: "Redis", retain_seconds: int) -> None:
        self._redis = redis
        self._retain_seconds = retain_seconds
        self._begin = Script(redis, "begin_batch")
        self._enter = Script(redis, "enter_phase")
        self._replace = Script(redis, "replace_job")

    def open(
        self,
        batch_id: str,
        *,
        now: float,
        rows: int,
        expected_jobs: int,
        expected_credits: float,
        manifest: str = "",
        form: str = "",
        again: bool = False,
    ) -> bool:
        """Begin a batch, or go on with it; False if it was cancelled, and stays so.

        Args:
            manifest, form: the file that is submitted, and its format; '' if there is none.
            again: go on with the batch although it was cancelled: a person has asked for it.
        """
        batch = keys.BATCH + batch_id
        expected = {
            "rows": rows, "expected_jobs": expected_jobs, "expected_credits": expected_credits,
            "retained_seconds": self._retain_seconds, "manifest": manifest, "form": form,
        }  # fmt: skip
        fields = [part for pair in expected.items() for part in pair]
        unless = "" if again else Phase.CANCELLED
        entered = Phase.SUBMITTING
        if not self._begin(batch=batch, entered=entered, unless=unless, now=now, fields=fields):
            return False
        with self._redis.pipeline() as pipe:
            pipe.zadd(keys.BATCHES, {batch_id: now})
            # Twice the retention: this only lists batches, and a batch whose jobs still go on may
            # be older than the retention.
            pipe.zremrangebyscore(keys.BATCHES, "-inf", now - 2 * self._retain_seconds)
            pipe.expire(batch, self._retain_seconds)
            pipe.execute()
        return True

    def is_cancelled(self, batch_id: str) -> bool:
        return self._redis.hget(keys.BATCH + batch_id, "phase") == Phase.CANCELLED

    def enter(self, batch_id: str, phase: Phase, *, only_from: Phase) -> None:
        """Move a batch on, if it is in a certain phase."""
        self._enter(batch=keys.BATCH + batch_id, only_from=only_from, entered=phase)

    def cancel(self, batch_id: str) -> None:
        """Mark a batch as cancelled: any job of it that begins now ends at once (tally.lua)."""
        self._redis.hset(keys.BATCH + batch_id, "phase", Phase.CANCELLED)

    def announce(self, batch_id: str, rows: Iterable[LedgerRow]) -> None:
        """Write down the jobs of rows that are about to be submitted."""
        if jobs := {row.row_id: row.dumps() for row in rows}:
            with self._redis.pipeline() as pipe:
                pipe.hset(keys.ROW_JOBS + batch_id, mapping=cast("dict[Any, Any]", jobs))
                pipe.expire(keys.ROW_JOBS + batch_id, self._retain_seconds)
                pipe.execute()

    def book(self, batch_id: str, rows: Iterable[LedgerRow]) -> None:
        """Write down rows that were announced, and submitted."""
        with self._redis.pipeline() as pipe:
            pipe.zadd(keys.ROWS + batch_id, {row.row_id: row.line for row in rows})
            for key in (keys.ROWS, keys.ROW_JOBS):
                pipe.expire(key + batch_id, self._retain_seconds)
            pipe.execute()

    def submitted(self, batch_id: str, rows: Sequence[LedgerRow]) -> list[bool]:
        """Say for each row if it was submitted: it is booked, or its first job is on record."""
        with self._redis.pipeline(transaction=False) as pipe:
            for row in rows:
                pipe.zscore(keys.ROWS + batch_id, row.row_id)
                pipe.hexists(keys.job(row.row_id), "state")
            found = pipe.execute()
        pairs = zip(found[::2], found[1::2], strict=True)
        return [line is not None or bool(state) for line, state in pairs]

    def replace(self, batch_id: str, row: LedgerRow, by: LedgerRow, failed: Job) -> None:
        """Write down that a job was submitted anew; the failed one no longer counts."""
        counted = ["jobs", str(failed.state)]
        if failed.error:
            counted.append(_ERROR + failed.error["type"])
        self._replace(
            row_jobs=keys.ROW_JOBS + batch_id,
            batch=keys.BATCH + batch_id,
            row_id=row.row_id,
            before=row.dumps(),
            after=by.dumps(),
            counters=counted,
        )

    def read(self, batch_id: str) -> Batch:
        """Read what became of a batch so far.

        Raises UnknownBatch.
        """
        stored = cast("dict[str, str]", self._redis.hgetall(keys.BATCH + batch_id))
        # A job that outlives its batch may still count itself here: then there is no phase.
        if "phase" not in stored:
            raise UnknownBatch(f"there is no batch {batch_id}: see `fermata batch list`")
        ended = {state: int(stored.get(state, 0)) for state in JobState if state in TERMINAL}
        counts = {n.removeprefix(_ERROR): int(c) for n, c in stored.items() if n.startswith(_ERROR)}
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
            errors={name: count for name, count in counts.items() if count},
            manifest=stored.get("manifest") or None,
            form=stored.get("form") or None,
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
            yield self.find(batch_id, {JobId(row_id): int(line) for row_id, line in page})
            start += _PAGE

    def find(self, batch_id: str, lines: Mapping[JobId, int]) -> list[tuple[LedgerRow, list[Job]]]:
        """Read the given rows, if the batch has them, with their jobs.

        Args:
            lines: the line of each row.
        """
        texts = cast("list[str | None]", self._redis.hmget(keys.ROW_JOBS + batch_id, list(lines)))
        pairs = zip(lines.items(), texts, strict=True)
        rows = [LedgerRow.loads(row_id, text, line) for (row_id, line), text in pairs if text]
        jobs = iter(self.jobs([step.job_id for row in rows for step in row.steps]))
        return [(row, [next(jobs) for _ in row.steps]) for row in rows]

    def live(self, batch_id: str) -> Iterator[JobId]:
        """Yield the jobs that are under way, including those of rows that are being submitted."""
        # HSCAN: rows that are announced meanwhile may be missed. Their jobs begin in a cancelled
        # batch, and so end by themselves.
        key, cursor = keys.ROW_JOBS + batch_id, -1
        while cursor:
            cursor, page = cast(
                "tuple[int, dict[str, str]]", self._redis.hscan(key, max(cursor, 0), count=_PAGE)
            )
            rows = [LedgerRow.loads(JobId(row_id), text, 0) for row_id, text in page.items()]
            job_ids = [step.job_id for row in rows for step in row.steps]
            pairs = zip(job_ids, self.jobs(job_ids), strict=True)
            yield from (job_id for job_id, job in pairs if job.live)

    def jobs(self, job_ids: Sequence[JobId]) -> list[Job]:
        """Read jobs, in one round trip."""
        with self._redis.pipeline(transaction=False) as pipe:
            for job_id in job_ids:
                pipe.hmget(keys.job(job_id), [*_SHOWN, *_READ_LATE])
            pairs = zip(job_ids, pipe.execute(), strict=True)
            return [_job(job_id, *found) for job_id, found in pairs]


def _job(
    job_id: JobId,
    state: str | None,
    result: str | None,
    error: str | None,
    cost: str | None,
    *late: str | None,
) -> Job:
    return Job(
        state=JobState(state) if state else None,
        result=json.loads(result) if result else None,
        error=json.loads(error) if error else None,
        cost=int(cost or 0) / 1000,
        late=_read_late(job_id, *late),
    )


def _read_late(
    job_id: JobId,
    late: str | None,
    operation: str | None,
    clip_id: str | None,
    provider_task_id: str | None,
) -> JSONObject | None:
    if not late or not operation:
        return None
    try:
        return chosen().read_result(
            job_id,
            operation,
            json.loads(late)["body"],
            clip_id=clip_id,
            provider_task_id=provider_task_id,
        )
    except FermataError:
        return None  # the late delivery says that the job failed, so nothing was paid for
