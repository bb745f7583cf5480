"""Adapter: reads the jobs' records from Redis or Valkey.

``records.py`` and its scripts write them. A reading may be out of date as soon as it is there. So a
process acts on it with a change whose script looks at the state again.

An index has each job by the time at which it was recorded. A record expires and its entry in the
index does not, so a sweep trims the indexes (``Lists.forget``).
"""

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, cast

from worker.core import keys
from worker.core.errors import UnknownJob
from worker.core.job.models import (
    Event,
    JobId,
    JobRecord,
    JSONObject,
    ProviderTaskId,
    Source,
    Standing,
)
from worker.core.job.states import TRANSITIONS, UNSETTLED, JobState, Turn

if TYPE_CHECKING:
    from redis import Redis

PAGE: Final = 500
"""How many records are looked at in one round trip."""

_COUNTERS = ("attempts", "polls", "claims", "republished", "resubmissions", "refusals")
_TURNS = frozenset(Turn)
_DOCUMENTS = ("progress", "result", "error", "late", "following")
_IN_A_FLOW: Final = (
    "operation", "state", "created_at", "lane",
    "after", "first", "again", "instead_of", "following",
)  # fmt: skip


class Readings:
    """Reads records. Every method raises StoreUnavailable if Redis cannot be reached."""

    def __init__(self, redis: "Redis") -> None:
        self._redis = redis

    def standing(self, job_id: JobId) -> Standing:
        """Read where a job stands; its state is None if it has no record yet."""
        # A submit leg reads this before each job: a few fields, and no timeline.
        names = ["state", "attempts", "deadline_at", "announced", "cancelled_by", "digest"]
        found = cast("list[str | None]", self._redis.hmget(keys.job(job_id), names))
        state, attempts, deadline_at, announced, cancelled_by, digest = found
        return Standing(
            JobState(state) if state else None,
            int(attempts or 0),
            cancelled_by=cancelled_by,
            digest=digest,
            deadline_at=float(deadline_at or "inf"),
            announced=bool(announced),
        )

    def state(self, job_id: JobId) -> JobState | None:
        """Read a job's state; None if it has no record."""
        state = cast("str | None", self._redis.hget(keys.job(job_id), "state"))
        return JobState(state) if state else None

    def called_off(self, batch_ids: Sequence[str]) -> set[str]:
        """Name the cancelled ones of some batches: a job that begins there ends (tally.lua)."""
        with self._redis.pipeline(transaction=False) as pipe:
            for batch_id in batch_ids:
                pipe.hget(keys.BATCH + batch_id, "phase")
            phases = zip(batch_ids, pipe.execute(), strict=True)
        return {batch_id for batch_id, phase in phases if phase == "cancelled"}

    def message(self, job_id: JobId) -> str | None:
        """Return the parked message of a job."""
        return self.messages([job_id])[0]

    def messages(self, job_ids: Sequence[JobId]) -> list[str | None]:
        """Return the parked messages of some jobs, in one round trip."""
        with self._redis.pipeline(transaction=False) as pipe:
            for job_id in job_ids:
                _read_message(pipe, job_id)
            found = pipe.execute()
        return [now or before for now, before in zip(found[::2], found[1::2], strict=True)]

    def traceparent(self, job_id: JobId) -> str | None:
        """Read the context of the span that a job belongs to; None if it is not traced."""
        return cast("str | None", self._redis.hget(keys.job(job_id), "traceparent"))

    def timeline(self, job_id: JobId) -> tuple[JSONObject, ...]:
        """Read what became of a job, without the rest of its record."""
        timeline = cast("str | None", self._redis.get(keys.timeline(job_id)))
        return tuple(map(_entry, (timeline or "").splitlines()))

    def event(self, job_id: JobId) -> Event | None:
        """Read the event that ends a resumed job."""
        event = cast("str | None", self._redis.hget(keys.job(job_id), "event"))
        return Event.loads(event) if event else None

    def read(self, job_id: JobId) -> JobRecord:
        """Read a job's record.

        Raises UnknownJob.
        """
        found = self.read_those([job_id])
        if not found:
            raise UnknownJob(
                f"there is no record of job {job_id}: wrong id, or past its retention (a job that "
                "was sent by name has one when a worker has begun it)"
            )
        return found[0]

    def read_those(self, job_ids: Sequence[JobId]) -> list[JobRecord]:
        """Read those of some jobs that have a record, in one round trip."""
        # No transaction: a reading may be out of date anyway.
        with self._redis.pipeline(transaction=False) as pipe:
            for job_id in job_ids:
                pipe.hgetall(keys.job(job_id))
                pipe.get(keys.timeline(job_id))
                pipe.zscore(keys.DUE, job_id)
            found = pipe.execute()
        each = zip(job_ids, found[::3], found[1::3], found[2::3], strict=True)
        return [parse(*read) for read in each if "state" in read[1]]

    def read_in_part(self, job_ids: Sequence[JobId], *only: str) -> list[JobRecord]:
        """Read where those of some jobs that have a record stand in their flows.

        Args:
            only: what else is read of each; what is not read is not there.
        """
        names = (*_IN_A_FLOW, *only)
        with self._redis.pipeline(transaction=False) as pipe:
            for job_id in job_ids:
                pipe.hmget(keys.job(job_id), names)
            found = pipe.execute()
        told = [{n: v for n, v in zip(names, each, strict=True) if v is not None} for each in found]
        each = zip(job_ids, told, strict=True)
        return [parse(job_id, stored, None, None) for job_id, stored in each if "state" in stored]

    def recent(self, limit: int) -> list[JobRecord]:
        """Read the newest jobs, newest first."""
        ids = cast(list[JobId], self._redis.zrange(keys.JOBS, 0, limit - 1, desc=True))
        return self.read_those(ids)

    def unsettled(self) -> Iterator[tuple[JobId, str]]:
        """Yield each job that waits for its event, with its message; the newest first.

        If a job is recorded meanwhile, it may be left out, and another one may be yielded twice.
        """
        for start in itertools.count(0, PAGE):
            ids = cast(
                list[JobId], self._redis.zrange(keys.JOBS, start, start + PAGE - 1, desc=True)
            )
            if not ids:
                return
            with self._redis.pipeline(transaction=False) as pipe:
                for job_id in ids:
                    pipe.hget(keys.job(job_id), "state")
                    _read_message(pipe, job_id)
                found = pipe.execute()
            for job_id, state, *messages in zip(ids, *(found[n::3] for n in range(3)), strict=True):
                if any(messages) and state in UNSETTLED:
                    yield job_id, next(filter(None, messages))


def _read_message(pipe: Any, job_id: JobId) -> None:
    """Read the two places where a message may be."""
    pipe.get(keys.message(job_id))
    pipe.hget(keys.job(job_id), "parked")  # the previous version's place


def parse(
    job_id: JobId, stored: Mapping[str, str], timeline: str | None, due_at: float | None
) -> JobRecord:
    """Read a record from its hash, and from the timeline beside it."""
    before = stored.get("timeline", "")  # the previous version's place
    documents: dict[str, JSONObject] = {n: json.loads(stored[n]) for n in _DOCUMENTS if n in stored}
    counters = {name: int(stored.get(name, 0)) for name in _COUNTERS}
    provider_task_id = stored.get("provider_task_id")
    return JobRecord(
        job_id=job_id,
        operation=stored["operation"],
        state=JobState(stored["state"]),
        created_at=float(stored["created_at"]),
        deadline_at=float(stored.get("deadline_at", stored["created_at"])),
        due_at=due_at,
        provider_task_id=ProviderTaskId(provider_task_id) if provider_task_id else None,
        clip_id=stored.get("clip_id"),
        leg=stored.get("leg", ""),
        attempts=counters["attempts"],
        polls=counters["polls"],
        claims=counters["claims"],
        republished=counters["republished"],
        resubmissions=counters["resubmissions"],
        refusals=counters["refusals"],
        poll_at=float(stored["poll_at"]) if stored.get("poll_at") else None,
        errbacks_called=tuple(map(int, filter(None, stored.get("errbacks_called", "").split(",")))),
        refused_at=float(stored["refused_at"]) if "refused_at" in stored else None,
        cancelled_by=stored.get("cancelled_by"),
        after=JobId(stored["after"]) if "after" in stored else None,
        first=JobId(stored["first"]) if "first" in stored else None,
        again=JobId(stored["again"]) if "again" in stored else None,
        instead_of=JobId(stored["instead_of"]) if "instead_of" in stored else None,
        batch=stored.get("batch"),
        following=documents.get("following"),
        lane=stored.get("lane", ""),
        cost=float(stored.get("cost", 0)) / 1000,
        source=Source(stored["source"]) if "source" in stored else None,
        polled=stored.get("polled"),
        polled_at=float(stored["polled_at"]) if "polled_at" in stored else None,
        traceparent=stored.get("traceparent"),
        progress=documents.get("progress"),
        result=documents.get("result"),
        error=documents.get("error"),
        late=documents.get("late"),
        timeline=(
            *map(json.loads, before.splitlines()),
            *map(_entry, (timeline or "").splitlines()),
        ),
    )


def _entry(line: str) -> JSONObject:
    entry: JSONObject = json.loads(line)
    what = entry["what"]
    # A turn's line leaves its state out: the table of turns knows it.
    if what in _TURNS:
        entry.setdefault("state", TRANSITIONS[Turn(what)][1])
    return entry
