"""How long after a webhook the next job's submit reaches the provider, in a steady stream."""

import time
import uuid
from collections import defaultdict
from typing import Any

from celery import chain

from benchmarks import jobs
from benchmarks.deliveries import deliveries
from benchmarks.effort import Effort
from benchmarks.figures import Figure, Subject, compare_pooled, quantile
from benchmarks.house import RECEIVER, House, Server, house
from benchmarks.load import Plan, send
from worker.core.contract import QUEUE
from worker.core.health.checks import THREADS

GROUP = "latency"
_PLAIN = {
    "step": "plain chain, end of a to start of b",
    "publish": "plain chain, publishing a to start of b",
}

Delays = dict[str, list[list[float]]]


def measure(effort: Effort) -> list[Figure]:
    """Run plain chains and parked ones in turn, at the same rate, on one worker as it ships."""
    with house() as home:
        receiver = home.server("receiver", *RECEIVER)
        home.worker("worker", concurrency=THREADS)
        _round(home, receiver, 20, effort.chains_per_second, defaultdict(list))
        delays: Delays = defaultdict(list)
        for _ in range(effort.rounds):
            _round(home, receiver, effort.chains, effort.chains_per_second, delays)
    return [
        compare_pooled(
            Subject(GROUP, f"webhook to next submit, p{percent}", "ms", against),
            quantile(percent / 100),
            delays["parked"],
            delays[plain],
        )
        for plain, against in _PLAIN.items()
        for percent in (50, 99)
    ]


def _round(home: House, receiver: Server, count: int, per_second: float, delays: Delays) -> None:
    step, publish = _plain_chains(home, count, per_second)
    delays["step"].append(step)
    delays["publish"].append(publish)
    delays["parked"].append(_parked_chains(home, receiver, count, per_second))


def _plain_chains(home: House, count: int, per_second: float) -> tuple[list[float], list[float]]:
    """Publish ``first | second`` at a steady rate; returns two delays of each, in ms."""
    app = home.producer
    task_ids, start = [str(uuid.uuid4()) for _ in range(count)], time.monotonic()
    for number, task_id in enumerate(task_ids):
        time.sleep(max(start + number / per_second - time.monotonic(), 0))
        first = app.signature("benchmark.first", (time.monotonic(),), queue=QUEUE)
        second = app.signature("benchmark.second", queue=QUEUE, task_id=task_id)
        chain(first, second, app=app).apply_async()
    home.drained()
    results: list[Any] = [app.AsyncResult(task_id).result for task_id in task_ids]
    return [step * 1e3 for _, step in results], [whole * 1e3 for whole, _ in results]


def _parked_chains(home: House, receiver: Server, count: int, per_second: float) -> list[float]:
    """Park ``remaster | remaster``, then deliver the first webhook of each at a steady rate."""
    firsts = [jobs.remaster(home, str(uuid.uuid4())) for _ in range(count)]
    seconds = [jobs.remaster(home) for _ in range(count)]
    for first, second in zip(firsts, seconds, strict=True):
        chain(first, second, app=home.producer).apply_async()
    home.drained()
    job_ids = [str(first.id) for first in firsts]
    home.require("waiting", job_ids)
    home.arrivals()
    outcomes = send(Plan(receiver.port, deliveries(job_ids), per_second=per_second))
    home.drained()
    home.require("succeeded", job_ids)
    arrivals = home.arrivals()
    pairs = zip(seconds, outcomes, strict=True)
    return [(arrivals[str(second.id)] - sent.sent_at) * 1e3 for second, sent in pairs]
