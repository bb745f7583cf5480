"""The same work on each system in turn, round by round; what is compared is Fermata ÷ the other."""

import time
import uuid
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from benchmarks.deliveries import deliveries
from benchmarks.effort import Effort
from benchmarks.figures import Figure, Subject, compare
from benchmarks.house import House, cpu_seconds
from benchmarks.load import CONNECTIONS, Outcome, Plan, send
from benchmarks.peers.fermata import Fermata
from benchmarks.peers.peer import Peer, counted

GROUP: Final = "peers"
_FIGURES: Final = (
    ("parked", "jobs parked", "/s"),
    ("park", "a park: CPU of all its processes", "ms"),
    ("accepted", "webhooks accepted", "/s"),
    ("resolved", "jobs resolved", "/s"),
    ("resolve", "a resolve: CPU of all its processes", "ms"),
)

Sampled = dict[str, list[float]]
"""What was measured of one system, by the name of a figure."""


def measure(ours: Fermata, peers: Sequence[Peer], effort: Effort) -> list[Figure]:
    """Take all systems in turn; the first turn of each is for warmth."""
    every = (ours, *peers)
    for each in every:
        _turn(ours.home, each, max(effort.resolved // 4, 20), defaultdict(list))
    samples: dict[str, Sampled] = {each.name: defaultdict(list) for each in every}
    for _ in range(effort.rounds):
        for each in every:
            _turn(ours.home, each, effort.resolved, samples[each.name])
    return [
        compare(
            Subject(GROUP, name, unit, each.name),
            samples[ours.name][what],
            samples[each.name][what],
        )
        for each in peers
        for what, name, unit in _FIGURES
    ]


def _turn(home: House, peer: Peer, count: int, samples: Sampled) -> None:
    job_ids = [str(uuid.uuid4()) for _ in range(count)]
    webhook_ids = _park(home, peer, job_ids, samples)
    _resolve(peer, job_ids, webhook_ids, samples)
    peer.require(job_ids)


def _park(home: House, peer: Peer, job_ids: Sequence[str], samples: Sampled) -> list[str]:
    """Submit jobs and wait until they wait; returns what their webhooks are addressed to."""
    home.arrivals()
    used, own, start = cpu_seconds(*peer.processes), time.process_time(), time.monotonic()
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        list(pool.map(peer.submit, job_ids))
    handed_over = time.process_time() - own
    webhook_ids = _arrived(home, len(job_ids))
    seconds = peer.parked(job_ids) - start
    cpu = cpu_seconds(*peer.processes) - used + handed_over
    samples["parked"].append(len(job_ids) / seconds)
    samples["park"].append(cpu / len(job_ids) * 1e3)
    return webhook_ids


def _arrived(home: House, count: int) -> list[str]:
    """Wait until so many submits reached the provider, which costs no system anything."""
    arrived: list[str] = []

    def look() -> int:
        arrived.extend(home.arrivals())
        return len(arrived)

    counted(count, look, every_seconds=0.02)
    return arrived


def _resolve(
    peer: Peer, job_ids: Sequence[str], webhook_ids: Sequence[str], samples: Sampled
) -> None:
    """Deliver webhooks as fast as they are answered, and wait until every job has its result."""
    requests = deliveries(webhook_ids)
    used = cpu_seconds(*peer.processes)
    outcomes = send(Plan(peer.front.port, requests))
    _require_accepted(peer, outcomes)
    done = peer.resolved(job_ids)
    cpu = cpu_seconds(*peer.processes) - used
    start = min(each.sent_at for each in outcomes)
    answered = max(each.answered_at for each in outcomes)
    samples["accepted"].append(len(outcomes) / (answered - start))
    samples["resolved"].append(len(outcomes) / (done - start))
    samples["resolve"].append(cpu / len(outcomes) * 1e3)


def _require_accepted(peer: Peer, outcomes: Sequence[Outcome]) -> None:
    refused = [each for each in outcomes if each.http_status != 200]
    if refused:
        raise RuntimeError(f"{peer.name}: {len(refused)} deliveries were refused: {refused[0]}")
