"""What a million parked jobs cost, against a thousand: bytes, an idle second, one claim.

A worker parks one job, and the server copies all that it then has of this job to other ids. So a
copy weighs what a parked job weighs, whatever a record is made of. No copy is resumed: its message
has the first one's id.
"""

import time
import uuid
from collections import defaultdict
from dataclasses import dataclass, field
from statistics import median
from typing import Any, Final

import psutil

from benchmarks import jobs
from benchmarks.effort import Effort
from benchmarks.figures import Figure, Subject, compare
from benchmarks.house import House, cpu_seconds, house
from worker.core import keys
from worker.core.job.models import JobId

GROUP: Final = "scale"
FEW: Final = 1000
AT_ONCE: Final = 1000
CLAIMS: Final = 50
BYTES_AT_MOST: Final = 4000
"""No parked job weighs more; there must be memory for them all."""

_FIGURES: Final = (
    ("memory", "used_memory", "bytes/job"),
    ("worker", "CPU of a worker's idle second", "ms"),
    ("all", "CPU of it with Valkey's", "ms"),
    ("claim", "time to claim one", "ms"),
)

_COPY: Final = """
for _, key in ipairs(KEYS) do
  local at = string.find(key, ARGV[1], 1, true)
  local score = not at and redis.call('ZSCORE', key, ARGV[1])
  for i = 2, #ARGV do
    if at then
      local copy = string.sub(key, 1, at - 1) .. ARGV[i] .. string.sub(key, at + #ARGV[1])
      redis.call('COPY', key, copy)
    else
      redis.call('ZADD', key, score, ARGV[i])
    end
  end
end
"""


@dataclass(slots=True)
class Crowd:
    """Jobs that are parked, all of them copies of one."""

    home: House
    original: str
    places: list[str]
    """Keys that have its id in their names, and sorted sets that have it as a member."""
    empty: int
    """Bytes that were used before there was any copy."""
    copies: list[JobId] = field(default_factory=list)

    @property
    def used(self) -> int:
        """Bytes of all copies."""
        return _used(self.home) - self.empty

    def grow(self, count: int) -> None:
        """Copy until there are so many."""
        copy: Any = self.home.redis.register_script(_COPY)
        while missing := count - len(self.copies):
            new = [JobId(str(uuid.uuid4())) for _ in range(min(missing, AT_ONCE))]
            copy(keys=self.places, args=[self.original, *new])
            self.copies += new


def measure(effort: Effort) -> list[Figure]:
    """Look at few parked jobs and then at many, beside one worker that has nothing to do."""
    many = at_most(effort.many)
    with house() as home:
        worker = psutil.Process(home.default_worker("worker").pid)
        crowd = park_one(home)
        few_samples, many_samples = (_look(crowd, worker, count, effort) for count in (FEW, many))
    return [
        compare(
            Subject(GROUP, f"{many:,} parked: {name}", unit, f"{FEW:,} parked"),
            many_samples[what],
            few_samples[what],
        )
        for what, name, unit in _FIGURES
    ]


def at_most(count: int) -> int:
    """Return how many jobs there is memory for, up to a number."""
    return min(count, int(psutil.virtual_memory().available / BYTES_AT_MOST))


def park_one(home: House, **options: Any) -> Crowd:
    """Park one job, and find all that Redis has of it."""
    job = jobs.remaster(home, str(uuid.uuid4()), **options)
    job.apply_async()
    home.drained()
    home.require("waiting", [job.id])
    # With so many writes the file would be written anew while others are measured.
    home.redis.config_set("appendonly", "no")
    places = [key for key in home.redis.scan_iter() if job.id in key]
    indexes = home.redis.scan_iter(_type="zset")
    places += [key for key in indexes if home.redis.zscore(key, job.id) is not None]
    return Crowd(home, job.id, places, empty=_used(home))


def _look(
    crowd: Crowd, worker: psutil.Process, count: int, effort: Effort
) -> dict[str, list[float]]:
    crowd.grow(count)
    samples: dict[str, list[float]] = defaultdict(list)
    samples["memory"].append(crowd.used / count)
    for _ in range(effort.long_rounds):
        before = cpu_seconds(worker), cpu_seconds(crowd.home.valkey)
        time.sleep(effort.idle_seconds)
        of_worker = cpu_seconds(worker) - before[0]
        of_valkey = cpu_seconds(crowd.home.valkey) - before[1]
        samples["worker"].append(of_worker / effort.idle_seconds * 1e3)
        samples["all"].append((of_worker + of_valkey) / effort.idle_seconds * 1e3)
    worker.suspend()
    for _ in range(effort.long_rounds):
        samples["claim"].append(median(_claim(crowd) for _ in range(CLAIMS)) * 1e3)
    crowd.home.redis.delete(keys.READY, keys.RING)
    worker.resume()
    return samples


def _claim(crowd: Crowd) -> float:
    """Claim one of them; returns the seconds that it took."""
    start = time.monotonic()
    jobs.claim(crowd.home, [crowd.copies.pop()])
    return time.monotonic() - start


def _used(home: House) -> int:
    return int(home.redis.info("memory")["used_memory"])
