"""What 100 open live pages cost while nothing happens: a worker's CPU, and commands of Redis.

Each page holds a stream of a desk. It should read the one stream of turns, once for each heartbeat,
and nothing else; the worker should not notice.
"""

import contextlib
import time
from typing import Final

import psutil
import requests

from benchmarks.effort import Effort
from benchmarks.figures import Figure, Subject, compare
from benchmarks.house import House, cpu_seconds
from desk.live import HEARTBEAT_SECONDS, MOST_AT_ONCE, MOST_OF_ONE

PAGES: Final = MOST_AT_ONCE
_VISITORS: Final = [f"visitor-{n}" for n in range(PAGES // MOST_OF_ONE)]
_REDIS_SECONDS: Final = 2 * HEARTBEAT_SECONDS
"""The limit of one command, by which a read ends only with the heartbeat."""
_DESK: Final = ("--threads", "128", "--worker-class", "desk.server.Worker", "desk.wsgi:app")


def measure(home: House, worker: psutil.Process, effort: Effort) -> list[Figure]:
    """Look at an idle worker and its server, without live pages and with them."""
    group, name = "desk", f"{PAGES} live pages"
    tokens = ",".join(f"{who}:read:{_secret(who)}" for who in _VISITORS)
    desk = home.server(
        "live-desk", *_DESK,
        FERMATA_DESK_TOKENS=tokens, FERMATA_REDIS_TIMEOUT_SECONDS=str(_REDIS_SECONDS),
    )  # fmt: skip
    seconds = max(effort.idle_seconds, HEARTBEAT_SECONDS)
    # Not in turn: the desk notices only at a heartbeat that a page has gone.
    without = [_idle(home, worker, seconds) for _ in range(effort.long_rounds)]
    with contextlib.ExitStack() as pages:
        for page in range(PAGES):
            pages.enter_context(_open(desk.port, _VISITORS[page % len(_VISITORS)]))
        beside = [_idle(home, worker, seconds) for _ in range(effort.long_rounds)]
    beats = PAGES * seconds / HEARTBEAT_SECONDS
    reads = [(more - own) / beats for (_, own), (_, more) in zip(without, beside, strict=True)]
    one_read = Subject(group, f"{name}: commands of each, a heartbeat", "/beat", "one read")
    quiet = Subject(group, f"{name}: CPU of a worker's idle second", "ms", "no live page")
    return [
        compare(one_read, reads, [1.0] * len(reads)),
        compare(quiet, [cpu for cpu, _ in beside], [cpu for cpu, _ in without]),
    ]


def _idle(home: House, worker: psutil.Process, seconds: float) -> tuple[float, float]:
    """Wait; returns the worker's CPU in milliseconds a second, and the commands of the server."""
    before = cpu_seconds(worker), _commands(home)
    time.sleep(seconds)
    spent = (cpu_seconds(worker) - before[0]) / seconds * 1e3
    return spent, _commands(home) - before[1]


def _commands(home: House) -> int:
    """Count the commands that the server has run, without this very question."""
    stats = home.redis.info("commandstats")
    return sum(int(each["calls"]) for name, each in stats.items() if name != "cmdstat_info")


def _open(port: int, who: str) -> contextlib.closing[requests.Response]:
    """Open a live page, as a browser does, and hear its first words."""
    answer = requests.get(
        f"http://127.0.0.1:{port}/api/v1/events",
        headers={"Authorization": f"Bearer {_secret(who)}"}, stream=True, timeout=60,
    )  # fmt: skip
    answer.raise_for_status()
    next(answer.iter_lines())
    return contextlib.closing(answer)


def _secret(who: str) -> str:
    return f"{who}-of-the-benchmark-0123456789abcdef"
