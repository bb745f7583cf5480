"""The batches, in Redis: how far each has come, and what became of its jobs, as sums.

The counters of a batch are written by the scripts that turn its jobs (tally.lua), in the same step
as the turn. So they agree with the records, and reading a batch costs the same for any size.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, cast

from worker.core import keys
from worker.core.errors import UnknownBatch
from worker.core.job.models import JSONObject
from worker.core.job.states import TERMINAL, JobState
from worker.store.scripts import Script

if TYPE_CHECKING:
    from redis import Redis

_ERROR: Final = "error:"
"""With the type of an error after it: the counter of the jobs that failed with it."""
_TENANT: Final = "tenant:"
_PAGE: Final = 100
_SIFTED: Final = 1_000
"""So many batches are asked at once whether they have rows of a tenant."""


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
    tenants: tuple[str, ...] = ()
    """On whose behalf its rows run; none if they were submitted by the version before."""

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
        # If all had succeeded before the cancellation, nothing of the batch was cancelled.
        is_whole = self.ended[JobState.SUCCEEDED] >= self.expected_jobs
        return "cancelled, over" if self.phase is Phase.CANCELLED and not is_whole else "over"

    @property
    def not_run(self) -> int:
        """How many jobs never ran: the one before them failed, or the batch was cancelled."""
        return max(self.expected_jobs - sum(self.ended.values()), 0) if self.done else 0

    def to_json(self) -> JSONObject:
        described: JSONObject = {name: getattr(self, name) for name in self.__slots__}
        return described | {"live": self.live, "done": self.done, "not_run": self.not_run}


class Ledger:
    """The batches. Every method raises StoreUnavailable if Redis cannot be reached."""

    def __init__(self, redis: "Redis", retain_seconds: int) -> None:
        self._redis = redis
        self._retain_seconds = retain_seconds
        self._begin = Script(redis, "begin_batch")
        self._enter = Script(redis, "enter_phase")
        self._sift = Script(redis, "sift_batches")

    def open(
        self,
        batch_id: str,
        *,
        now: float,
        rows: int,
        expected_jobs: int,
        expected_credits: float,
        manifest: str = "",
        again: bool = False,
    ) -> bool:
        """Begin a batch, or go on with it; False if it was cancelled, and stays so.

        Args:
            manifest: the file that is submitted; '' if there is none.
            again: go on with the batch although it was cancelled: a person has asked for it.
        """
        batch = keys.BATCH + batch_id
        expected = {
            "rows": rows, "expected_jobs": expected_jobs, "expected_credits": expected_credits,
            "retained_seconds": self._retain_seconds, "manifest": manifest,
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

    def note_tenants(self, batch_id: str, tenants: Iterable[str]) -> None:
        """Write down on whose behalf rows of a batch run."""
        noted = {_TENANT + tenant: "" for tenant in tenants}
        self._redis.hset(keys.BATCH + batch_id, mapping=cast("dict[Any, Any]", noted))

    def read(self, batch_id: str) -> Batch:
        """Read what became of a batch so far.

        Raises UnknownBatch.
        """
        stored = cast("dict[str, str]", self._redis.hgetall(keys.BATCH + batch_id))
        # A job that outlives its batch may still count itself here: then there is no phase.
        if "phase" not in stored:
            raise UnknownBatch(f"there is no batch {batch_id}: see `fermata batch list`")
        return _batch(batch_id, stored)

    def recent(
        self, limit: int, *, after: str | None = None, tenant: str | None = None
    ) -> list[Batch]:
        """Read the newest batches, newest first.

        Args:
            after: begin behind this batch; there are none behind an unknown one.
            tenant: only the batches whose rows all run on its behalf; others are unknown.
        """
        start = 0
        if after is not None:
            rank = cast("int | None", self._redis.zrevrank(keys.BATCHES, after))
            if rank is None or (tenant is not None and not self._those([after], tenant)):
                return []
            start = rank + 1
        found: list[Batch] = []
        page = _PAGE if tenant is None else _SIFTED
        while len(found) < limit and (
            ids := cast(
                "list[str]", self._redis.zrange(keys.BATCHES, start, start + page - 1, desc=True)
            )
        ):
            if tenant is not None:
                ids = self._sift(batches=keys.BATCH, field=_TENANT + tenant, batch_ids=ids)
            for first in range(0, len(ids), _PAGE):
                if len(found) < limit:
                    found += self._those(ids[first : first + _PAGE], tenant)
            start += page
        return found[:limit]

    def _those(self, batch_ids: Sequence[str], tenant: str | None) -> list[Batch]:
        """Read those of some batches that are there and belong to a tenant; None: to anybody."""
        with self._redis.pipeline(transaction=False) as pipe:
            for batch_id in batch_ids:
                pipe.hgetall(keys.BATCH + batch_id)
            stored = zip(batch_ids, pipe.execute(), strict=True)
        found = [_batch(batch_id, fields) for batch_id, fields in stored if "phase" in fields]
        return [each for each in found if tenant is None or each.tenants == (tenant,)]


def _batch(batch_id: str, stored: Mapping[str, str]) -> Batch:
    """Read a batch from its hash."""
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
        tenants=tuple(sorted(n.removeprefix(_TENANT) for n in stored if n.startswith(_TENANT))),
    )
