"""Ten thousand hostile requests, twice: nothing is written, and what goes on meanwhile is unharmed.

The first time only the receiver talks to Redis, so that its every command is accounted for; the
second time workers run jobs all the while, and what the provider sent is replayed to the byte.
"""

import json
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest
import requests
from redis import Redis

from tests.integration.conftest import Flows
from tests.integration.flow import (
    GET_SECONDS,
    Flow,
    completed,
    raw,
    signed,
    streaming,
)
from tests.integration.hostile import KINDS, Delivery, Sender, Source
from tests.job import record_keys
from tests.system import System, stop, wait_until
from worker.core import keys
from worker.core.job.states import Turn
from worker.store.counters import Counters
from worker.store.quarantine import Quarantine

SEED = "fermata 1"
REQUESTS = 10_000
SENDERS = 8
REAL = 100
SONGS = 30

# What a client says when it connects, or to see whether its connection still lives.
CONNECTING = ("client|", "hello", "ping", "info", "auth", "select", "script|")


class Storm:
    """Many strangers at once, each with a socket of its own."""

    def __init__(self, url: str, targets: list[str], recorded: Sequence[Delivery] = ()) -> None:
        self._url = url
        self._targets = targets
        self._recorded = recorded
        self._lock = threading.Lock()
        self.sent = 0
        self.heard: dict[str, Counter[int]] = defaultdict(Counter)

    def blow(self) -> None:
        with ThreadPoolExecutor(SENDERS) as threads:
            list(threads.map(self._send_all, range(SENDERS)))

    def _send_all(self, number: int) -> None:
        source = Source(f"{SEED}/{number}", self._targets, self._recorded)
        sender = Sender(self._url)
        while self.sent < REQUESTS:
            attack = source.draw()
            heard = sender.send(attack)
            with self._lock:
                self.sent += attack.requests
                self.heard[attack.kind].update(heard)
        sender.close()

    def told(self) -> str:
        return f"seed {SEED!r}: { ({kind: dict(n) for kind, n in self.heard.items()}) }"

    def is_refused(self) -> None:
        """Every kind was heard, and none of them was believed or took the receiver by surprise."""
        assert self.sent >= REQUESTS, self.told()
        assert set(self.heard) - {"replay"} == set(KINDS), self.told()
        assert set(self.heard["liveness"]) == {200}, self.told()
        statuses = {s for kind in KINDS if kind != "liveness" for s in self.heard[kind]}
        assert not {s for s in statuses if 200 <= s < 400}, self.told()
        # 501 is the server's word for a transfer coding that does not exist (RFC 9112 §6.1).
        assert {s for s in statuses if s >= 500} <= {501}, self.told()


class Calls:
    """The commands that a Redis was called with, in scripts too."""

    def __init__(self, redis: "Redis") -> None:
        self._redis = redis
        self._before = self._now()

    def since(self) -> Counter[str]:
        return self._now() - self._before

    def _now(self) -> Counter[str]:
        stats: dict[str, Any] = self._redis.info("commandstats")
        names = ((name.removeprefix("cmdstat_"), each["calls"]) for name, each in stats.items())
        return Counter({name: n for name, n in names if not name.startswith(CONNECTING)})


@pytest.fixture
def besieged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flow]:
    folder = tmp_path_factory.mktemp("hostile")
    patient: dict[str, Any] = {"FERMATA_POLL_FIRST_SECONDS": "600"}
    with System(folder, **patient) as system:
        flows = Flows(system)
        yield flows.open()
        flows.close()


def park(flow: Flow, jobs: int) -> list[Any]:
    """Park jobs and send the worker home: from here on, only the receiver talks to Redis."""
    worker = flow.system.worker()
    held = [flow.hold() for _ in range(jobs)]
    results = [job.apply_async() for job in held]
    for job in held:
        flow.waits(job.id)
    flow.quiet()
    stop(worker)
    return results


def others(flow: Flow) -> dict[str, bytes | None]:
    """Every key that no delivery for a live job changes, as Redis serialises it."""
    gate = {keys.FLIGHT, keys.GATE, keys.WAKE}
    live = {keys.DUE, keys.READY, keys.RING}.union(gate, *map(record_keys, flow.jobs))
    with Redis.from_url(flow.system.redis_url) as redis:
        names = {key.decode() for key in redis.scan_iter("*")} - live
        # Each delivery is counted, indexed and listed too; ``counted`` says how many were.
        looked_at = (*keys.OF_THE_OVERVIEW.values(), keys.DELIVERIES)
        names = {name for name in names if not name.startswith(looked_at)}
        return {name: redis.dump(name) for name in sorted(names)}


def counted(flow: Flow) -> dict[str, int]:
    """How many deliveries were counted, by what became of them."""
    totals = Counters(flow.redis).totals()
    return {name[1]: count for name, count in totals.items() if name[0] == "deliveries"}


def deliver_during(flow: Flow, jobs: list[str], progress: Callable[[], float]) -> list[str]:
    """Deliver for real jobs, evenly spread over the storm."""
    receipts = []
    for number, job_id in enumerate(jobs):
        wait_until(lambda n=number: progress() >= n / len(jobs), seconds=60, what="the storm")
        receipts.append(flow.deliver(job_id, completed()).json()["status"])
    return receipts


def test_ten_thousand_hostile_requests_write_nothing_and_harm_no_delivery(besieged: Flow) -> None:
    flow = besieged
    results = park(flow, REAL + 2)
    [first, second, *jobs] = [result.id for result in results]
    # The first delivery loads the scripts; the second shows what a delivery calls.
    assert flow.deliver(first, completed()).json() == {"status": "resumed"}
    calls = Calls(flow.redis)
    assert flow.deliver(second, completed()).json() == {"status": "resumed"}
    one = calls.since()
    before, calls = others(flow), Calls(flow.redis)
    storm = Storm(flow.system.receiver_url, [*jobs[:20], first, "never-heard-of", "b" * 128])

    with ThreadPoolExecutor(1) as provider:
        done = provider.submit(deliver_during, flow, jobs, lambda: storm.sent / REQUESTS)
        storm.blow()
        receipts = done.result()

    storm.is_refused()
    assert "Traceback" not in flow.system.log("receiver"), storm.told()
    # Exactly what as many deliveries call by themselves: not one command more, read or write. That
    # of liveness is a write that comes to nothing: it tells whether Redis would write.
    expected = Counter({name: n * REAL for name, n in one.items()})
    expected["set"] += storm.heard["liveness"][200]
    assert calls.since() == expected, storm.told()
    assert others(flow) == before, storm.told()
    assert counted(flow) == {"resumed": REAL + 2}, storm.told()
    assert receipts == ["resumed"] * REAL, storm.told()

    flow.system.worker("afterwards")
    assert {each.get(timeout=GET_SECONDS)["job_id"] for each in results} == set(flow.jobs)
    flow.ends()


class Song:
    """A real job in the storm; its delivery is recorded by whoever listens."""

    def __init__(self, flow: Flow) -> None:
        self._flow = flow
        self.job = flow.hold()
        self.canvas = self.job | flow.job() | flow.note()

    def is_delivered(self, recorded: list[Delivery]) -> None:
        flow, job_id, body = self._flow, self.job.id, raw(completed())
        flow.waits(job_id)
        real = Delivery(job_id, signed(job_id, body), body)
        recorded.append(real)
        assert flow.deliver(job_id, body, headers=real.headers).status_code == 200
        wait_until(lambda: flow.state(job_id) == "succeeded", what=f"{job_id} is settled")
        self.settled = self.record()

    def record(self) -> dict[str, Any]:
        """The job's record; of its timeline, its turns."""
        record = self._flow.record(self.job.id).to_json()
        turns = [entry for entry in record["timeline"] if entry["what"] in set(Turn)]
        return record | {"timeline": turns}


def sing(flow: Flow, storm: Storm, recorded: list[Delivery], number: int) -> Song:
    """Run one job of those that are evenly spread over the storm."""
    wait_until(lambda: storm.sent >= number * REQUESTS / SONGS, seconds=60, what="the storm")
    song = Song(flow)
    song.canvas.apply_async()
    song.is_delivered(recorded)
    return song


def test_jobs_run_through_the_storm_and_replays_of_their_deliveries_change_nothing(
    busy: Flow,
) -> None:
    flow = busy
    recorded: list[Delivery] = []
    storm = Storm(flow.system.receiver_url, ["never-heard-of"], recorded)

    with ThreadPoolExecutor(SENDERS) as backends:
        sung = backends.map(partial(sing, flow, storm, recorded), range(SONGS))
        storm.blow()
        songs = list(sung)

    flow.ends()
    flow.paid_once()
    storm.is_refused()
    # A replay that overtakes the delivery itself is the delivery, to the byte.
    assert set(storm.heard["replay"]) == {200}, storm.told()
    assert [each.record() for each in songs] == [each.settled for each in songs]
    assert not list(Quarantine(flow.redis).entries())
    assert "Traceback" not in flow.system.log("receiver"), storm.told()


@pytest.fixture
def busy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flow]:
    """A system whose workers run, and whose receiver is two processes."""
    patient: dict[str, Any] = {"FERMATA_POLL_FIRST_SECONDS": "600", "WEB_CONCURRENCY": "2"}
    with System(tmp_path_factory.mktemp("busy"), **patient) as system:
        system.worker(app="tests.canvas_app")
        flows = Flows(system)
        yield flows.open()
        flows.close()


HEAD = b"POST /webhooks/aimusic/%s HTTP/1.1\r\nHost: fermata.test\r\n"
SILENT = {"in its head": HEAD % b"x", "in its body": HEAD % b"x" + b"Content-Length: 99\r\n\r\n{"}


@pytest.mark.parametrize("where", SILENT)
def test_strangers_who_fall_silent_cannot_hold_the_threads(quiet: System, where: str) -> None:
    """Three times as many as there are threads; the next one is served all the same."""
    strangers = [Sender(quiet.receiver_url) for _ in range(24)]
    for stranger in strangers:
        stranger.begin(SILENT[where])

    body = json.dumps(streaming()).encode()
    url = f"{quiet.receiver_url}/webhooks/aimusic/unknown"
    answer = requests.post(url, data=body, headers=signed("unknown", body), timeout=30)

    assert answer.status_code == 200
    assert all(stranger.ended() for stranger in strangers)
    for stranger in strangers:
        stranger.close()
    assert "Traceback" not in quiet.log("receiver")


CUT_SHORT = {
    "after its answer": b"GET /x HTTP/1.0\r\n\r\n",
    "after a broken line": b"\0broken\r\n\r\n",
}


@pytest.mark.parametrize("how", CUT_SHORT)
def test_strangers_who_are_answered_and_do_not_hang_up_hold_nobody_up(
    quiet: System, how: str
) -> None:
    strangers = [Sender(quiet.receiver_url) for _ in range(40)]
    for stranger in strangers:
        stranger.begin(CUT_SHORT[how])

    body = json.dumps(streaming()).encode()
    url = f"{quiet.receiver_url}/webhooks/aimusic/unknown"
    answer = requests.post(url, data=body, headers=signed("unknown", body), timeout=8)

    assert answer.status_code == 200
    for stranger in strangers:
        assert stranger.ended()
        stranger.close()


@pytest.fixture(scope="module")
def quiet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    with System(tmp_path_factory.mktemp("quiet")) as system:
        yield system
