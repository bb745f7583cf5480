"""What it costs to accept a webhook, against a Flask view that does nothing with it."""

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks import jobs
from benchmarks.deliveries import deliveries
from benchmarks.effort import Effort
from benchmarks.figures import Figure, Subject, compare
from benchmarks.house import RECEIVER, House, Server, cpu_seconds, house
from benchmarks.load import Outcome, Plan, send
from worker.engine.receive import Receipt

GROUP = "acknowledge"
AGAINST = "bare Flask view"

Samples = dict[str, list[float]]


@dataclass(frozen=True, slots=True)
class _Servers:
    """The receiver, and the view that does nothing, started alike."""

    receiver: Server
    bare: Server


def measure(effort: Effort) -> list[Figure]:
    """Deliver to each path in turn, round by round, with no worker that would consume."""
    with house() as home:
        servers = _start(home)
        _round(home, servers, max(effort.deliveries // 4, 20), defaultdict(list))
        samples: Samples = defaultdict(list)
        for _ in range(effort.rounds):
            _round(home, servers, effort.deliveries, samples)
    paths = ("first", "duplicate")
    return [figure for path in paths for figure in _figures(path, samples)]


def _start(home: House) -> _Servers:
    return _Servers(
        receiver=home.server("receiver", *RECEIVER),
        bare=home.server("bare", "benchmarks.bare:app"),
    )


def _round(home: House, servers: _Servers, count: int, samples: Samples) -> None:
    signed = deliveries(jobs.park(home, count))
    for name, server, requests, receipt in (
        # Cheap, so it gets each three times: CPU may be counted in steps of 10 ms.
        ("bare", servers.bare, 3 * signed, Receipt.RESUMED),
        ("first", servers.receiver, signed, Receipt.RESUMED),
        ("duplicate", servers.receiver, signed, Receipt.WITHOUT_EFFECT),
    ):
        measured = _deliver(home, server, requests, receipt)
        for what, value in measured.items():
            samples[f"{name} {what}"].append(value)


def _deliver(
    home: House, server: Server, requests: Sequence[str], receipt: Receipt
) -> dict[str, float]:
    before, before_all = cpu_seconds(server.process), cpu_seconds(server.process, home.valkey)
    outcomes = send(Plan(server.port, requests))
    after, after_all = cpu_seconds(server.process), cpu_seconds(server.process, home.valkey)
    _require(receipt, outcomes)
    lasted = max(o.answered_at for o in outcomes) - min(o.sent_at for o in outcomes)
    return {
        "cpu": (after - before) / len(outcomes) * 1e6,
        "whole cpu": (after_all - before_all) / len(outcomes) * 1e6,
        "rate": len(outcomes) / lasted,
    }


def _require(receipt: Receipt, outcomes: Sequence[Outcome]) -> None:
    """Refuse to report a figure of deliveries that were not taken the way that is measured."""
    expected = (200, receipt)
    other = [o for o in outcomes if (o.http_status, json.loads(o.body).get("status")) != expected]
    if other:
        raise RuntimeError(f"{len(other)} deliveries were not {receipt}, the first: {other[0]}")


def _figures(path: str, samples: Samples) -> list[Figure]:
    wanted = (
        ("cpu", "CPU per webhook", "µs"),
        ("whole cpu", "CPU per webhook with Valkey's", "µs"),
        ("rate", "accepted", "webhooks/s"),
    )
    return [
        compare(
            Subject(GROUP, f"{path}: {name}", unit, AGAINST),
            samples[f"{path} {what}"],
            # The bare view asks Valkey nothing.
            samples["bare rate" if what == "rate" else "bare cpu"],
        )
        for what, name, unit in wanted
    ]
