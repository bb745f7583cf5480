"""The processes that are measured: the real ones, as the tests start them, and plain ones."""

import contextlib
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final

import psutil
import requests
from celery import Celery
from honcho.environ import parse_procfile
from redis import Redis

from tests.launcher import Process, Started
from tests.ports import take_port
from tests.system import ROOT, System, busyness, wait_until
from worker.core import keys
from worker.core.contract import QUEUE

GUNICORN: Final = ("-m", "gunicorn", "--no-control-socket", "--workers", "1", "--threads", "8")
APP: Final = "benchmarks.plain"
RECEIVER: Final = ("--worker-class", "webhook_receiver.server.Worker", "webhook_receiver.wsgi:app")
"""As the Procfile starts it, but for one process."""

DRAIN_SECONDS: Final = 60
"""How long a backlog may take on a machine that is not busy."""

_CERTAIN: Final = 5
"""A message on its way from the queue to the worker is in neither for less than a moment."""


@dataclass(frozen=True, slots=True)
class Server:
    """A gunicorn on a loopback port."""

    process: psutil.Process
    port: int


def default_command(name: str) -> list[str]:
    """Return the words by which the Procfile starts a process, with the default of each setting."""
    line = parse_procfile((ROOT / "Procfile").read_text("utf-8")).processes[name]
    command = line.partition("exec ")[2]
    return shlex.split(re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", command))


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

    launch: ClassVar[Callable[..., Started]] = staticmethod(execute)


def share_imports() -> None:
    """Fork all processes from one that has imported their libraries; then keep no figure."""
    Measured.launch = Process


class Bare(Measured):
    """A system without simulator and receiver: a benchmark starts what it measures."""

    def serve(self, simulator_port: int, receiver_port: int) -> None:
        pass


class House:
    """A running system whose provider is a stub that accepts everything."""

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
        wait_until(lambda: listens(f"http://127.0.0.1:{port}"), what=f"{name} listens")
        return Server(psutil.Process(process.pid), port)

    def worker(
        self, name: str, *, concurrency: int, pool: str = "threads", queue: str = QUEUE
    ) -> Started:
        """Start a worker that runs the provider tasks and the plain ones."""
        return self.system.worker(name, concurrency=concurrency, pool=pool, app=APP, queues=queue)

    def default_worker(self, name: str, *, queue: str = QUEUE) -> Started:
        """Start a worker as the Procfile does; it runs the plain tasks too."""
        command = [APP if word == "worker.app" else word for word in default_command("worker")]
        node = ("--hostname", f"{name}@test", "--queues", queue)
        process = self.system.run(name, "-m", *command, *node)
        wait_until(lambda: "ready." in self.system.log(name), seconds=60, what=f"{name} is ready")
        return process

    def arrivals(self) -> dict[str, float]:
        """When each job's submit reached the provider (monotonic); forgotten once read."""
        arrivals: dict[str, float] = requests.get(self.stub_url, timeout=10).json()
        return arrivals

    def drained(self, queue: str = QUEUE) -> float:
        """Wait until the workers have nothing left; returns the moment they had (monotonic)."""
        give_up = time.monotonic() + DRAIN_SECONDS * busyness()
        since, empty = 0.0, 0
        while time.monotonic() < give_up:
            with self.redis.pipeline(transaction=False) as pipe:
                pipe.llen(queue)
                pipe.hlen("unacked")
                left = sum(pipe.execute())
            since = since if empty else time.monotonic()
            empty = 0 if left else empty + 1
            if empty == _CERTAIN:
                return since
            time.sleep(0.003)
        raise TimeoutError(f"the workers were not done within {DRAIN_SECONDS} s and more")

    def stored(self, task_ids: Sequence[str]) -> float:
        """Wait until the result of each task is stored; returns the moment then (monotonic)."""
        results = [f"celery-task-meta-{task_id}" for task_id in task_ids]
        give_up = time.monotonic() + DRAIN_SECONDS * busyness()
        while self.redis.exists(*results) < len(results):
            if time.monotonic() > give_up:
                raise TimeoutError(f"the results were not stored within {DRAIN_SECONDS} s and more")
            time.sleep(0.005)
        return time.monotonic()

    def resumed(self) -> float:
        """Wait until no job is left to be resumed; returns the moment then (monotonic)."""
        give_up = time.monotonic() + DRAIN_SECONDS * busyness()
        while self.redis.zcard(keys.READY):
            if time.monotonic() > give_up:
                raise TimeoutError(f"the jobs were not resumed within {DRAIN_SECONDS} s and more")
            time.sleep(0.003)
        return time.monotonic()

    def require_results(self, task_ids: Sequence[str]) -> None:
        """Refuse to report a figure of tasks that have no result."""
        without = [each for each in task_ids if not self.producer.AsyncResult(each).successful()]
        if without:
            raise RuntimeError(f"{len(without)} tasks have no result, the first: {without[0]}")

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
def house(provider_seconds: float = 0) -> Iterator[House]:
    """Start a system over a private Valkey in a temporary folder; nothing of it is left.

    Args:
        provider_seconds: how long the provider takes to answer a submit.
    """
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
        system.run("stub", "-m", "benchmarks.stub", str(stub_port), str(provider_seconds))
        wait_until(lambda: listens(stub_url), what="the stub listens")
        yield House(system, stub_url)


@contextlib.contextmanager
def undisturbed(system: System) -> Iterator[System]:
    """Stop a system's processes whatever happens: SIGTERM counts as Ctrl-C.

    A second Ctrl-C does not cut that short.
    """
    before = {number: signal.signal(number, _end) for number in _ENDS}
    try:
        with system:
            try:
                yield system
            finally:
                for number in before:
                    signal.signal(number, signal.SIG_IGN)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in before.items():
            signal.signal(number, handler)


_ENDS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)
_AGAIN_SECONDS: Final = 0.2


def _end(*_: object) -> None:
    """Raise KeyboardInterrupt, and again for as long as a library swallows it.

    Not while an exception is handled, for that may be the run that ends already.
    """
    signal.setitimer(signal.ITIMER_REAL, _AGAIN_SECONDS)
    if sys.exception() is None:
        raise KeyboardInterrupt


def cpu_seconds(*processes: psutil.Process) -> float:
    """CPU that these processes have used, with their children, those that ended included."""
    return sum(_cpu_of(process) for process in processes)


def memory_bytes(process: psutil.Process) -> int:
    """Memory of a process with its children; what they share counts once, where the system says."""
    family = [each.memory_full_info() for each in (process, *process.children(recursive=True))]
    return sum(getattr(each, "pss", each.rss) for each in family)


def _cpu_of(process: psutil.Process) -> float:
    times = process.cpu_times()
    ended = times.children_user + times.children_system
    living = (process, *process.children(recursive=True))
    return float(ended) + sum(_own_cpu_of(each) for each in living)


def _own_cpu_of(process: psutil.Process) -> float:
    """CPU without children. Linux has a clock for it; elsewhere it is counted in steps of 10 ms."""
    if sys.platform == "linux":
        return time.clock_gettime(~process.pid << 3 | 2)  # clock_getcpuclockid(3)
    times = process.cpu_times()
    return times.user + times.system


def listens(url: str) -> bool:
    """Say whether a server answers, whatever it answers."""
    try:
        requests.get(url, timeout=2)
    except (requests.ConnectionError, requests.Timeout):
        return False
    return True
