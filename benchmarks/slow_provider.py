"""How many jobs a worker submits in a second to a provider that takes a second to answer.

One worker as the Procfile starts it, against one with Celery's own default: a pool of processes,
one for each core. Each gets so many jobs for each of its slots, so that every slot waits as often.
"""

import time
import uuid
from collections import defaultdict
from typing import Any, Final

import psutil

from benchmarks import jobs
from benchmarks.effort import Effort
from benchmarks.figures import Figure, Subject, compare
from benchmarks.house import House, house, memory_bytes
from tests.system import wait_until

GROUP: Final = "slow-provider"
AGAINST: Final = "a pool of processes, one for each core"
ANSWER_SECONDS: Final = 1.0
_FIGURES: Final = (
    ("rate", f"submits, each answered after {ANSWER_SECONDS:g} s", "/s"),
    ("memory", "memory of the worker", "MiB"),
)


def measure(effort: Effort) -> list[Figure]:
    """Give each of the two workers, which has a queue of its own, a backlog in turn."""
    samples: dict[str, list[float]] = defaultdict(list)
    with house(provider_seconds=ANSWER_SECONDS) as home:
        processes = psutil.cpu_count() or 1
        workers = {
            "default": home.default_worker("default", queue="default"),
            "plain": home.worker("plain", concurrency=processes, pool="prefork", queue="plain"),
        }
        slots = {name: _slots(home, name) for name in workers}
        for name in workers:
            _submit(home, name, slots[name])
        for _ in range(effort.long_rounds):
            for name, worker in workers.items():
                samples[f"{name} rate"].append(_submit(home, name, effort.turns * slots[name]))
                samples[f"{name} memory"].append(memory_bytes(psutil.Process(worker.pid)) / 2**20)
    return [
        compare(
            Subject(GROUP, name, unit, AGAINST),
            samples[f"default {what}"],
            samples[f"plain {what}"],
        )
        for what, name, unit in _FIGURES
    ]


def _slots(home: House, name: str) -> int:
    """Ask a worker how many tasks it runs at once."""
    node = f"{name}@test"
    inspect = home.system.app.control.inspect(destination=[node], timeout=2)
    told: dict[str, Any] = wait_until(inspect.stats, what=f"{name} answers")
    return int(told[node]["pool"]["max-concurrency"])


def _submit(home: House, queue: str, count: int) -> float:
    """Have a backlog submitted; returns how many were in a second."""
    wanted = [jobs.remaster(home, str(uuid.uuid4())) for _ in range(count)]
    messages = jobs.messages(wanted)
    start = time.monotonic()
    home.redis.lpush(queue, *messages)
    seconds = home.drained(queue) - start
    home.require("waiting", [str(each.id) for each in wanted])
    return count / seconds
