"""Adapter: the gate before the provider, the same for all workers (see worker/lua/gate.lua)."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast

import structlog

from worker.client import AnswerLost, NeverSent, Provider
from worker.core import keys, protocol, results, submission
from worker.core.admission import TRIPS_AFTER, Bid, Lane, Limits, thousandths
from worker.core.models import JobId
from worker.core.operations import Operation, find
from worker.core.ports import Clock
from worker.core.schedule import PUBLISH_LEASE_SECONDS
from worker.message import SubmitLegs
from worker.scripts import load_script

if TYPE_CHECKING:
    from redis import Redis

log = structlog.get_logger()

AT_ONCE: Final = 20
LISTEN_SECONDS: Final = 1.0
_BALANCE: Final = "account.credits"
_BALANCE_LOCK: Final = keys.GATE + ":balance"


@dataclass(frozen=True, slots=True)
class Released:
    """Who may be submitted now, and when to look again."""

    job_ids: Sequence[JobId]
    again_at: float | None
    """When time alone may open the gate; None: an event must, or nobody waits."""


class Gate:
    """What keeps all workers together within the operator's limits.

    Every method raises StoreUnavailable where Redis cannot be reached.
    """

    def __init__(self, redis: "Redis", limits: Limits, held_seconds: float) -> None:
        self._redis = redis
        self._open = load_script(redis, "open")
        self._release = load_script(redis, "release")
        self.limits = limits
        self._held_seconds = held_seconds

    def bid(self, operation: Operation, lane: Lane, *, now: float, expires_at: float | None) -> Bid:
        """Say what a job asks of the gate."""
        held_until = now + self._held_seconds
        if expires_at is not None:
            held_until = min(expires_at, held_until)
        return Bid(lane, thousandths(operation.credits), held_until, self.limits)

    def hear(
        self, job_id: JobId, operation: Operation, outcome: protocol.SubmitOutcome, *, now: float
    ) -> bool:
        """Learn from a submission; says whether the gate was open, and is closed by it.

        That the provider accepted one opens it with the turn itself (transition.lua).
        """
        match outcome:
            case protocol.Refused(error) if error.closes_gate:
                return self._close(type(error).__name__, now)
            case protocol.Unknown() | protocol.Postponed(failed=True):
                failures = self._redis.hincrby(keys.GATE, "failures", 1)
                return failures >= TRIPS_AFTER and self._close("the provider fails", now)
            case protocol.Completed():
                self.open(job_id, paid=operation.credits > 0, now=now)
            case protocol.Refused():
                self.open(job_id, paid=False, now=now)
        return False

    def open(self, job_id: JobId, *, paid: bool, now: float) -> None:
        """Let jobs pass again after a job that the provider answered."""
        where = [keys.job(job_id), keys.DUE, keys.JOBS, *keys.BEFORE_THE_GATE]
        self._open(keys=where, args=[now, int(paid)])

    def _close(self, reason: str, now: float) -> bool:
        self._redis.hset(keys.GATE, "probe_at", str(now + self.limits.probe_seconds))
        newly = bool(self._redis.hsetnx(keys.GATE, "breaker", reason))
        if newly:
            self._redis.hset(keys.GATE, "closed_at", str(now))
            log.warning("gate_closed", why=reason, probe_in_seconds=self.limits.probe_seconds)
        return newly

    def release(self, *, now: float, stale_at: float) -> Released:
        """Admit those whose turn it is; each is leased until ``stale_at`` to be published."""
        weights = json.dumps(dict(self.limits.weights))
        job_ids, again = self._release(
            keys=[keys.RECORDS, keys.DUE, keys.JOBS, *keys.BEFORE_THE_GATE],
            args=[now, stale_at, AT_ONCE, *self.limits.arguments(), weights],
        )
        return Released(job_ids, float(again) if again else None)

    def listen(self, seconds: float) -> None:
        """Wait until something happened that may open the gate, but not longer."""
        self._redis.blpop([keys.WAKE], timeout=seconds)

    def learn_balance(self, left: float, *, spent_before: int) -> None:
        """Keep the balance that was asked for when ``spent_before`` had been spent."""
        known: dict[Any, Any] = {"balance": thousandths(left), "spent_before": spent_before}
        self._redis.hset(keys.GATE, mapping=known)
        self._redis.lpush(keys.WAKE, "1")

    def spent(self) -> int:
        """Return what was ever spent, in thousandths."""
        return int(cast("str | None", self._redis.hget(keys.GATE, "spent")) or 0)

    def may_ask_balance(self, every_seconds: float) -> bool:
        """Say whether it is time to ask again, to one worker of all."""
        every = round(every_seconds * 1000)
        return bool(self._redis.set(_BALANCE_LOCK, "asked", nx=True, px=every))


class Admissions:
    """Wakes those who wait before the gate, one worker's share of it."""

    def __init__(self, gate: Gate, submit_legs: SubmitLegs, clock: Clock) -> None:
        self._gate = gate
        self._submit_legs = submit_legs
        self._clock = clock

    def run_once(self) -> float:
        """Publish those whose turn it is; returns how long there is nothing to do, in seconds."""
        now = self._clock()
        stale_at = now + PUBLISH_LEASE_SECONDS
        released = self._gate.release(now=now, stale_at=stale_at)
        for job_id in released.job_ids:
            self._submit_legs.publish(job_id, stale_at=stale_at)
        if released.again_at is None:
            return LISTEN_SECONDS
        return max(released.again_at - self._clock(), 0)


class Treasury:
    """Keeps the gate's balance true, where the operator set a floor to it."""

    def __init__(self, gate: Gate, provider: Provider, every_seconds: float) -> None:
        self._gate = gate
        self._provider = provider
        self._every_seconds = every_seconds

    def refresh(self) -> None:
        """Ask the provider for the balance, if it is time to; asking is free."""
        if self._gate.limits.credit_floor is None:
            return
        if not self._gate.may_ask_balance(self._every_seconds):
            return
        spent_before = self._gate.spent()
        left = self._ask()
        if left is not None:
            self._gate.learn_balance(left, spent_before=spent_before)

    def _ask(self) -> float | None:
        operation = find(_BALANCE)
        try:
            answer = self._provider.send(submission.build_request(operation, {}, None))
        except (NeverSent, AnswerLost) as error:
            log.warning("balance_unknown", why=error.message)
            return None
        match protocol.read_submit(operation, answer):
            case protocol.Completed(said):
                data = results.read_result(operation, protocol.parse(said), clip_id=None)["data"]
                return float(data["credits"]) + float(data.get("extra_credits") or 0)
            case other:
                log.warning("balance_unknown", why=type(other).__name__)
                return None
