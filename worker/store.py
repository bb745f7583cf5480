"""Adapter: the jobs' records in Redis or Valkey. Every change is one of a few Lua scripts."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any, Final, cast

from redis import Redis
from redis.backoff import ExponentialWithJitterBackoff
from redis.exceptions import RedisError
from redis.retry import Retry
from redis.sentinel import Sentinel

from worker.core import keys
from worker.core.admission import Lane, Limits
from worker.core.errors import UnknownJob
from worker.core.models import Event, JobId, JobRecord, JSONObject, ProviderTaskId
from worker.core.states import TERMINAL, TRANSITIONS, JobState, Turn
from worker.redis_url import is_sentinel, parse_sentinel

StoreUnavailable: Final = RedisError
"""What any method raises when Redis is away, or will not write: out of memory, read-only."""

_LIVE = frozenset(JobState) - TERMINAL
LOST: Final = TERMINAL - {JobState.SUCCEEDED}
_PRELUDES: Final = {
    "transition": ("record", "gate", "tally"),
    "claim": ("record", "gate"),
    "admit": ("record", "gate"),
    "release": ("record", "gate"),
    "open": ("gate",),
    "late": ("record",),
    "due": ("tally",),
}
_COUNTERS = ("attempts", "polls", "claims", "republished", "resubmissions", "refusals")
_DOCUMENTS = ("progress", "result", "error", "late")


def connect(url: str, *, timeout_seconds: float = 5, retries: int = 2) -> "Redis":
    """Open a client that gives up: no call blocks longer than its timeouts and retries."""
    timeouts = {
        "socket_timeout": timeout_seconds,
        "socket_connect_timeout": min(timeout_seconds, 2),
    }
    options: dict[str, Any] = {
        "decode_responses": True,
        # JSON may hold half of a character, which UTF-8 cannot.
        "encoding_errors": "backslashreplace",
        "health_check_interval": 30,
        "retry": Retry(ExponentialWithJitterBackoff(base=0.05, cap=0.5), retries),
        **timeouts,
    }
    if not is_sentinel(url):
        return Redis.from_url(url, **options)
    parts = parse_sentinel(url)
    sentinel: Any = Sentinel(  # type: ignore[no-untyped-call]
        parts.sentinels, sentinel_kwargs=timeouts | parts.sentinel_credentials
    )
    master = sentinel.master_for(parts.service, db=parts.database, **parts.credentials, **options)
    return cast("Redis", master)


@dataclass(frozen=True, slots=True)
class Parked:
    """The message that resumes a job, in kombu's own wire form (see :mod:`worker.handover`)."""

    message: str
    list_key: str | None
    """The Redis list it is pushed to, where the broker shares the state's database."""


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to resume a job."""

    number: int
    message: str
    pushed: bool


@dataclass(frozen=True, slots=True)
class Taker:
    """The message that resumes a job, told apart from its copies."""

    claim: int
    message_id: str
    """The same when the broker redelivers the message, another one for a copy of it."""
    redelivered: bool = False
    """The broker redelivers it, and gives messages no id that would tell."""


@dataclass(frozen=True, slots=True)
class Bid:
    """What a job asks of the gate."""

    lane: Lane
    cost: int
    """What it is expected to cost, in thousandths of a credit."""
    held_until: float
    """When it expires, if it has to wait that long."""
    limits: Limits


@dataclass(frozen=True, slots=True)
class Standing:
    """What a submit leg must know of its job before it begins."""

    state: JobState | None
    attempts: int = 0
    cancelled_by: str | None = None
    digest: str | None = None
    """What was asked for, where it was enqueued under an idempotency key."""
    deadline_at: float = math.inf
    announced: bool = False
    """Its PARKED state is stored."""


class Store:
    """The records. ``now`` and every moment are Unix seconds.

    Every method raises StoreUnavailable where Redis cannot be reached or will not write.
    """

    def __init__(self, redis: "Redis") -> None:
        self._redis = redis
        self._transition = load_script(redis, "transition")
        self._claim = load_script(redis, "claim")
        self._admit = load_script(redis, "admit")
        self._announce = load_script(redis, "announce")
        self._take = load_script(redis, "take")
        self._due = load_script(redis, "due")
        self._extend = load_script(redis, "extend")
        self._pace = load_script(redis, "pace")
        self._late = load_script(redis, "late")

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
            entry=_entry(now, turn, target, why),
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
        bid: "Bid",
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
        """
        sources, target = TRANSITIONS[Turn.SUBMIT]
        pairs = [part for name, value in fields.items() for part in (name, _dump(value))]
        state, _ = self._admit(
            keys=[keys.job(job_id), keys.DUE, keys.JOBS, *keys.BEFORE_THE_GATE],
            args=[
                *(job_id, now, leg, due_at, deadline_at, bid.held_until, str(bid.lane), bid.cost),
                *(_entry(now, Turn.SUBMIT, target, ""), *bid.limits.arguments(), _csv(sources)),
                *(len(fields), *pairs),
            ],
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
        entry = _entry(now, what, None, why) if what else ""
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
        pairs = [part for name, value in fields.items() for part in (name, _dump(value))]
        won, state = self._transition(
            keys=[keys.job(job_id), keys.DUE, keys.JOBS, *keys.BEFORE_THE_GATE, *keys.OF_A_BATCH],
            args=[
                *(job_id, _csv(sources), target or "", due, retain, entry, now, leg, count),
                *(len(fields), *pairs, *drop),
            ],
        )
        return bool(won), JobState(state) if state else None

    def claim(
        self,
        job_id: JobId,
        event: Event,
        *,
        now: float,
        stale_at: float,
        published_stale_at: float,
        push: bool,
        leg: str = "",
        seen: JobState | None = None,
    ) -> Claim | None:
        """Claim a parked job for an event; None where another event has won.

        Args:
            stale_at, published_stale_at: when the sweep resumes the job again, if the claim
                was not, or was, published.
            push: also push the parked message to its Redis list, in the same step.
            leg: only while this run of the submit leg is the last one. The claim is then safe to
                send twice.
            seen: only while the job is in this state.
        """
        stale = (stale_at, published_stale_at)
        sources = None if seen is None else (seen,)
        return self._run_claim(
            job_id, Turn.CLAIM, event, now=now, stale=stale, push=push, leg=leg, sources=sources
        )

    def reclaim(self, job_id: JobId, *, now: float, stale_at: float) -> Claim | None:
        """Claim a job again whose claim went stale."""
        stale = (stale_at, stale_at)
        return self._run_claim(job_id, Turn.RECLAIM, None, now=now, stale=stale, push=False)

    def _run_claim(
        self,
        job_id: JobId,
        turn: Turn,
        event: Event | None,
        *,
        now: float,
        stale: tuple[float, float],
        push: bool,
        leg: str = "",
        sources: Iterable[JobState | None] | None = None,
    ) -> Claim | None:
        allowed, target = TRANSITIONS[turn]
        why = f"{event.source} {event.delivery_id or ''}".strip() if event else "stale"
        reply = self._claim(
            keys=[keys.job(job_id), keys.DUE, keys.JOBS, *keys.BEFORE_THE_GATE],
            args=[
                job_id,
                _csv(allowed if sources is None else sources),
                event.dumps() if event else "",
                *stale,
                _entry(now, turn, target, why),
                int(push),
                leg,
            ],
        )
        if not reply[0]:
            return None
        return Claim(number=reply[2], message=reply[3], pushed=bool(reply[4]))

    def announce(self, job_id: JobId, leg: str) -> bool:
        """Note that the job's PARKED state is stored; False where the leg is not its last."""
        return bool(self._announce(keys=[keys.job(job_id)], args=[leg]))

    def take(self, job_id: JobId, taker: Taker, *, now: float, stale_at: float) -> Event | None:
        """Take the event of a resumed job; None where it is not this message's to take."""
        event = self._take(
            keys=[keys.job(job_id), keys.DUE],
            args=[job_id, taker.claim, taker.message_id, int(taker.redelivered), now, stale_at],
        )
        return Event.loads(event) if event else None

    def take_step(self, run: str, copy: str, *, seconds: int) -> bool:
        """Take a run of a plain step for a copy of its message; False where another has it."""
        key = keys.STEPS + run
        return bool(self._redis.set(key, copy, nx=True, ex=seconds)) or self._redis.get(key) == copy

    def due(self, *, now: float, lease_until: float, limit: int) -> list[JobId]:
        """Lease up to ``limit`` jobs whose moment has come, and as many that only end."""
        where = [keys.DUE, keys.RECORDS, keys.ENDING, keys.LEAVING]
        return cast(list[JobId], self._due(keys=where, args=[now, lease_until, limit]))

    def drop_due(self, job_id: JobId) -> None:
        """Forget the moment of a job that needs none: it has settled, or its record is gone."""
        ended = (None, *TERMINAL)
        self._change(job_id, ended, None, now=0, due="-", entry="", fields={})

    def mark_published(self, job_id: JobId, *, stale_at: float, until: float) -> None:
        """Move a job's moment from ``stale_at``, set before its message was published."""
        self._extend(keys=[keys.DUE, keys.job(job_id)], args=[job_id, stale_at, until])

    def reserve_poll(self, *, spacing_seconds: float) -> float:
        """Reserve the next moment for a poll, among all sweeps; returns the seconds until then."""
        return float(self._pace(keys=[keys.POLL_PACE], args=[spacing_seconds]))

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
        return cast("str | None", self._redis.hget(keys.job(job_id), "parked"))

    def read(self, job_id: JobId) -> JobRecord:
        """Read a job's record.

        Raises UnknownJob.
        """
        stored = cast(dict[str, str], self._redis.hgetall(keys.job(job_id)))
        if "state" not in stored:
            raise UnknownJob(f"there is no job {job_id}: wrong id, or past its retention")
        return _record(job_id, stored, self._redis.zscore(keys.DUE, job_id))

    def recent(self, limit: int) -> list[JobRecord]:
        """Read the newest jobs, newest first."""
        ids = cast(list[str], self._redis.zrange(keys.JOBS, 0, limit - 1, desc=True))
        with self._redis.pipeline(transaction=False) as pipe:
            for job_id in ids:
                pipe.hgetall(keys.job(job_id))
            records = zip(ids, pipe.execute(), strict=True)
        return [
            _record(JobId(job_id), stored, None) for job_id, stored in records if "state" in stored
        ]

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
        kept = self._late(
            keys=[keys.job(job_id)],
            args=[_csv(sources), _dump(late), retain_seconds, _entry(now, "late", None, why)],
        )
        return bool(kept)

    def check(self) -> None:
        """Raise StoreUnavailable where the server would not write; it writes nothing."""
        # A server that is full or read-only refuses even a write that would come to nothing.
        self._redis.set(keys.HEALTH, "ok", xx=True, keepttl=True)


def load_script(redis: "Redis", name: str) -> Any:
    """Load a script of worker/lua, with what is common to some of them before it."""
    lua = resources.files("worker") / "lua"
    parts = (*_PRELUDES.get(name, ()), name)
    return redis.register_script("".join((lua / f"{part}.lua").read_text() for part in parts))


def _csv(states: Iterable[JobState | None]) -> str:
    return "," + "".join(f"{state or ''}," for state in states)


def _dump(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, dict) else value


def _entry(now: float, what: str, state: JobState | None, why: str) -> str:
    entry = {"at": round(now, 3), "what": what, "state": state, "why": why}
    return json.dumps({name: value for name, value in entry.items() if value})


def _record(job_id: JobId, stored: Mapping[str, str], due_at: float | None) -> JobRecord:
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
        cancelled_by=stored.get("cancelled_by"),
        lane=stored.get("lane", ""),
        progress=documents.get("progress"),
        result=documents.get("result"),
        error=documents.get("error"),
        late=documents.get("late"),
        timeline=tuple(json.loads(line) for line in stored.get("timeline", "").splitlines()),
    )
