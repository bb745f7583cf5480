"""What it costs to look at 100,000 jobs, and at a million, against a thousand; and its limits.

The jobs are copies of one that a worker has parked (``scale``). A desk under gunicorn answers over
one connection; what its screens read from the server is also timed by itself. A screen, its HTML,
the first load and the metrics each have a limit, which they are compared with.
"""

import re
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from statistics import median
from typing import Final

import psutil
import requests

from benchmarks import jobs, live_pages
from benchmarks.effort import Effort
from benchmarks.figures import Figure, Subject, compare
from benchmarks.house import House, cpu_seconds, house
from benchmarks.scale import FEW, Crowd, at_most, park_one
from tests.system import stop
from worker.core import keys
from worker.core.contract import TENANT_HEADER
from worker.core.job.states import JobState, Turn
from worker.core.overview import Filter
from worker.store import connection
from worker.store.counters import Counters
from worker.store.lists import Lists

GROUP: Final = "desk"
MANY: Final = 100_000
LOOKS: Final = 20
RESUMES: Final = 100
MINUTES: Final = 60
"""How far back Now looks."""
TENANT: Final = "acme"
"""Its jobs stand in one more index than those of the default tenant."""
FAILED: Final = 1_500
"""More than a page looks at to count and price what would run again."""
SCREENS: Final = (
    "/",
    "/jobs",
    "/jobs?state=waiting&tenant=acme",
    "/jobs?batch=none",
    "/cancel?tenant=acme",
    "/retry?tenant=acme",
    "/jobs/<id>",
    "/jobs/<id>/flow",
    "/jobs/<id>/song",
    "/search?q=nothing",
    "/gate",
    "/deliveries",
    "/batches",
    "/manifest",
    "/schedules",
    "/try",
    "/try/sonic.create_music",
)
"""All that a desk shows; a new one is a line here."""
METRICS: Final = "/metrics"
SCREEN_MS: Final = 150
SCREEN_BYTES: Final = 60_000
FIRST_LOAD_BYTES: Final = 250_000
METRICS_MS: Final = 100

_APP: Final = ("--worker-class", "desk.server.Worker", "desk.wsgi:app")
_SECRET: Final = "a-token-of-the-benchmark-0123456789"

What = tuple[str, str]
"""What is measured, and its unit."""
Samples = Mapping[What, list[float]]
"""A value for each round."""

_NOW: Final = ("what Now reads", "ms")
_NOW_SHOWN: Final = ("GET /", "ms")


def measure(effort: Effort) -> list[Figure]:
    """Look at few jobs and at many; what Now reads is read among as many as ``scale`` has."""
    many, most = (at_most(count) for count in (min(MANY, effort.many), effort.many))
    with house() as home:
        worker = home.default_worker("worker")
        crowd = park_one(home, headers={TENANT_HEADER: TENANT})
        live = live_pages.measure(home, psutil.Process(worker.pid), effort)
        stop(worker)  # it would resume what is claimed here
        _fail(crowd)
        get = _open_desk(crowd)
        looks = _looks(crowd, get)
        of_few = _rounds(crowd, FEW, looks, effort)
        crowd.grow(many)
        weight = _weigh(crowd)
        of_many = _rounds(crowd, many, looks, effort)
        whatever = {what: looks[what] for what in (_NOW, _NOW_SHOWN)}
        of_most = _rounds(crowd, most, whatever, effort)
        first_load = _first_load(get)
    return [
        *_against_few(f"{many:,} jobs", of_many, of_few),
        *_against_few(f"{most:,} parked", of_most, of_few),
        *_against_limits(f"{many:,} jobs", of_many),
        _against_limit("the first load of Now, in all", "bytes", [first_load], FIRST_LOAD_BYTES),
        *live,
        weight,
    ]


def _against_few(crowd: str, samples: Samples, of_few: Samples) -> list[Figure]:
    return [
        compare(
            Subject(GROUP, f"{crowd}: {name}", unit, f"{FEW:,} jobs"), found, of_few[name, unit]
        )
        for (name, unit), found in samples.items()
    ]


def _against_limits(crowd: str, samples: Samples) -> Iterator[Figure]:
    """Compare the worst screen of each round, and the metrics, with what they may cost."""
    for name, unit, limit in (
        ("the slowest screen", "ms", SCREEN_MS),
        ("the longest HTML", "bytes", SCREEN_BYTES),
    ):
        of_screens = [
            found
            for (what, its), found in samples.items()
            if its == unit and what.startswith("GET ") and what != f"GET {METRICS}"
        ]
        worst = [max(each) for each in zip(*of_screens, strict=True)]
        yield _against_limit(f"{crowd}: {name}", unit, worst, limit)
    found = samples[f"GET {METRICS}", "ms"]
    yield _against_limit(f"{crowd}: GET {METRICS}", "ms", found, METRICS_MS)


def _against_limit(name: str, unit: str, found: list[float], limit: float) -> Figure:
    return compare(Subject(GROUP, name, unit, "its limit"), found, [limit] * len(found))


def _rounds(
    crowd: Crowd, count: int, looks: Mapping[What, Callable[[], float]], effort: Effort
) -> Samples:
    samples: dict[What, list[float]] = defaultdict(list)
    for _ in range(effort.long_rounds):
        crowd.grow(count)  # some have been resumed
        for what, look in looks.items():
            samples[what].append(look())
    return samples


def _looks(crowd: Crowd, get: Callable[[str], bytes]) -> dict[What, Callable[[], float]]:
    """All that is measured; each returns one value."""
    found: dict[What, Callable[[], float]] = {
        (name, "ms"): partial(_milliseconds, read) for name, read in _reads(crowd.home).items()
    }
    for path in (METRICS, *SCREENS):
        found[f"GET {path}", "ms"] = partial(_milliseconds, partial(get, path))
        if path != METRICS:
            found[f"GET {path}: HTML", "bytes"] = partial(_length, partial(get, path))
    return found | {("CPU of Valkey, a claim and its settlement", "ms"): partial(_resume, crowd)}


def _reads(home: House) -> dict[str, Callable[[], object]]:
    client = connection.connect(home.system.redis_url)
    counters, lists = Counters(client), Lists(client)

    def read_now() -> None:
        counters.counts()
        counters.oldest()
        counters.totals()
        counters.minutes(now=time.time(), count=MINUTES)
        counters.gate()
        counters.workers()

    return {
        _NOW[0]: read_now,
        "counts by state and operation": counters.counts,
        "a list of any jobs": lambda: lists.page(Filter()),
        "a list by state and tenant": lambda: lists.page(
            Filter(state=JobState.WAITING, tenant=TENANT)
        ),
    }


def _open_desk(crowd: Crowd) -> Callable[[str], bytes]:
    """Start a desk; returns what gets a path from it, over one connection."""
    desk = crowd.home.server("desk", *_APP, FERMATA_DESK_TOKENS=f"benchmark:operate:{_SECRET}")
    session = requests.Session()
    session.headers["Authorization"] = f"Bearer {_SECRET}"

    def get(path: str) -> bytes:
        url = f"http://127.0.0.1:{desk.port}{path.replace('<id>', crowd.original)}"
        answer = session.get(url, allow_redirects=False, timeout=60)
        if answer.status_code != 200:
            raise RuntimeError(f"{path} was answered {answer.status_code}: {answer.text[:200]}")
        return answer.content

    return get


def _first_load(get: Callable[[str], bytes]) -> float:
    """Add up what a browser loads that has never been here, and shows Now."""
    html = get("/")
    parts = set(re.findall(r'(?:href|src)="(/static/[^"]+)"', html.decode()))
    return len(html) + sum(len(get(part)) for part in parts)


def _milliseconds(look: Callable[[], object]) -> float:
    """Return the median time of some looks."""
    seconds = []
    for _ in range(LOOKS):
        start = time.monotonic()
        look()
        seconds.append(time.monotonic() - start)
    return median(seconds) * 1e3


def _length(get: Callable[[], bytes]) -> float:
    return len(get())


def _fail(crowd: Crowd) -> None:
    """Let some jobs fail, beside those that are looked at: they could run again."""
    crowd.grow(FAILED)
    home, chosen = crowd.home, [crowd.copies.pop() for _ in range(FAILED)]
    jobs.claim(home, chosen)
    for job_id in chosen:
        home.system.records.turn(
            job_id, Turn.FAIL, now=time.time(), due_at=None,
            fields={"operation": jobs.OPERATION.name, "error": {"type": "TaskFailed"}},
            drop=("leg", "event"), retain_seconds=3600,
        )  # fmt: skip
    home.require("failed", chosen)
    crowd.empty += crowd.used


def _resume(crowd: Crowd) -> float:
    """Claim some jobs and settle them; returns the server's CPU for each, in milliseconds."""
    home, chosen = crowd.home, [crowd.copies.pop() for _ in range(RESUMES)]
    before = cpu_seconds(home.valkey)
    jobs.claim(home, chosen)
    for job_id in chosen:
        home.system.records.turn(
            job_id, Turn.SUCCEED, now=time.time(), due_at=None,
            fields={"operation": jobs.OPERATION.name, "result": {"clips": []}},
            drop=("parked", "leg", "event"), retain_seconds=3600,
        )  # fmt: skip
    spent = cpu_seconds(home.valkey) - before
    home.require("succeeded", chosen)
    return spent / RESUMES * 1e3


def _weigh(crowd: Crowd) -> Figure:
    """Weigh a parked job with its places in the indexes of the desk, and without."""
    redis, count = crowd.home.redis, len(crowd.copies)
    indexes = [key for name in (keys.STATES, keys.TENANTS) for key in redis.scan_iter(f"{name}:*")]
    of_indexes = sum(redis.memory_usage(key, samples=0) or 0 for key in indexes)
    subject = Subject(GROUP, "a parked job: used_memory", "bytes/job", "without the desk's indexes")
    return compare(subject, [crowd.used / count], [(crowd.used - of_indexes) / count])
