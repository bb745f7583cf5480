"""Adapter: the jobs' records in Redis or Valkey. Every change is one of a few Lua scripts."""

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import IntEnum
from typing import TYPE_CHECKING, Any, Final, cast

from worker.core import keys
from worker.core.errors import InvalidPayload, UnknownJob
from worker.core.job.lanes import Bid
from worker.core.job.models import Event, JobId, JobRecord, JSONObject, Leased, Source, Standing
from worker.core.job.states import TERMINAL, TRANSITIONS, JobState, Turn
from worker.core.wording import told
from worker.store import form
from worker.store.scripts import Script

if TYPE_CHECKING:
    from redis import Redis


class Heard(IntEnum):
    """What became of a delivery that ends a job."""

    NOT_WON = 0
    """Something else ends the job, or has ended it; or there is no job."""
    WON = 1
    AGAIN = 2
    """The same delivery has won before."""


PAGE: Final = 500
"""How many records are looked at in one round trip."""

_LIVE = frozenset(JobState) - TERMINAL
_UNSETTLED = _LIVE - {JobState.RESUMING}
LOST: Final = TERMINAL - {JobState.SUCCEEDED}


class Store:
    """The records. ``now`` and every moment are Unix seconds.

    Every method raises StoreUnavailable where Redis cannot be reached or will not write.
    """

    def __init__(self, redis: "Redis") -> None:
        self._redis = redis
        self._transition = Script(redis, "transition")
        self._claim = Script(redis, "claim")
        self._submit = Script(redis, "submit")
        self._announce = Script(redis, "announce")
        self._take_from = Script(redis, "take_from")
        self._lease_ready = Script(redis, "lease_ready")
        self._renew_leases = Script(redis, "renew_leases")
        self._lease_due = Script(redis, "lease_due")
        self._mark_published = Script(redis, "mark_published")
        self._reserve_poll = Script(redis, "reserve_poll")
        self._keep_late = Script(redis, "keep_late")

    def turn(
        self,
        job_id: JobId,
        turn: Turn,
        *,
        now: float,
        due_at: float | None,
        why: str = "",
        fields: Mapping[str, Any] | None = None,
        drop: Sequence[str] = (),
        leg: str = "",
        count: str = "",
        retain_seconds: int | None = None,
    ) -> bool:
        """Take a turn if the job's state allows it; says whether it did.

        Args:
            due_at: the job's next moment; None: there is none any more.
            leg: the run of the submit leg that this turn belongs to. The turn is safe to send
                twice, and is refused once another leg has begun.
            count: a counter to increment.
        """
        sources, target = TRANSITIONS[turn]
        won, _ = self._change(
            job_id,
            sources,
            target,
            now=now,
            due="-" if due_at is None else str(due_at),
            entry=form.entry(now, turn, why),
            fields=fields or {},
            drop=drop,
            leg=leg,
            count=count,
            retain=str(retain_seconds or ""),
        )
        return won

    def admit(
        self,
        job_id: JobId,
        bid: Bid,
        *,
        now: float,
        due_at: float,
        deadline_at: float,
        fields: Mapping[str, Any],
        leg: str,
    ) -> JobState | None:
        """Begin a submit leg if the gate is open; returns SUBMITTING, HELD, or None: not begun.

        Args:
            due_at: when the leg is dead, if it says nothing.
            deadline_at: when the job expires, if it is submitted for the first time now.
            fields: of the record; without ``parked``, the job has a record already.
        """
        sources = TRANSITIONS[Turn.SUBMIT][0]
        if "parked" not in fields:
            sources -= {None}
        state, _ = self._submit(
            **keys.BEFORE_THE_GATE,
            **bid.limits.arguments(),
            job=keys.job(job_id),
            due=keys.DUE,
            jobs=keys.JOBS,
            job_id=job_id,
            now=round(now, 3),
            leg=leg,
            dead_at=due_at,
            deadline_at=round(deadline_at, 3),
            held_until=bid.held_until,
            lane=str(bid.lane),
            cost=bid.cost,
            entry=form.entry(now, Turn.SUBMIT, ""),
            sources=_csv(sources),
            fields=_pairs(fields),
        )
        return JobState(state) if state else None

    def note(
        self,
        job_id: JobId,
        *,
        now: float,
        what: str = "",
        why: str = "",
        sources: Iterable[JobState | None] = _LIVE,
        due_at: float | None = None,
        fields: Mapping[str, Any] | None = None,
        count: str = "",
        retain_seconds: int | None = None,
    ) -> JobState | None:
        """Write on a record without a turn; returns its state, None where there is no record.

        Args:
            sources: the states in which it is written; in others nothing changes.
            due_at: the next moment; None keeps the one there is.
        """
        due = "" if due_at is None else str(due_at)
        entry = form.entry(now, what, why) if what else ""
        _, state = self._change(
            job_id,
            sources,
            None,
            now=now,
            due=due,
            entry=entry,
            fields=fields or {},
            count=count,
            retain=str(retain_seconds or ""),
        )
        return state

    def _change(
        self,
        job_id: JobId,
        sources: Iterable[JobState | None],
        target: JobState | None,
        *,
        now: float,
        due: str,
        entry: str,
        fields: Mapping[str, Any],
        drop: Sequence[str] = (),
        leg: str = "",
        count: str = "",
        retain: str = "",
    ) -> tuple[bool, JobState | None]:
        won, state = self._transition(
            **keys.BEFORE_THE_GATE,
            **keys.OF_A_BATCH,
            job=keys.job(job_id),
            due=keys.DUE,
            jobs=keys.JOBS,
            ready=keys.READY,
            job_id=job_id,
            sources=_csv(sources),
            to=target or "",
            due_at=due,
            retain_seconds=retain,
            entry=entry,
            now=now,
            leg=leg,
            counter=count,
            dropped=" ".join(drop),
            fields=_pairs(fields),
        )
        return bool(won), JobState(state) if state else None

    def claim(
        self,
        job_id: JobId,
        event: Event,
        *,
        now: float,
        leg: str = "",
        seen: JobState | None = None,
    ) -> bool:
        """Claim a parked job for an event, and make it ready; False if another event has won.

        Args:
            leg: only while this run of the submit leg is the last one. The claim is then safe to
                send twice.
            seen: only while the job is in this state.
        """
        sources = TRANSITIONS[Turn.CLAIM][0] if seen is None else (seen,)
        return self._hear(job_id, sources, event, leg, "", (), "", now=now) is Heard.WON

    def hear(
        self,
        job_id: JobId,
        event: Event,
        *,
        now: float,
        digest: str,
        again_in: Iterable[JobState],
        again: str,
    ) -> Heard:
        """Claim a parked job for a delivery, unless the same delivery has won before.

        Args:
            digest: of the delivery's body.
            again_in: the states in which the same one again is nothing new.
            again: what the timeline says of it then.
        """
        entry = form.entry(now, again, _why(event))
        sources = TRANSITIONS[Turn.CLAIM][0]
        return self._hear(job_id, sources, event, "", digest, again_in, entry, now=now)

    def _hear(
        self,
        job_id: JobId,
        sources: Iterable[JobState | None],
        event: Event,
        leg: str,
        *same: Any,
        now: float,
    ) -> Heard:
        digest, again_in, entry = same
        heard = self._claim(
            **keys.BEFORE_THE_GATE,
            job=keys.job(job_id),
            due=keys.DUE,
            ready=keys.READY,
            ring=keys.RING,
            job_id=job_id,
            sources=_csv(sources),
            event=event.dumps(),
            by_provider=int(event.body is not None),
            entry=form.entry(now, Turn.CLAIM, _why(event)),
            leg=leg,
            digest=digest,
            again_in=_csv(again_in),
            entry_again=entry,
        )
        return Heard(heard)

    def lease(self, *, seconds: float, limit: int) -> list[Leased]:
        """Lease up to ``limit`` jobs that are ready to be resumed; others may in ``seconds``."""
        found = self._lease_ready(
            ready=keys.READY, records=keys.RECORDS, seconds=seconds, most=limit
        )
        return [_leased(fields) for fields in found]

    def renew(self, job_ids: Iterable[JobId], *, seconds: float) -> None:
        """Let the leases of jobs end ``seconds`` from now; sooner, if somebody else is to try."""
        self._renew_leases(ready=keys.READY, seconds=seconds, job_ids=job_ids)

    def wait_for_ready(self, seconds: float) -> None:
        """Wait until a job is ready to be resumed, but not longer."""
        self._redis.blpop([keys.RING], timeout=seconds)

    def announce(self, job_id: JobId, leg: str) -> Standing | None:
        """Note that the job's PARKED state is stored; returns None where the leg is not its last.

        Raises UnknownJob.
        """
        found = self._announce(job=keys.job(job_id), leg=leg)
        if not found:
            raise UnknownJob(f"the record of job {job_id} is gone: Redis has lost it")
        state, is_last, cancelled_by = found
        return Standing(JobState(state), cancelled_by=cancelled_by or None) if is_last else None

    def take_from(self, job_id: JobId, leg: str) -> bool:
        """Take a job away from a leg that has sent nothing; False if it may have."""
        return bool(self._take_from(job=keys.job(job_id), leg=leg))

    def take_step(self, run: str, copy: str, *, seconds: int) -> bool:
        """Take a run of a plain step for a copy of its message; False where another has it."""
        key = keys.STEPS + run
        return bool(self._redis.set(key, copy, nx=True, ex=seconds)) or self._redis.get(key) == copy

    def count_death(self, run: str, *, seconds: int) -> int:
        """Count one more death in the middle of a run of a plain step; returns how many."""
        key = keys.DEATHS + run
        with self._redis.pipeline() as pipe:
            pipe.incr(key)
            pipe.expire(key, seconds)
            return int(pipe.execute()[0])

    def forget_deaths(self, run: str) -> None:
        """Forget the deaths of a run that has ended."""
        self._redis.delete(keys.DEATHS + run)

    def due(self, *, now: float, lease_until: float, limit: int) -> list[JobId]:
        """Lease up to ``limit`` jobs whose moment has come, and as many that only end."""
        leased = self._lease_due(
            due=keys.DUE,
            records=keys.RECORDS,
            ending=keys.ENDING,
            leaving=keys.LEAVING,
            ready=keys.READY,
            ring=keys.RING,
            now=now,
            until_at=lease_until,
            most=limit,
        )
        return cast(list[JobId], leased)

    def drop_due(self, job_id: JobId) -> None:
        """Forget the moment of a job that needs none: it has settled, or its record is gone."""
        ended = (None, *TERMINAL)
        self._change(job_id, ended, None, now=0, due="-", entry="", fields={})

    def mark_published(self, job_id: JobId, *, stale_at: float, until: float) -> None:
        """Move a job's moment from ``stale_at``, set before its message was published."""
        self._mark_published(
            due=keys.DUE, job=keys.job(job_id), job_id=job_id, stale_at=stale_at, until_at=until
        )

    def reserve_poll(self, *, spacing_seconds: float) -> float:
        """Reserve the next moment for a poll, among all sweeps; returns the seconds until then."""
        return float(self._reserve_poll(next=keys.POLL_PACE, spacing=spacing_seconds))

    def clock(self) -> float:
        """Read the server's clock."""
        seconds, microseconds = self._redis.time()
        return seconds + microseconds / 1e6

    def standing(self, job_id: JobId) -> Standing:
        """Read where a job stands; its state is None where it has no record yet."""
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
        state = cast("str | None", self._redis.hget(keys.job(job_id), "state"))
        return JobState(state) if state else None

    def message(self, job_id: JobId) -> str | None:
        """Return the parked message of a job."""
        with self._redis.pipeline(transaction=False) as pipe:
            _read_message(pipe, job_id)
            return next(filter(None, pipe.execute()), None)

    def read(self, job_id: JobId) -> JobRecord:
        """Read a job's record.

        Raises UnknownJob.
        """
        with self._redis.pipeline(transaction=False) as pipe:
            _read(pipe, job_id)
            pipe.zscore(keys.DUE, job_id)
            stored, timeline, due_at = pipe.execute()
        if "state" not in stored:
            raise UnknownJob(
                f"there is no record of job {job_id}: wrong id, or past its retention (a job that "
                "was sent by name has one when a worker has begun it)"
            )
        return form.parse(job_id, stored, timeline, due_at)

    def recent(self, limit: int) -> list[JobRecord]:
        """Read the newest jobs, newest first."""
        ids = cast(list[JobId], self._redis.zrange(keys.JOBS, 0, limit - 1, desc=True))
        return self.read_those(ids)

    def read_those(self, job_ids: Sequence[JobId]) -> list[JobRecord]:
        """Read the jobs that there are among some, in one round trip; without their next moment."""
        with self._redis.pipeline(transaction=False) as pipe:
            for job_id in job_ids:
                _read(pipe, job_id)
            found = pipe.execute()
        return [
            form.parse(job_id, stored, timeline, None)
            for job_id, stored, timeline in zip(job_ids, found[::2], found[1::2], strict=True)
            if "state" in stored
        ]

    def unsettled(self) -> Iterator[tuple[JobId, str]]:
        """Yield each job that waits for its event, with its message; the newest first.

        A job that is recorded meanwhile is perhaps left out, and another one yielded twice.
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
                if any(messages) and state in _UNSETTLED:
                    yield job_id, next(filter(None, messages))

    def forget_index(self, *, before: float) -> None:
        """Drop index entries of jobs created before a moment."""
        self._redis.zremrangebyscore(keys.JOBS, "-inf", before)

    def event(self, job_id: JobId) -> Event | None:
        """Read the event that ends a resumed job."""
        event = cast("str | None", self._redis.hget(keys.job(job_id), "event"))
        return Event.loads(event) if event else None

    def keep_late(
        self,
        job_id: JobId,
        late: JSONObject,
        *,
        now: float,
        why: str,
        retain_seconds: int,
        sources: Iterable[JobState] = LOST,
    ) -> bool:
        """Keep what came of a job that ends, or has ended, without it; says whether it did.

        Args:
            late: whether it is ``final``, and more. The first is kept, but for one that is not.
            sources: the states in which it is kept.
        """
        kept = self._keep_late(
            job=keys.job(job_id),
            sources=_csv(sources),
            late=form.dump(late),
            seconds=retain_seconds,
            entry=form.entry(now, "late", why),
        )
        return bool(kept)

    def check(self) -> None:
        """Raise StoreUnavailable where the server would not write; it writes nothing."""
        # A server that is full or read-only refuses even a write that would come to nothing.
        self._redis.set(keys.HEALTH, "ok", xx=True, keepttl=True)


def _leased(fields: Sequence[Any]) -> Leased:
    job_id, operation, message, event, claims, clip_id, provider_task_id = fields
    return Leased(
        job_id, operation, message, _event(event), claims,
        clip_id=clip_id or None, provider_task_id=provider_task_id or None,
    )  # fmt: skip


def _event(text: str | None) -> Event:
    """Read the event of a leased job. If it cannot be read, the job fails, and the others go on."""
    try:
        return Event.loads(text or "")
    except (KeyError, TypeError, ValueError) as error:
        why = InvalidPayload(f"the event on the job's record cannot be read: {told(error)}")
        return Event(Source.SWEEP, error=why.to_json())


def _read_message(pipe: Any, job_id: JobId) -> None:
    """Read the two places where a message may be."""
    pipe.get(keys.message(job_id))
    pipe.hget(keys.job(job_id), "parked")  # where the version before had it


def _read(pipe: Any, job_id: JobId) -> None:
    pipe.hgetall(keys.job(job_id))
    pipe.get(keys.timeline(job_id))


def _why(event: Event) -> str:
    return f"{event.source} {event.delivery_id or ''}".strip()


def _csv(states: Iterable[JobState | None]) -> str:
    return "," + "".join(f"{state or ''}," for state in states)


def _pairs(fields: Mapping[str, Any]) -> list[Any]:
    return [part for name, value in fields.items() for part in (name, form.dump(value))]
