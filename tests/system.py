"""The whole system as real processes, for tests: Valkey, simulator, receiver and workers."""

import contextlib
import functools
import json
import os
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import requests
from celery import Celery
from redis import Redis

from tests import launcher
from tests.launcher import Process, Started
from tests.ports import take_port
from tests.servers import RabbitMQ, VirtualHost
from worker.batch.ledger import Batch, Ledger
from worker.core import redis_url
from worker.core.contract import QUEUE
from worker.core.health.checks import THREADS
from worker.core.job.models import JobId
from worker.messages.recording import RecordingAMQP
from worker.store import connection
from worker.store.agenda import Agenda
from worker.store.embedded import EmbeddedValkey
from worker.store.readings import Readings
from worker.store.records import Records

SIGNING_KEY = "k4JtXb0PZqv7LwY2cRn8sUe6hDf3aGm1"
API_KEY = "sk_simulated_0123456789"
ROOT = Path(__file__).parent.parent

ANSWER_SECONDS = 60
"""The patience for an answer that comes at once, unless the machine is very busy."""


def wait_until(fact: Callable[..., Any], *, seconds: float = 20, what: str = "") -> Any:
    """Wait on a fact, not on the clock; returns its first true value.

    The seconds are those of a machine with a core for each process; they grow with the load. If a
    look at the fact is costly, such as a command, looks take a third of the time at most.
    """
    began = time.monotonic()
    while (asked := time.monotonic()) - began < seconds * busyness():
        value = fact()
        if value:
            return value
        time.sleep(max(0.02, 2 * (time.monotonic() - asked)))
    raise AssertionError(f"not within {time.monotonic() - began:.0f} s: {what or fact}")


@contextlib.contextmanager
def within(seconds: float) -> Iterator[None]:
    """Assert that the body takes less than some seconds, which grow with the machine's load."""
    began = time.monotonic()
    yield
    took = time.monotonic() - began
    assert took < seconds * busyness(), f"took {took:.1f} s, not {seconds} s"


def busyness() -> float:
    """Return how many processes want to run for each core; at least 1."""
    return max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


def recording(recorder: Callable[[], Any]) -> Any:
    """Return the publisher of a backend that has our code, as ``producer.recording`` does."""
    return functools.partial(RecordingAMQP, recorder=recorder, follow_up_queue=lambda: "celery")


class Simulator:
    """The simulator's control routes and books."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._http = requests.Session()
        self._http.trust_env = False  # to look for a proxy costs as much as the request

    def rule(self, match: str, *, times: int | None = None, **scenario: Any) -> None:
        """Choose the scenario of submits whose request holds a text (a job id, a clip id)."""
        rule = {"match": match, "times": times, "scenario": scenario}
        answer = self._http.post(
            f"{self.url}/_simulator/scenarios", json=rule, timeout=ANSWER_SECONDS
        )
        assert answer.ok, answer.text

    def forget_rules(self) -> None:
        self._http.delete(
            f"{self.url}/_simulator/scenarios", timeout=ANSWER_SECONDS
        ).raise_for_status()

    def set_credits(self, balance: float) -> None:
        answer = self._http.put(
            f"{self.url}/_simulator/credits", json={"credits": balance}, timeout=ANSWER_SECONDS
        )
        answer.raise_for_status()

    def books(self, match: str = "") -> dict[str, Any]:
        params = {"match": match}
        answer = self._http.get(
            f"{self.url}/_simulator/books", params=params, timeout=ANSWER_SECONDS
        )
        books: dict[str, Any] = answer.json()
        return books

    def accepted(self, match: str) -> list[dict[str, Any]]:
        """The provider tasks that the simulator accepted, by its own books."""
        tasks: list[dict[str, Any]] = self.books(match)["tasks"]
        return tasks

    def submissions(self, wanted: Iterable[str]) -> Counter[str]:
        """How often it accepted a request with each of these texts, by one look at its books."""
        accepted = [json.dumps(task["request"]) for task in self.accepted("")]
        return Counter(text for text in wanted for request in accepted if text in request)


@dataclass(frozen=True)
class Desk:
    """A running desk."""

    process: Started
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


class System:
    """Real processes over one Valkey. Every process it started ends with it.

    Args:
        one_database: the broker is the database that holds the records, not the one beside it.
        rabbitmq: the broker is a virtual host of RabbitMQ, or this node, which then ends with the
            system; Valkey holds the records and the results.
        redis: another server in Valkey's place.
    """

    receiver_app = "webhook_receiver.wsgi:app"
    launch: ClassVar[Callable[..., Started]] = Process

    def __init__(
        self,
        folder: Path,
        *,
        one_database: bool = True,
        rabbitmq: bool | RabbitMQ = False,
        redis: Any = None,
        **settings: str,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.rabbitmq = VirtualHost() if rabbitmq is True else rabbitmq
        self.valkey = redis or EmbeddedValkey(folder)
        self._processes: list[Started] = []
        self._one_database = one_database
        self._extra = settings
        self.environment: dict[str, str] = {}
        self.app = Celery(set_as_current=False)

    def __enter__(self) -> "System":
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _start(self) -> None:
        self.redis_url = self.valkey.start()
        self.broker_url = self.redis_url
        if self.rabbitmq:
            self.broker_url = self.rabbitmq.start()
        elif not self._one_database:
            self.broker_url = self.redis_url.removesuffix("/0") + "/1"
        simulator_port, receiver_port = take_port(), take_port()
        self.simulator = Simulator(f"http://127.0.0.1:{simulator_port}")
        self.receiver_url = f"http://127.0.0.1:{receiver_port}"
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("FERMATA_")}
        self.environment = inherited | {
            "PYTHONPATH": str(ROOT),
            "TMPDIR": str(self.folder),  # a killed process leaves its temporary files
            "FERMATA_REDIS_URL": self.redis_url,
            "FERMATA_BROKER_URL": self.broker_url,
            "FERMATA_PROVIDER_URL": f"{self.simulator.url}/api/v1",
            "FERMATA_PUBLIC_URL": self.receiver_url,
            "FERMATA_API_KEY": API_KEY,
            "FERMATA_SIGNING_KEYS": SIGNING_KEY,
            "FERMATA_SWEEP_EVERY_SECONDS": "0.2",
            "FERMATA_POLL_FIRST_SECONDS": "1",
            "FERMATA_POLL_EVERY_SECONDS": "0.3",
            "FERMATA_POLLS_PER_SECOND": "100",
            "FERMATA_PROBE_SECONDS": "0.5",
            "FERMATA_LOG_LEVEL": "INFO",
            **self._extra,
        }
        self.serve(simulator_port, receiver_port)
        self._connect()

    def serve(self, simulator_port: int, receiver_port: int) -> None:
        """Start the processes that answer HTTP, and wait until they do."""
        command = ["-m", "simulator", "--port", str(simulator_port), "--api-key", API_KEY]
        self.run("simulator", *command, "--latency", "0.3")
        self.run(
            "receiver", "-m", "gunicorn", "--no-control-socket", "--threads", "8",
            "--worker-class", "webhook_receiver.server.Worker",
            "--bind", f"127.0.0.1:{receiver_port}", self.receiver_app,
        )  # fmt: skip
        wait_until(lambda: _answers(f"{self.simulator.url}/_simulator/healthz"), what="simulator")
        wait_until(lambda: _answers(f"{self.receiver_url}/healthz"), what="receiver")

    def _connect(self) -> None:
        self.app.conf.update(
            broker_url=redis_url.celery_url(self.broker_url),
            result_backend=redis_url.celery_url(self.redis_url),
            broker_transport_options=redis_url.celery_options(self.broker_url, timeouts={}),
            result_backend_transport_options=redis_url.celery_options(self.redis_url, timeouts={}),
            task_default_queue=QUEUE,
        )
        client = connection.connect(self.redis_url)
        self.records, self.readings = Records(client), Readings(client)
        self.agenda = Agenda(client)

    def __exit__(self, *_: object) -> None:
        """Kill all processes. A test that wants to see one end well stops it itself."""
        self.app.close()
        for process in self._processes:
            stop(process, kill=True)
        self.valkey.stop()
        if self.rabbitmq:
            self.rabbitmq.stop()

    def run(self, name: str, *arguments: str, **settings: str) -> Started:
        """Start a Python process of the system; its output goes to ``<name>.log``."""
        log = self.folder / f"{name}.log"
        environment = self.environment | settings
        process = self.launch(
            *arguments, environment=environment, folder=self.folder, stdout=log, stderr=log
        )
        self._processes.append(process)
        return process

    def fermata(
        self, *arguments: str, given: str = "", **settings: str
    ) -> "subprocess.CompletedProcess[str]":
        """Run a command to its end; ``given`` is its standard input."""
        environment = self.environment | {"COLUMNS": "200"} | settings
        return launcher.run(
            "-m", "worker", *arguments, environment=environment, folder=self.folder, given=given
        )

    def worker(
        self,
        name: str = "worker",
        *,
        concurrency: int = THREADS,
        pool: str = "threads",
        app: str = "worker.app",
        queues: str = QUEUE,
        **settings: str,
    ) -> Started:
        """Start a worker, by default as the Procfile does, and wait until it answers."""
        process = self.run(
            name, "-m", "celery", "-A", app, "worker", "-l", "INFO", "-n", f"{name}@test",
            "-c", str(concurrency), "-P", pool, "-Q", queues,
            "--without-gossip", "--without-mingle", **settings,
        )  # fmt: skip
        log = self.folder / f"{name}.log"
        wait_until(lambda: b"ready." in log.read_bytes(), seconds=60, what=f"{name} is ready")
        return process

    def desk(
        self,
        name: str = "desk",
        *,
        port: int = 0,
        threads: int = 128,
        worker_class: str = "desk.server.Worker",
        **settings: str,
    ) -> Desk:
        """Start a desk, as the Procfile does, and wait until it answers.

        Args:
            port: that of a desk which has ended, or a free one.
        """
        port = port or take_port()
        process = self.run(
            name, "-m", "gunicorn", "--no-control-socket", "--threads", str(threads),
            "--worker-class", worker_class,
            "--bind", f"127.0.0.1:{port}", "desk.wsgi:app", **settings,
        )  # fmt: skip
        desk = Desk(process, port)
        wait_until(lambda: _answers(f"{desk.url}/healthz"), seconds=60, what=f"{name} answers")
        return desk

    def backlog(self, queue: str = QUEUE) -> tuple[int, int]:
        """Return how many messages stand in a queue, and how many consumers wait for more."""
        if not self.rabbitmq:
            with Redis.from_url(self.broker_url) as broker:
                # The admission also waits for a list, but with another command.
                waiting = [
                    c for c in broker.client_list() if c["cmd"] == "blmove" and "b" in c["flags"]
                ]
                return broker.llen(queue), len(waiting)
        with self.app.connection_for_read() as connection:
            channel: Any = connection.default_channel
            told = channel.queue_declare(queue, passive=True)
        return told.message_count, told.consumer_count

    def batch(self, batch_id: str) -> Batch:
        """Read what became of a batch so far, without a command: that takes a second of a core."""
        with Redis.from_url(self.redis_url, decode_responses=True) as redis:
            return Ledger(redis, retain_seconds=1).read(batch_id)

    def state(self, job_id: str) -> str | None:
        return self.readings.state(JobId(job_id))

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text()


def stop(process: Started, *, kill: bool = False) -> None:
    """End a process that we started, with its children, and wait for it."""
    with contextlib.suppress(ProcessLookupError):
        if kill:
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.send_signal(signal.SIGTERM)
    try:
        process.wait(15)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _answers(url: str) -> bool:
    try:
        return requests.get(url, timeout=2).ok
    except (requests.ConnectionError, requests.Timeout):
        return False
