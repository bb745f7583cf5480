"""What a parked job weighs in Redis, against the same job waiting in a plain Celery queue."""

import uuid
from collections import Counter
from collections.abc import Callable, Sequence

from celery import chord

from benchmarks import jobs
from benchmarks.effort import Effort
from benchmarks.figures import Figure, Subject, compare
from benchmarks.house import House, house
from tests.system import stop
from worker.core.contract import QUEUE

GROUP = "memory"
AGAINST = "the same messages, queued"
CHAINS_PER_CHORD = 10
WARM_UP = 20


def measure(effort: Effort) -> list[Figure]:
    """Weigh the jobs twice: while they wait in the queue, and when they are parked."""
    shapes: dict[str, Callable[[House, int], list[str]]] = {
        "single": _singles,
        "in a chord of chains": _chords,
    }
    return [f for name, enqueue in shapes.items() for f in _weigh(name, enqueue, effort.parked)]


def _weigh(shape: str, enqueue: Callable[[House, int], list[str]], count: int) -> list[Figure]:
    with house() as home:
        _park(home, enqueue(home, WARM_UP))  # scripts and caches, which do not grow with the jobs
        empty, empty_used = _keys(home), _used(home)
        job_ids = enqueue(home, count)
        queued, queued_used = _keys(home) - empty, _used(home) - empty_used
        _park(home, job_ids)
        parked, parked_used = _keys(home) - empty, _used(home) - empty_used
    ours = {"every key": parked.total(), "fermata:* alone": parked["fermata"]}
    weighed = [(name, size, queued.total()) for name, size in ours.items()]
    weighed.append(("used_memory", parked_used, queued_used))
    return [
        compare(Subject(GROUP, f"{shape}: {name}", "bytes/job", AGAINST), [a / count], [b / count])
        for name, a, b in weighed
    ]


def _park(home: House, job_ids: Sequence[str]) -> None:
    """Have a worker park them, and go: its connections have buffers that are not the jobs'."""
    worker = home.worker("worker", concurrency=2)
    home.drained()
    stop(worker)
    home.require("waiting", job_ids)


def _keys(home: House) -> Counter[str]:
    """Weigh every key that there is, by the first word of its name."""
    weights: Counter[str] = Counter()
    for key in home.redis.scan_iter(count=1000):
        weights[key.partition(":")[0]] += home.redis.memory_usage(key, samples=0) or 0
    return weights


def _used(home: House) -> int:
    return int(home.redis.info("memory")["used_memory"])


def _singles(home: House, count: int) -> list[str]:
    wanted = [jobs.remaster(home, str(uuid.uuid4())) for _ in range(count)]
    for each in wanted:
        each.apply_async()
    return [str(each.id) for each in wanted]


def _chords(home: House, count: int) -> list[str]:
    """Enqueue ``chord([remaster | remaster] * 10, body)``; the first job of each chain parks."""
    app, parked = home.producer, []
    collect = app.signature("benchmark.collect", queue=QUEUE)
    for _ in range(count // CHAINS_PER_CHORD):
        firsts = [jobs.remaster(home, str(uuid.uuid4())) for _ in range(CHAINS_PER_CHORD)]
        header = [first | jobs.remaster(home) for first in firsts]
        chord(header, collect.clone(), app=app).apply_async()
        parked += [str(first.id) for first in firsts]
    return parked
