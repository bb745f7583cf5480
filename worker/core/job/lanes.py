"""The gate before the provider: its limits, the bids of jobs, and the lanes that they wait in."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from worker.core.contract import PRIORITY_HEADER, TENANT_HEADER
from worker.core.errors import InvalidRequest
from worker.core.job.models import JobId

TENANT: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,63}")
"""The form of a tenant's name, and of a batch's."""
TENANT_FORM: Final = "1 to 64 letters (A-Z, a-z), digits, _ . @ or -, the first a letter or a digit"
DEFAULT_TENANT: Final = "default"
OTHER_TENANTS: Final = "other"
"""So are the tenants counted together that have no counter of their own."""

EVERYTHING: Final = ""
"""The part that a pause is about if it names none (:mod:`worker.core.pauses`)."""
TRIPS_AFTER: Final = 5
"""The gate closes after so many submissions in a row that failed on the provider's side."""


class Priority(StrEnum):
    """Which jobs go first. Of ten that are admitted while both wait, one is of the batch."""

    INTERACTIVE = "interactive"
    BATCH = "batch"


@dataclass(frozen=True, slots=True)
class Limits:
    """The operator's limits; None means no limit. Credits are the provider's."""

    submits_per_second: float | None = None
    burst: int = 1
    """How many submissions may be made at once after a pause."""
    in_flight: int | None = None
    """How many jobs the provider may be working on at once."""
    credit_floor: float | None = None
    probe_seconds: float = 30
    """How long the gate stays closed before it lets one job through, as a probe."""
    weights: Mapping[str, float] = field(default_factory=dict)
    """The shares of tenants; a tenant that is not named has 1."""

    def arguments(self) -> dict[str, str | float]:
        """Return the limits as the gate's scripts name them (common/gate.lua)."""
        rate = self.submits_per_second
        return {
            "spacing": "" if rate is None else 1 / rate,
            "burst": self.burst,
            "in_flight": "" if self.in_flight is None else self.in_flight,
            "floor": "" if self.credit_floor is None else thousandths(self.credit_floor),
            "probe_seconds": self.probe_seconds,
        }


@dataclass(frozen=True, slots=True)
class Lane:
    """Where a job waits: with its tenant, in its priority; apart, if its operation is slow."""

    priority: Priority = Priority.INTERACTIVE
    tenant: str = DEFAULT_TENANT
    slow: bool = False

    def __str__(self) -> str:
        return f"{self.priority}{'.slow' if self.slow else ''}:{self.tenant}"


@dataclass(frozen=True, slots=True)
class Bid:
    """What a job asks of the gate."""

    lane: Lane
    cost: int
    """What it is expected to cost, in thousandths of a credit."""
    held_until: float
    """When the job expires, if it is still held then."""
    limits: Limits


@dataclass(frozen=True, slots=True)
class Released:
    """The jobs that may be submitted now, and when to look again."""

    job_ids: Sequence[JobId]
    again_at: float | None
    """When time alone may open the gate; None if an event must, or if no job waits."""


def lane_of(headers: Mapping[str, Any], *, slow: bool = False) -> Lane:
    """Read a message's lane from its headers.

    Args:
        slow: whether the message is of a slow operation.

    Raises InvalidRequest.
    """
    priority = headers.get(PRIORITY_HEADER) or Priority.INTERACTIVE
    tenant = headers.get(TENANT_HEADER) or DEFAULT_TENANT
    if priority not in set(Priority):
        raise InvalidRequest(f"{PRIORITY_HEADER} must be one of: {', '.join(Priority)}")
    if not isinstance(tenant, str) or not TENANT.fullmatch(tenant):
        raise InvalidRequest(f"{TENANT_HEADER} must be {TENANT_FORM}")
    return Lane(Priority(priority), tenant, slow)


def tenant_of(lane: str) -> str:
    """Return the tenant of a job by the lane on its record, which may be empty."""
    return lane.partition(":")[2] or DEFAULT_TENANT


def thousandths(amount: float) -> int:
    """Return credits as the gate counts them: sums of whole numbers do not drift."""
    return round(amount * 1000)
