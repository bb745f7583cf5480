"""How long after ``kill -9`` of a worker another one has resumed the jobs that it was resuming.

The jobs are claimed while all workers stand still. Some begin to resume them, and are killed in the
middle of it; then the last one goes on. It has leased a second time what they had in hand.
"""

import time
from typing import Final

import psutil

from benchmarks import jobs
from benchmarks.effort import Effort
from benchmarks.figures import Figure, Subject, compare_pooled, quantile
from benchmarks.house import House, house
from tests.system import stop, wait_until
from worker.app.conductor import AT_ONCE, LEASE_SECONDS, THREADS
from worker.core import keys

GROUP: Final = "crash"
AGAINST: Final = f"a lease of {LEASE_SECONDS:g} s"
JOBS: Final = 100
"""For each worker that is killed: more than it has in hand at once."""
MOMENT_SECONDS: Final = 0.02


def measure(effort: Effort) -> list[Figure]:
    """Kill workers that resume jobs, as often as there are rounds."""
    with house() as home:
        heir = psutil.Process(home.default_worker("heir").pid)
        waits = [_round(home, heir, number, effort.kills) for number in range(effort.long_rounds)]
    lease = [[LEASE_SECONDS] for _ in waits]
    return [
        compare_pooled(
            Subject(GROUP, f"kill -9 to resumed, p{percent}", "s", AGAINST),
            quantile(percent / 100),
            waits,
            lease,
        )
        for percent in (50, 99)
    ]


def _round(home: House, heir: psutil.Process, number: int, kills: int) -> list[float]:
    """Kill some workers at once; returns the seconds that each of their jobs then waited."""
    started = [home.default_worker(f"worker-{number}-{n}") for n in range(kills)]
    workers = [psutil.Process(each.pid) for each in started]
    job_ids = jobs.park(home, kills * JOBS)
    for each in (heir, *workers):
        each.suspend()
    jobs.claim(home, job_ids)
    wait_until(lambda: _caught(home, workers), what="each resumes some")
    killed_at = time.time()
    for process in started:
        stop(process, kill=True)
    heir.resume()
    home.resumed()
    home.require("succeeded", job_ids)
    records = home.system.readings.read_those(job_ids)
    waits = [each.timeline[-1]["at"] - killed_at for each in records if each.claims > 1]
    if not waits:
        raise RuntimeError("the workers had no job in hand when they were killed")
    return waits


def _caught(home: House, workers: list[psutil.Process]) -> bool:
    """Let the workers go on for a moment; say whether each then stands in the middle of some jobs.

    Each of its threads may have sent the end of one already.
    """
    for each in workers:
        each.resume()
    time.sleep(MOMENT_SECONDS)
    for each in workers:
        each.suspend()
    return _leased(home) > (len(workers) - 1) * AT_ONCE + THREADS


def _leased(home: House) -> int:
    """Count the jobs whose leases have just begun."""
    return home.redis.zcount(keys.READY, time.time() + LEASE_SECONDS / 2, "+inf")
