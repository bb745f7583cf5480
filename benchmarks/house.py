"""The processes that are measured: the real ones, as the tests start them, and plain ones."""

import contextlib
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psutil
import requests
from celery import Celery
from redis import Redis

from tests.launcher import Started
from tests.ports import take_port
from tests.system import System, wait_until
from worker.core import keys
from worker.core.contract import QUEUE

GUNICORN: Final = ("-m", "gunicorn", "--no-control-socket", "--workers", "1", "--threads", "8")
RECEIVER: Final = ("--worker-class", "webhook_receiver.server.Worker", "webhook_receiver.wsgi:app")
"""As the Procfile starts it, but for one process."""

DRAIN_SECONDS: Final = 60
_CERTAIN: Final = 5
"""A message on its way from the queue to the worker is in neither for less than a moment."""


@dataclass(frozen=True, slots=True)
class Server:
    """A gunicorn on a loopback port."""

    process: psutil.Process
    port: int


def execute(
    *arguments: str, environment: Mapping[str, str], folder: Path, stdout: Path, stderr: Path
) -> Started:
    """Start a Python process in full; its output and its errors go to one file."""
    with stdout.open("ab") as log:
        return subprocess.Popen(
            [sys.executable, *arguments], env=environment, cwd=folder,
            stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip


class Measured(System):
    """A system whose processes share no memory with others, as those of a user."""

    launch = staticmethod(execute)


class Bare(Measured):
    """A system without simulator and receiver: a benchmark starts what it measures."""

    def serve(self, simulator_port: int, receiver_port: int) -> None:
        pass


class House:
    """A running system whose provider is a stub that accepts at once."""

    def __init__(self, system: System, stub_url: str) -> None:
        self.system = system
        self.stub_url = stub_url
        self.redis: Redis = Redis.from_url(system.redis_url, decode_responses=True)
        self.valkey = psutil.Process(self.redis.info("server")["process_id"])
        self.producer = _producer(system)

    def server(self, name: str, *app: str, **settings: str) -> Server:
        """Start an app under gunicorn, with options of its own before it."""
        port = take_port()
        bind = ("--bind", f"127.0.0.1:{port}")
        process = self.system.run(name, *GUNICORN, *bind, *app, **settings)
        wait_until(lambda: _listens(f"http://127.0.0.1:{port}"), what=f"{name} listens")
        return Server(psutil.Process(process.pid), port)

    def worker(self, name: str, *, concurrency: int, pool: str = "threads") -> Started:
        """Start a worker that runs the provider tasks and the plain ones."""
        return self.system.worker(name, concurrency=concurrency, pool=pool, app="benchmarks.plain")

    def arrivals(self) -> dict[str, float]:
        """When each job's submit reached the provider (monotonic); forgotten once read."""
        arrivals: dict[str, float] = requests.get(self.stub_url, timeout=10).json()
        return arrivals

    def drained(self) -> float:
        """Wait until the workers have nothing left; returns the moment they had (monotonic)."""
        give_up = time.monotonic() + DRAIN_SECONDS
        since, empty = 0.0, 0
        while time.monotonic() < give_up:
            with self.redis.pipeline(transaction=False) as pipe:
                pipe.llen(QUEUE)
                pipe.hlen("unacked")
                left = sum(pipe.execute())
            since = since if empty else time.monotonic()
            empty = 0 if left else empty + 1
            if empty == _CERTAIN:
                return since
            time.sleep(0.003)
        raise TimeoutError(f"the workers were not done within {DRAIN_SECONDS} s")

    def resumed(self) -> float:
        """Wait until no job is left to be resumed; returns the moment then (monotonic)."""
        give_up = time.monotonic() + DRAIN_SECONDS
        while self.redis.zcard(keys.READY):
            if time.monotonic() > give_up:
                raise TimeoutError(f"the jobs were not resumed within {DRAIN_SECONDS} s")
            time.sleep(0.003)
        return time.monotonic()

    def require(self, state: str, job_ids: Sequence[str]) -> None:
        """Refuse to report a figure of jobs that are not where they should be."""
        states = {self.system.state(job_id) for job_id in job_ids}
        if states != {state}:
            raise RuntimeError(f"every job should be {state}, but there are {states}")


def _producer(system: System) -> Celery:
    """Open an app that publishes, and reads results, but waits for none.

    Celery subscribes to every result that may be waited for: work that is not ours to measure.
    """
    app = Celery(broker=system.broker_url, backend=system.redis_url, set_as_current=False)
    app.conf.task_default_queue = QUEUE
    backend: Any = app.backend
    backend.result_consumer.consume_from = backend.result_consumer.cancel_for = lambda _: None
    return app


@contextlib.contextmanager
def house() -> Iterator[House]:
    """Start a system over a private Valkey in a temporary folder; nothing of it is left."""
    stub_port = take_port()
    stub_url = f"http://127.0.0.1:{stub_port}"
    settings: dict[str, Any] = {
        "FERMATA_PROVIDER_URL": f"{stub_url}/api/v1",
        "FERMATA_POLL_FIRST_SECONDS": "3600",
        "FERMATA_SWEEP_EVERY_SECONDS": "2",
    }
    with (
        tempfile.TemporaryDirectory(prefix="fermata-bench-") as folder,
        undisturbed(Bare(Path(folder), **settings)) as system,
    ):
        system.run("stub", "-m", "benchmarks.stub", str(stub_port))
        wait_until(lambda: _listens(stub_url), what="the stub listens")
        yield House(system, stub_url)


@contextlib.contextmanager
def undisturbed(system: System) -> Iterator[System]:
    """Stop a system's processes whatever happens: SIGTERM counts as Ctrl-C.

    A second Ctrl-C does not cut that short.
    """
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with system:
            try:
                yield system
            finally:
                for number in before:
                    signal.signal(number, signal.SIG_IGN)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def cpu_seconds(*processes: psutil.Process) -> float:
    """CPU that these processes have used, with their children, those that ended included."""
    return sum(_cpu_of(process) for process in processes)


def _cpu_of(process: psutil.Process) -> float:
    own = process.cpu_times()
    living = (child.cpu_times() for child in process.children(recursive=True))
    ended = own.children_user + own.children_system
    return own.user + own.system + ended + sum(each.user + each.system for each in living)


def _listens(url: str) -> bool:
    try:
        requests.get(url, timeout=2)
    except (requests.ConnectionError, requests.Timeout):
        return False
    return True
