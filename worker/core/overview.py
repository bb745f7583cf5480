"""What people look at: the jobs that match a filter, and what the counters say of all of them.

The scripts of the store keep indexes and counters (``store/lua/common/overview.lua``), and
``store/counters.py``, ``lists.py`` and ``turns.py`` read them into the nouns of this module. A job
is a :class:`Row` here: one line, without its request and its result, however long these are.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from worker.core.amounts import count, duration, number
from worker.core.job.lanes import DEFAULT_TENANT, Limits
from worker.core.job.models import JobId
from worker.core.job.states import LOST, JobState
from worker.core.wire import Operation

Counts = Mapping[tuple[str, ...], int]
"""Counters by their names, which have parts: ``("settled", "webhook", "succeeded")``."""

WAIT_BOUNDS: Final = (5, 10, 20, 30, 45, 60, 90, 120, 180, 300, 600, 1200, 1800, 3600)
"""Seconds; the upper bounds of the histogram of how long the provider takes (overview.lua)."""
LOW_WEBHOOK_SHARE: Final = 0.9
"""If fewer of the jobs are settled by a webhook, people are told that webhooks may not arrive."""
PAUSES_NAMED: Final = 3
"""If more tenants and operations are paused, one sentence only counts them."""
ENOUGH_SETTLED: Final = 10
"""Of fewer jobs in an hour, the share of webhooks says nothing."""
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
    among: frozenset[JobState] | None = None
    """In one of these states."""

    @property
    def states(self) -> frozenset[JobState]:
        """The states in which a job that matches may stand: it has an error only if it was lost."""
        named = frozenset(JobState if self.state is None else {self.state})
        return named & (self.among or frozenset(JobState)) & (LOST if self.error else named)

    def matches(self, row: "Row") -> bool:
        """Say whether a job is one of those."""
        wanted = (
            (self.operation, row.operation),
            (self.tenant, row.tenant),
            (self.batch, row.batch),
            (self.error, row.error_type),
        )
        until = math.inf if self.until is None else self.until
        in_time = (self.since or 0) <= row.created_at < until
        named = all(each in {None, has} for each, has in wanted)
        return in_time and named and row.state in self.states


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
    again: str | None = None
    """The job that runs in its place: this one failed, and was retried."""
    cancelled_by: str | None = None
    """Who cancelled it; it ends, if it has not ended yet."""


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
class Received:
    """A delivery that came, and what became of it."""

    receipt_id: str
    """Give this back to read of those that came before it."""
    at: float
    job_id: JobId
    receipt: str
    """As :class:`worker.engine.receive.Receipt` names it."""
    what: str
    """What the job's timeline calls it: the provider's event, or the turn that it brought."""
    why: str = ""
    """The webhook's own id; or why it is in quarantine."""
    entry_id: str | None = None
    """Its entry, if it was put in quarantine."""


@dataclass(frozen=True, slots=True)
class Pause:
    """One tenant or one operation whose jobs do not pass the gate."""

    kind: str
    """``tenant`` or ``operation``."""
    name: str
    by: str
    at: float
    held: int = 0
    """How many of its jobs are held."""


@dataclass(frozen=True, slots=True)
class GateChange:
    """What happened to the gate: it ``closed``, ``opened``, was ``paused`` or ``resumed``."""

    at: float
    what: str
    why: str = ""
    """Why it closed, or had been closed; or the part that was paused or resumed, empty if all."""
    by: str = ""


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
    pauses: Sequence[Pause] = ()
    """The tenants and operations that are paused."""
    in_flight: int = 0
    credits: float | None = None
    """The balance, less what was spent or reserved since it was asked for."""
    waiting: Mapping[tuple[str, str], int] = field(default_factory=dict)
    """How many jobs wait before it, by their class (lanes.py) and tenant; the paused ones too."""


@dataclass(frozen=True, slots=True)
class TenantDay:
    """What became of the jobs of one tenant on one day, and what they cost at list price."""

    tenant: str
    succeeded: int = 0
    failed: int = 0
    """The expired ones too."""
    cancelled: int = 0
    credits: float = 0.0

    @property
    def settled(self) -> int:
        return self.succeeded + self.failed + self.cancelled


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
        for bound, size in sorted(self.counts.items()):
            if size and seen + size >= rank:
                if math.isinf(bound):
                    return below
                return below + (bound - below) * (rank - seen) / size
            seen, below = seen + size, bound
        return None


@dataclass(frozen=True, slots=True)
class WebhookShare:
    """How many jobs webhooks have settled, and how many polls, although a webhook was to come."""

    webhooks: int
    polls: int

    @property
    def share(self) -> float | None:
        """The part of the webhooks; None if nothing was settled."""
        settled = self.webhooks + self.polls
        return self.webhooks / settled if settled else None

    @property
    def is_low(self) -> bool:
        """Whether webhooks do not arrive: look at the path to the receiver."""
        enough = self.webhooks + self.polls >= ENOUGH_SETTLED
        return enough and self.share is not None and self.share < LOW_WEBHOOK_SHARE


def histogram(counts: Counts, name: str, bounds: Sequence[float]) -> Histogram:
    """Read the histogram of a name, over all operations."""
    found = dict.fromkeys((*map(float, bounds), math.inf), 0)
    for parts, size in counts.items():
        if parts[0] == name and (bound := float(parts[-1])) in found:
            found[bound] += size
    return Histogram(found)


def total(counts: Counts, *name: str) -> int:
    """Add the counters whose names begin with some parts."""
    return sum(each for parts, each in counts.items() if parts[: len(name)] == name)


def webhook_share(counts: Counts, operations: Mapping[str, Operation]) -> WebhookShare:
    """Count what webhooks and polls have settled, of the operations that take a webhook.

    Args:
        counts: of minutes, whose names end with the operation.
        operations: by their names; an operation that is not among them is left out.
    """
    taking = {name for name, operation in operations.items() if operation.takes_webhook}
    called_back = {name: n for name, n in counts.items() if name[-1] in taking}
    return WebhookShare(
        total(called_back, "settled", "webhook"), total(called_back, "settled", "poll")
    )


def added(many: Sequence[Counts]) -> Counts:
    """Add counters of the same names."""
    names = {name for counts in many for name in counts}
    return {name: sum(counts.get(name, 0) for counts in many) for name in names}


def by_tenant(day: Counts) -> list[TenantDay]:
    """Read a day's counters by tenant, the one with most settled jobs first."""
    # A worker of an earlier version counts what has settled without a tenant.
    tenants = {parts[-1] for parts in day if len(parts) == (2 if parts[0] == "credits" else 3)}
    found = [
        TenantDay(
            tenant,
            succeeded=day.get(("settled", JobState.SUCCEEDED, tenant), 0),
            failed=sum(
                day.get(("settled", state, tenant), 0)
                for state in (JobState.FAILED, JobState.EXPIRED)
            ),
            cancelled=day.get(("settled", JobState.CANCELLED, tenant), 0),
            credits=day.get(("credits", tenant), 0) / 1000,
        )
        for tenant in tenants
    ]
    return sorted(found, key=lambda each: (-each.settled, each.tenant))


def gate_sentence(gate: GateView, limits: Limits, *, now: float) -> str:
    """Say in one sentence how the gate stands.

    ``open: 37 of 50 at the provider, 2 a second, 1,840 credits, floor 500``
    """
    standing = [*(_standing(gate, now) or ["open"]), *_paused_parts(gate.pauses, now)]
    return f"{'; '.join(standing)}: {', '.join(_measures(gate, limits))}"


def _standing(gate: GateView, now: float) -> list[str]:
    said = []
    if gate.paused_by is not None:
        ago = f" {_roughly(now - gate.paused_at)} ago" if gate.paused_at else ""
        said.append(f"paused{ago} by {gate.paused_by}")
    if gate.closed_for is not None:
        probe = ""
        if gate.probe_at is not None:
            left = math.ceil(gate.probe_at - now)
            probe = f", next probe {f'in {duration(left)}' if left > 0 else 'now'}"
        since = f" for {_roughly(now - gate.closed_at)}" if gate.closed_at else ""
        said.append(f"closed{since} ({gate.closed_for}{probe})")
    return said


def _paused_parts(pauses: Sequence[Pause], now: float) -> Iterator[str]:
    if len(pauses) > PAUSES_NAMED:
        yield f"{number(len(pauses))} tenants and operations paused"
        return
    for each in pauses:
        yield f"{each.kind} {each.name} paused {_roughly(now - each.at)} ago by {each.by}"


def _roughly(seconds: float) -> str:
    return f"{max(seconds, 0):.0f} s" if seconds < 60 else duration(seconds)


def _measures(gate: GateView, limits: Limits) -> Iterator[str]:
    if limits.in_flight is None:
        yield f"{count(gate.in_flight, 'job')} at the provider"
    else:
        yield f"{number(gate.in_flight)} of {number(limits.in_flight)} at the provider"
    if limits.submits_per_second is not None:
        yield f"{number(limits.submits_per_second)} a second"
    if gate.credits is not None:
        yield count(gate.credits, "credit")
    elif limits.credit_floor is not None:
        yield "balance not known yet"
    if limits.credit_floor is not None:
        yield f"floor {number(limits.credit_floor)}"
    if waiting := sum(gate.waiting.values()):
        yield f"{number(waiting)} waiting"
