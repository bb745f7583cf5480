"""How fast a worker parks and resumes jobs, against a plain task that does nothing."""

import time
import uuid
from collections import defaultdict
from collections.abc import Sequence

import psutil

from benchmarks import jobs
from benchmarks.effort import Effort
from benchmarks.figures import Figure, Subject, compare
from benchmarks.house import House, cpu_seconds, house
from tests.system import stop
from worker.core.contract import QUEUE
from worker.core.health.checks import THREADS

GROUP = "park"
AGAINST = "plain no-op task"
_LEGS = ("park", "resume")
_POOLS = {"threads": THREADS, "prefork": 2}
"""How many tasks a worker runs at once: as it ships, and as one for tasks that work hard."""


def measure(effort: Effort) -> list[Figure]:
    """Give one worker a backlog of each kind in turn, with threads and with processes."""
    figures = []
    with house() as home:
        for pool in _POOLS:
            figures += _figures(pool, _worker(home, pool, effort))
    return figures


def _worker(home: House, pool: str, effort: Effort) -> dict[str, list[float]]:
    process = home.worker(pool, concurrency=_POOLS[pool], pool=pool)
    worker = psutil.Process(process.pid)
    _round(home, worker, max(effort.tasks // 4, 20), defaultdict(list))
    samples: dict[str, list[float]] = defaultdict(list)
    for _ in range(effort.rounds):
        _round(home, worker, effort.tasks, samples)
    stop(process)
    return samples


def _round(
    home: House, worker: psutil.Process, count: int, samples: dict[str, list[float]]
) -> None:
    noop = home.producer.signature("benchmark.noop", queue=QUEUE)
    noops = jobs.messages([noop.clone() for _ in range(count)])
    _run(home, worker, "plain", noops, samples)
    wanted = [jobs.remaster(home, str(uuid.uuid4())) for _ in range(count)]
    job_ids = [str(each.id) for each in wanted]
    submits = jobs.messages(wanted)
    _run(home, worker, "park", submits, samples)
    home.require("waiting", job_ids)
    _resume(home, worker, job_ids, samples)
    home.require("succeeded", job_ids)


def _resume(
    home: House, worker: psutil.Process, job_ids: Sequence[str], samples: dict[str, list[float]]
) -> None:
    """Let the worker stand still while the jobs are claimed, and then resume them all."""
    worker.suspend()
    jobs.claim(home, job_ids)
    used, start = cpu_seconds(worker), time.monotonic()
    worker.resume()
    _note("resume", len(job_ids), home.resumed() - start, cpu_seconds(worker) - used, samples)


def _run(
    home: House,
    worker: psutil.Process,
    leg: str,
    messages: Sequence[str],
    samples: dict[str, list[float]],
) -> None:
    used, start = cpu_seconds(worker), time.monotonic()
    home.redis.lpush(QUEUE, *messages)
    seconds = home.drained() - start
    _note(leg, len(messages), seconds, cpu_seconds(worker) - used, samples)


def _note(
    leg: str, count: int, seconds: float, used: float, samples: dict[str, list[float]]
) -> None:
    samples[f"{leg} rate"].append(count / seconds)
    samples[f"{leg} cpu"].append(used / count * 1e3)


def _figures(pool: str, samples: dict[str, list[float]]) -> list[Figure]:
    where = f"{pool} {_POOLS[pool]}"
    wanted = (("rate", "{}s", "/s"), ("cpu", "worker CPU per {}", "ms"))
    return [
        compare(
            Subject(GROUP, f"{where}: {name.format(leg)}", unit, AGAINST),
            samples[f"{leg} {what}"],
            samples[f"plain {what}"],
        )
        for leg in _LEGS
        for what, name, unit in wanted
    ]
