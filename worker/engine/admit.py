"""Use cases of the gate: publish the jobs that it admits, and keep its balance true.

The gate holds a job back while the provider must not be asked for more. A thread of every worker
calls ``Admissions`` as soon as the gate may have opened: the gate admits held jobs, and this module
publishes their submit legs. ``Treasury`` asks the provider for the credits that are left, because
the gate can keep to the operator's floor only if it knows them. The sweep's thread calls it.
"""

from typing import Final

import structlog

from worker.core.errors import FermataError
from worker.core.job.timing import PUBLISH_LEASE_SECONDS
from worker.core.ports import Clock, Gate, Provider, Transport
from worker.messages.press import SubmitLegs

log = structlog.get_logger()

LISTEN_SECONDS: Final = 1.0
"""How long a thread waits at most for the gate to open before it looks again."""


class Admissions:
    """Publishes admitted jobs. Every worker does, and the gate gives each job to one of them."""

    def __init__(self, gate: Gate, submit_legs: SubmitLegs, clock: Clock) -> None:
        self._gate = gate
        self._submit_legs = submit_legs
        self._clock = clock

    def run_once(self) -> float:
        """Publish the jobs that the gate admits now; returns the seconds until the next look."""
        now = self._clock()
        stale_at = now + PUBLISH_LEASE_SECONDS
        released = self._gate.release(now=now, stale_at=stale_at)
        for job_id in released.job_ids:
            # Each job is due at stale_at. If this process dies here, the sweep publishes the job.
            self._submit_legs.publish(job_id, stale_at=stale_at, was_held=True)
        if released.again_at is None:
            return LISTEN_SECONDS
        return max(released.again_at - self._clock(), 0)


class Treasury:
    """Keeps the gate's balance true, if the operator set a floor for it."""

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
        # Read this first. If it were read after the answer, a charge in between would count as
        # known to the balance, and the gate would take the balance for larger than it is.
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
