"""Publish the jobs whose turn it is before the gate, and keep the gate's balance true."""

from typing import Final

import structlog

from worker.core.errors import FermataError
from worker.core.job.timing import PUBLISH_LEASE_SECONDS
from worker.core.ports import Clock, Gate, Provider, Transport
from worker.messages.press import SubmitLegs

log = structlog.get_logger()

LISTEN_SECONDS: Final = 1.0


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

    def __init__(
        self, gate: Gate, provider: Provider, transport: Transport, every_seconds: float
    ) -> None:
        self._gate = gate
        self._provider = provider
        self._transport = transport
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
        try:
            answer = self._transport.send(self._provider.build_balance())
            return self._provider.read_balance(answer)
        except FermataError as error:
            log.warning("balance_unknown", why=error.message)
            return None
