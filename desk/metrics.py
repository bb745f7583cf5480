"""``GET /metrics``: what Prometheus scrapes, in its text format.

Nothing is counted in this process. The scripts of the store keep the counters and the indexes, so
each scrape reads them once and sees the whole system, whichever desk answers. A label never holds a
job or a clip, and a tenant only if the operator has given it a weight: the number of series stays
bounded. ``docs/metrics.md`` explains each metric.
"""

import itertools
import math
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from flask import Blueprint, Response
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from desk.doors import system_wide
from desk.parts import desk, now
from worker.core.job.lanes import DEFAULT_TENANT, OTHER_TENANTS
from worker.core.job.models import Kind
from worker.core.job.states import JobState
from worker.core.overview import LAG_BOUNDS, WAIT_BOUNDS, Counts, GateView, histogram, total
from worker.wiring.desk import Desk

Tenant = Callable[[str], str]
"""Returns the label of a tenant."""

blueprint = Blueprint("metrics", __name__)


@blueprint.get("/metrics")
@system_wide
def scrape() -> Response:
    """Answer one scrape: ``curl -H "Authorization: Bearer $TOKEN" $DESK/metrics``."""
    registry = CollectorRegistry()
    registry.register(Store(desk(), now()))
    return Response(generate_latest(registry), content_type=CONTENT_TYPE_PLAIN_0_0_4)


class Store(Collector):
    """Reads the store once, for one scrape.

    Raises StoreUnavailable if Redis is away.
    """

    def __init__(self, parts: Desk, at: float) -> None:
        self._parts = parts
        self._at = at

    def collect(self) -> Iterator[Metric]:
        counters = self._parts.counters
        tenant = _labels({DEFAULT_TENANT, *self._parts.settings.limits.weights})
        yield from jobs(counters.counts(), counters.oldest(), self._at)
        yield from gate(counters.gate(), tenant)
        yield quarantine(self._parts.quarantine.counts())
        yield conductors(counters.workers())
        totals = counters.totals()
        yield from (counter.read(totals, tenant) for counter in COUNTERS)
        yield from histograms(totals)


def _labels(named: Collection[str]) -> Tenant:
    return lambda tenant: tenant if tenant in named else OTHER_TENANTS


def jobs(
    counts: Mapping[tuple[JobState, str], int], oldest: Mapping[JobState, float], at: float
) -> Iterator[Metric]:
    """Show how many jobs stand in each state, and how long the oldest has stood there."""
    standing = GaugeMetricFamily(
        "fermata_jobs",
        "Jobs by state; ended jobs count for as long as their records are kept.",
        labels=("state", "operation"),
    )
    for names, count in counts.items():
        standing.add_metric(names, count)
    yield standing
    age = GaugeMetricFamily(
        "fermata_oldest_seconds",
        "How long the job that reached a state first of those in it has stood there.",
        labels=("state",),
    )
    for state, since in oldest.items():
        age.add_metric((state,), max(at - since, 0))
    yield age


def gate(view: GateView, tenant: Tenant) -> Iterator[Metric]:
    """Show the gate before the provider, and who waits there."""
    yield GaugeMetricFamily(
        "fermata_gate_open",
        "1 if jobs may pass to the provider, 0 if the gate is closed or paused.",
        value=view.closed_for is None and view.paused_by is None,
    )
    yield GaugeMetricFamily(
        "fermata_gate_in_flight", "Jobs at the provider, submissions included.", view.in_flight
    )
    waiting = GaugeMetricFamily(
        "fermata_gate_waiting", "Jobs held before the gate.", labels=("priority", "tenant")
    )
    lanes = _added(
        ((lane.partition(".")[0], tenant(name)), count)
        for (lane, name), count in view.waiting.items()
    )
    for names, count in lanes.items():
        waiting.add_metric(names, count)
    yield waiting
    # Nothing is said of credits until the provider was asked: a zero would be an alarm.
    yield GaugeMetricFamily(
        "fermata_credits_left",
        "Credits left at the provider, less those spent or reserved since it was asked.",
        value=view.credits,
    )


def quarantine(counts: Mapping[Kind, int]) -> Metric:
    """Show how many deliveries are kept in quarantine."""
    entries = GaugeMetricFamily(
        "fermata_quarantine_entries",
        "Authentic deliveries kept because they cannot be used.",
        labels=("kind",),
    )
    for kind, count in counts.items():
        entries.add_metric((kind,), count)
    return entries


def conductors(workers: Mapping[str, float]) -> Metric:
    """Show when the last conductor, in any worker, gave a sign of life."""
    return GaugeMetricFamily(
        "fermata_conductor_last_seen_timestamp_seconds",
        "When a conductor last gave a sign of life, as Unix time.",
        value=max(workers.values(), default=None),
    )


@dataclass(frozen=True, slots=True)
class Counter:
    """A counter that the scripts keep."""

    name: str
    """The first part of its name in the store, and the middle of its name here."""
    help: str
    labels: Sequence[str]
    """What the other parts of its name in the store are."""
    unit: float = 1
    """So much is one in the store."""

    def read(self, totals: Counts, tenant: Tenant) -> Metric:
        """Pick its values out of all counters."""
        family = CounterMetricFamily(f"fermata_{self.name}", self.help, labels=self.labels)
        found = _added(
            (self._labelled(parts, tenant), count)
            for (name, *parts), count in totals.items()
            if name == self.name
        )
        for labels, count in found.items():
            family.add_metric(labels, count * self.unit)
        return family

    def _labelled(self, parts: Iterable[str], tenant: Tenant) -> tuple[str, ...]:
        pairs = zip(self.labels, parts, strict=True)
        return tuple(tenant(part) if label == "tenant" else part for label, part in pairs)


COUNTERS: Final = (
    Counter(
        "submissions",
        "Requests to the provider, by what became of each.",
        ("outcome", "operation"),
    ),
    Counter(
        "deliveries",
        "Authentic webhooks, by what became of each.",
        ("receipt",),
    ),
    Counter(
        "settled",
        "Jobs that ended: how, and who said so.",
        ("source", "outcome", "operation"),
    ),
    Counter(
        "credits",
        "List price of the jobs that succeeded.",
        ("tenant", "operation"),
        unit=0.001,
    ),
)


def histograms(totals: Counts) -> Iterator[Metric]:
    """Show how long the provider takes, and how long Fermata takes after it."""
    waits = HistogramMetricFamily(
        "fermata_provider_wait_seconds",
        "From the accepted submission to the webhook or poll that ended the job.",
        labels=("operation",),
    )
    for operation in sorted({parts[1] for parts in totals if parts[0] == "wait"}):
        of_it = {parts: count for parts, count in totals.items() if parts[1] == operation}
        waits.add_metric((operation,), *_observed(of_it, "wait", WAIT_BOUNDS))
    yield waits
    yield HistogramMetricFamily(
        "fermata_resume_lag_seconds",
        "From the event that ends a job to the settled job.",
        *_observed(totals, "lag", LAG_BOUNDS),
    )


def _observed(
    totals: Counts, name: str, bounds: Sequence[float]
) -> tuple[list[tuple[str, float]], float]:
    """Return the buckets of a histogram, each with those below it, and the sum in seconds."""
    counts = histogram(totals, name, bounds).counts
    below = itertools.accumulate(counts.values())
    buckets = [
        ("+Inf" if math.isinf(bound) else str(bound), float(count))
        for bound, count in zip(counts, below, strict=True)
    ]
    return buckets, total(totals, f"{name}_ms") / 1000


def _added(counted: Iterable[tuple[tuple[str, ...], int]]) -> Mapping[tuple[str, ...], int]:
    """Add up what has the same labels."""
    sums: dict[tuple[str, ...], int] = defaultdict(int)
    for labels, count in counted:
        sums[labels] += count
    return sums
