"""Adapter: the gate that every submission passes, one for all workers.

The operator's limits (rate, jobs in flight, credits) hold for all workers together, so the gate's
counters are in Redis. The script that begins a submit leg (``Records.begin``) asks the gate, and
the leg then tells ``hear`` what the provider answered. If the provider keeps failing, refuses the
API key or wants credits, the gate closes for everybody, and lets one probe through at intervals.
``release`` admits the jobs that were held. People pause all jobs, those of one tenant, or those of
one operation (:mod:`worker.core.pauses`). The rules are in ``lua/common/gate.lua``.
"""

import json
from typing import TYPE_CHECKING, Any, Final, cast

import structlog

from worker.core import keys
from worker.core.job.lanes import EVERYTHING, TRIPS_AFTER, Bid, Lane, Limits, Released, thousandths
from worker.core.job.models import JobId
from worker.core.wire import Completed, Operation, Postponed, Refused, SubmitOutcome, Unknown
from worker.store.scripts import Script

if TYPE_CHECKING:
    from redis import Redis
    from redis.client import Pipeline

log = structlog.get_logger()

AT_ONCE: Final = 20
"""How many jobs one call of ``release`` admits at most."""
_BALANCE_LOCK: Final = keys.GATE + ":balance"
_HISTORY_KEPT: Final = 100


class Gate:
    """Keeps all workers together within the operator's limits.

    Every method raises StoreUnavailable if Redis cannot be reached.
    """

    def __init__(self, redis: "Redis", limits: Limits, held_seconds: float) -> None:
        self._redis = redis
        self._open = Script(redis, "open_gate")
        self._admit = Script(redis, "admit")
        self.limits = limits
        self._held_seconds = held_seconds

    def bid(self, operation: Operation, lane: Lane, *, now: float, expires_at: float | None) -> Bid:
        """Say what a job asks of the gate."""
        held_until = now + self._held_seconds
        if expires_at is not None:
            held_until = min(expires_at, held_until)
        return Bid(lane, thousandths(operation.credits), held_until, self.limits)

    def hear(
        self, job_id: JobId, operation: Operation, outcome: SubmitOutcome, *, now: float
    ) -> bool:
        """Learn from a submission; returns True if it closes a gate that was open.

        An accepted job is not handled here: the turn ACCEPT opens the gate (transition.lua).
        """
        match outcome:
            case Refused(error) if error.closes_gate:
                return self._close(type(error).__name__, now)
            case Unknown() | Postponed(failed=True):
                failures = self._redis.hincrby(keys.GATE, "failures", 1)
                return failures >= TRIPS_AFTER and self._close("the provider fails", now)
            case Completed():
                self.open(job_id, paid=operation.credits > 0, now=now)
            case Refused():
                self.open(job_id, paid=False, now=now)
        return False

    def open(self, job_id: JobId, *, paid: bool, now: float) -> None:
        """Let jobs pass again after a job that the provider answered."""
        self._open(
            **keys.BEFORE_THE_GATE,
            job=keys.job(job_id),
            due=keys.DUE,
            now=now,
            paid=int(paid),
        )

    def _close(self, reason: str, now: float) -> bool:
        # Set probe_at first: a closed gate without it would let the next job through as its probe.
        self._redis.hset(keys.GATE, "probe_at", str(now + self.limits.probe_seconds))
        # HSETNX: of several legs that close the gate at once, one has found it open.
        newly = bool(self._redis.hsetnx(keys.GATE, "breaker", reason))
        if newly:
            with self._redis.pipeline() as pipe:
                pipe.hset(keys.GATE, "closed_at", str(now))
                _remember(pipe, at=now, what="closed", why=reason)
                pipe.execute()
            log.warning("gate_closed", why=reason, probe_in_seconds=self.limits.probe_seconds)
        return newly

    def release(self, *, now: float, stale_at: float) -> Released:
        """Admit held jobs as far as the limits allow; each is due for the sweep at ``stale_at``."""
        weights = json.dumps(dict(self.limits.weights))
        job_ids, again = self._admit(
            **keys.BEFORE_THE_GATE,
            **keys.OF_THE_OVERVIEW,
            **self.limits.arguments(),
            records=keys.RECORDS,
            due=keys.DUE,
            now=now,
            stale_at=stale_at,
            most=AT_ONCE,
            weights=weights,
        )
        return Released(job_ids, float(again) if again else None)

    def pause(self, by: str, *, now: float, part: str = EVERYTHING) -> None:
        """Let no job of a part pass until ``resume``. Jobs that were admitted already go on.

        Args:
            part: as :func:`worker.core.pauses.part` names it.
        """
        paused: dict[Any, Any] = {"paused": by, "paused_at": now}
        if part:
            # A field of its own: a worker of an earlier version must not take this for a pause of
            # everything.
            paused = {f"paused:{part}": json.dumps({"by": by, "at": now})}
        with self._redis.pipeline() as pipe:
            pipe.hset(keys.GATE, mapping=paused)
            _remember(pipe, at=now, what="paused", why=part, by=by)
            pipe.execute()
        log.info("gate_paused", by=by, part=part or "everything")

    def resume(self, by: str, *, now: float, part: str = EVERYTHING) -> bool:
        """Let jobs of a part pass again; returns False if it was not paused.

        What else is paused stays so.
        """
        fields = (f"paused:{part}",) if part else ("paused", "paused_at")
        # Of two who resume at once, one has ended the pause: it is in the history once.
        if not self._redis.hdel(keys.GATE, *fields):
            return False
        with self._redis.pipeline() as pipe:
            _remember(pipe, at=now, what="resumed", why=part, by=by)
            pipe.lpush(keys.WAKE, "1")
            pipe.execute()
        log.info("gate_resumed", by=by, part=part or "everything")
        return True

    def listen(self, seconds: float) -> None:
        """Wait until something happens that may open the gate, ``seconds`` at most."""
        self._redis.blpop([keys.WAKE], timeout=seconds)

    def learn_balance(self, left: float, *, spent_before: int) -> None:
        """Keep a balance that was asked for after ``spent_before`` had been spent."""
        known: dict[Any, Any] = {"balance": thousandths(left), "spent_before": spent_before}
        self._redis.hset(keys.GATE, mapping=known)
        self._redis.lpush(keys.WAKE, "1")

    def spent(self) -> int:
        """Return the credits spent since the gate exists, in thousandths."""
        return int(cast("str | None", self._redis.hget(keys.GATE, "spent")) or 0)

    def may_ask_balance(self, every_seconds: float) -> bool:
        """Say whether it is time to ask again, to one worker of all."""
        # The key expires when it is time again, so one worker of all gets it each time.
        every = round(every_seconds * 1000)
        return bool(self._redis.set(_BALANCE_LOCK, "asked", nx=True, px=every))


def _remember(pipe: "Pipeline", **said: Any) -> None:
    """Write a line of the gate's history, as gate.lua does when the gate opens."""
    pipe.lpush(keys.GATE_HISTORY, json.dumps(said))
    pipe.ltrim(keys.GATE_HISTORY, 0, _HISTORY_KEPT - 1)
