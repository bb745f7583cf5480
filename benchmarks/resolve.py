"""What a job costs from its webhook to its stored result, against a plain task behind a view.

Both views check the same signature, and one worker, as the Procfile starts it, runs both kinds. The
same worker parks the jobs first, against as many plain tasks.
"""

import functools
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import psutil
from celery.canvas import Signature

from benchmarks import jobs
from benchmarks.deliveries import deliveries
from benchmarks.effort import Effort
from benchmarks.figures import Figure, Subject, compare
from benchmarks.house import RECEIVER, House, Server, cpu_seconds, house
from benchmarks.load import Plan, send
from worker.core.contract import QUEUE

GROUP: Final = "resolve"
_BEHIND_A_VIEW: Final = "plain task behind a Flask view with the same check"
_ENQUEUED: Final = "plain task, enqueued and run"
_FIGURES: Final = (
    ("resolve accepted", "webhooks accepted", "/s", _BEHIND_A_VIEW),
    ("resolve done", "jobs resolved", "/s", _BEHIND_A_VIEW),
    ("resolve server", "a resolve: CPU of the receiver", "ms", _BEHIND_A_VIEW),
    ("resolve worker", "a resolve: CPU of the worker", "ms", _BEHIND_A_VIEW),
    ("resolve valkey", "a resolve: CPU of Valkey", "ms", _BEHIND_A_VIEW),
    ("resolve all", "a resolve: CPU of all three", "ms", _BEHIND_A_VIEW),
    ("park done", "jobs parked", "/s", _ENQUEUED),
    ("park all", "a park: CPU of producer, worker and Valkey", "ms", _ENQUEUED),
)

Done = Callable[[], float]
"""Waits until a backlog is done; returns the moment then."""


@dataclass(frozen=True, slots=True)
class _Run:
    """The processes that are measured, and what was measured of them."""

    home: House
    receiver: Server
    front: Server
    worker: psutil.Process
    samples: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    def used(self, server: Server | None = None) -> dict[str, float]:
        """Return the CPU that each has used so far."""
        watched = {"worker": self.worker, "valkey": self.home.valkey}
        if server:
            watched["server"] = server.process
        return {name: cpu_seconds(process) for name, process in watched.items()}

    def note(self, what: str, count: int, seconds: float, used: dict[str, float]) -> None:
        self.samples[f"{what} done"].append(count / seconds)
        for name, cpu in (used | {"all": sum(used.values())}).items():
            self.samples[f"{what} {name}"].append(cpu / count * 1e3)


def measure(effort: Effort) -> list[Figure]:
    """Take plain tasks and jobs in turn through one worker."""
    with house() as home:
        run = _Run(
            home,
            receiver=home.server("receiver", *RECEIVER),
            front=home.server("front", "benchmarks.front:app"),
            worker=psutil.Process(home.default_worker("worker").pid),
        )
        _round(run, max(effort.resolved // 4, 20))
        run.samples.clear()
        for _ in range(effort.rounds):
            _round(run, effort.resolved)
    return [
        compare(
            Subject(GROUP, name, unit, against), run.samples[what], run.samples[f"plain {what}"]
        )
        for what, name, unit, against in _FIGURES
    ]


def _round(run: _Run, count: int) -> None:
    home = run.home
    noop = home.producer.signature("benchmark.noop", queue=QUEUE)
    noops = [noop.clone(task_id=str(uuid.uuid4())) for _ in range(count)]
    wanted = [jobs.remaster(home, str(uuid.uuid4())) for _ in range(count)]
    plain_ids, job_ids = ([str(each.id) for each in those] for those in (noops, wanted))
    _enqueue(run, "plain park", noops, functools.partial(home.stored, plain_ids))
    _enqueue(run, "park", wanted, home.drained)
    home.require("waiting", job_ids)
    view_ids = [str(uuid.uuid4()) for _ in range(count)]
    _deliver(run, "plain resolve", run.front, view_ids, functools.partial(home.stored, view_ids))
    _deliver(run, "resolve", run.receiver, job_ids, home.resumed)
    home.require("succeeded", job_ids)
    home.require_results(job_ids)


def _enqueue(run: _Run, what: str, signatures: Sequence[Signature[Any]], done: Done) -> None:
    """Publish one task after another, and wait until the worker has done them."""
    before, start, own = run.used(), time.monotonic(), time.process_time()
    for each in signatures:
        each.apply_async()
    published = time.process_time() - own
    seconds = done() - start
    used = {name: cpu - before[name] for name, cpu in run.used().items()}
    run.note(what, len(signatures), seconds, used | {"producer": published})


def _deliver(run: _Run, what: str, server: Server, ids: Sequence[str], done: Done) -> None:
    """Deliver webhooks as fast as they are answered, and wait until all of them are done."""
    requests = deliveries(ids)
    before = run.used(server)
    outcomes = send(Plan(server.port, requests))
    finished = done()
    used = {name: cpu - before[name] for name, cpu in run.used(server).items()}
    refused = [each for each in outcomes if each.http_status != 200]
    if refused:
        raise RuntimeError(f"{len(refused)} deliveries were refused, the first: {refused[0]}")
    start = min(each.sent_at for each in outcomes)
    answered = max(each.answered_at for each in outcomes)
    run.samples[f"{what} accepted"].append(len(ids) / (answered - start))
    run.note(what, len(ids), finished - start, used)
