"""What people look at: the jobs that match a filter, and what the counters say of all of them.

The scripts of the store keep indexes and counters (``store/lua/common/overview.lua``), and
``store/overview.py`` reads them into the nouns of this module. A job is a :class:`Row` here: one
line, without its request and its result, however long these are.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from worker.core.job.lanes import DEFAULT_TENANT, Limits
from worker.core.job.models import JobId
from worker.core.job.states import JobState

Counts = Mapping[tuple[str, ...], int]
"""Counters by their names, which have parts: ``("settled", "webhook", "succeeded")``."""

WAIT_BOUNDS: Final = (5, 10, 20, 30, 45, 60, 90, 120, 180, 300, 600, 1200, 1800, 3600)
"""Seconds; the upper bounds of the histogram of how long the provider takes (overview.lua)."""
LOW_WEBHOOK_SHARE: Final = 0.9
"""If fewer of the jobs are settled by a webhook, people are told that webhooks may not arrive."""
LAG_BOUNDS: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
"""Seconds; the upper bounds of the histogram from an event to its settled job (overview.lua)."""


@dataclass(frozen=True, slots=True)
class Filter:
    """Which jobs to list; None means any. Times are Unix seconds."""

    state: JobState | None = None
    operation: str | None = None
    tenant: str | None = None
    batch: str | None = None
    error: str | None = None
    """The type of the error, as a record has it: ``TaskFailed``."""
    since: float | None = None
    """Recorded at this time or later."""
    until: float | None = None
    """Recorded before this time."""

    def matches(self, row: "Row") -> bool:
        """Say whether a job is one of those."""
        wanted = (
            (self.state, row.state),
            (self.operation, row.operation),
            (self.tenant, row.tenant),
            (self.batch, row.batch),
            (self.error, row.error_type),
        )
        in_time = (self.since or 0) <= row.created_at < (self.until or math.inf)
        return in_time and all(each in {None, has} for each, has in wanted)


@dataclass(frozen=True, slots=True)
class Row:
    """A job in a list."""

    job_id: JobId
    operation: str
    state: JobState
    created_at: float
    tenant: str = DEFAULT_TENANT
    priority: str = ""
    """Empty if no worker has begun it yet and its producer said nothing."""
    credits: float = 0.0
    """Its list price."""
    batch: str | None = None
    error_type: str | None = None
    provider_task_id: str | None = None
    clip_id: str | None = None
    source: str | None = None
    """Where the event came from that ended it (:class:`worker.core.job.models.Source`)."""


@dataclass(frozen=True, slots=True)
class Page:
    """Some jobs of a list, and where it goes on."""

    rows: Sequence[Row]
    cursor: str | None
    """Give this back to go on; None: the list has ended."""
    looked_at: int
    """How many jobs were looked at. A page may be short, or empty, and still have a cursor."""


@dataclass(frozen=True, slots=True)
class Turned:
    """A job that has just reached a state."""

    turn_id: str
    """Give this back to hear of what came after it."""
    job_id: JobId
    state: JobState
    operation: str
    tenant: str


@dataclass(frozen=True, slots=True)
class GateView:
    """The gate before the provider as it stands. Credits are None if nobody has asked yet."""

    closed_for: str | None = None
    """Why it is closed for everybody; None if it is open."""
    closed_at: float | None = None
    probe_at: float | None = None
    """When it lets one job through, to see whether the provider answers again."""
    paused_by: str | None = None
    """Who has paused it; jobs that wait stay before it until somebody resumes it."""
    paused_at: float | None = None
    in_flight: int = 0
    credits: float | None = None
    """The balance, less what was spent or reserved since it was asked for."""
    waiting: Mapping[tuple[str, str], int] = field(default_factory=dict)
    """How many jobs wait before it, by their class (lanes.py) and tenant."""


@dataclass(frozen=True, slots=True)
class Histogram:
    """How often something took how long."""

    counts: Mapping[float, int]
    """By upper bound in seconds; each observation is counted once, infinity is the last bound."""

    @property
    def count(self) -> int:
        return sum(self.counts.values())

    def quantile(self, share: float) -> float | None:
        """Estimate a quantile in seconds, as Prometheus does; None if nothing was observed.

        Inside a bucket the observations are taken to be spread evenly. If it lies in the last
        bucket, which has no upper bound, its lower bound is returned.
        """
        rank, seen, below = share * self.count, 0, 0.0
        for bound, count in sorted(self.counts.items()):
            if count and seen + count >= rank:
                if math.isinf(bound):
                    return below
                return below + (bound - below) * (rank - seen) / count
            seen, below = seen + count, bound
        return None


def histogram(counts: Counts, name: str, bounds: Sequence[float]) -> Histogram:
    """Read the histogram of a name, over all operations."""
    found = dict.fromkeys((*map(float, bounds), math.inf), 0)
    for parts, count in counts.items():
        if parts[0] == name and (bound := float(parts[-1])) in found:
            found[bound] += count
    return Histogram(found)


def total(counts: Counts, *name: str) -> int:
    """Add the counters whose names begin with some parts."""
    return sum(count for parts, count in counts.items() if parts[: len(name)] == name)


def webhook_share(counts: Counts) -> float | None:
    """Return the share of jobs settled by a webhook, among those settled by webhook or poll.

    None if there were none. If it falls, webhooks do not arrive: look at the path to the receiver.
    """
    webhooks, polls = total(counts, "settled", "webhook"), total(counts, "settled", "poll")
    return webhooks / (webhooks + polls) if webhooks + polls else None


def added(many: Sequence[Counts]) -> Counts:
    """Add counters of the same names."""
    names = {name for counts in many for name in counts}
    return {name: sum(counts.get(name, 0) for counts in many) for name in names}


def gate_sentence(gate: GateView, limits: Limits) -> str:
    """Say in one sentence how the gate stands; times are in UTC.

    ``open: 37 of 50 at the provider, 2 a second, 1,840 credits, floor 500``
    """
    told: list[str] = []
    if gate.paused_by is not None:
        told += [f"paused by {gate.paused_by}", *_times(("since", gate.paused_at))]
    if gate.closed_for is not None:
        times = ("since", gate.closed_at), ("next probe", gate.probe_at)
        told += [f"closed: {gate.closed_for}", *_times(*times)]
    return "; ".join(told) or f"open: {', '.join(_measures(gate, limits))}"


def _times(*times: tuple[str, float | None]) -> list[str]:
    return [f"{name} {_moment(at)}" for name, at in times if at]


def _measures(gate: GateView, limits: Limits) -> Iterator[str]:
    most = "" if limits.in_flight is None else f" of {limits.in_flight:,}"
    yield f"{gate.in_flight:,}{most} at the provider"
    if limits.submits_per_second is not None:
        yield f"{limits.submits_per_second:g} a second"
    if gate.credits is not None:
        yield f"{_amount(gate.credits)} credits"
    elif limits.credit_floor is not None:
        yield "balance not known yet"
    if limits.credit_floor is not None:
        yield f"floor {_amount(limits.credit_floor)}"
    if waiting := sum(gate.waiting.values()):
        yield f"{waiting:,} waiting"


def _amount(amount: float) -> str:
    return f"{round(amount, 3):,}".removesuffix(".0")


def _moment(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
