"""The whole system as real processes, and a supervisor that starts again whatever dies."""

import contextlib
import os
import re
import signal
import threading
import time
from pathlib import Path
from queue import Empty
from typing import Any, Final

import psutil
import requests
from celery import Celery
from redis import Redis

from tests.chaos import minutely
from tests.chaos.load import RAN
from tests.chaos.minutely import Minutely
from tests.launcher import Started
from tests.servers import RabbitMQ
from tests.system import System, recording
from worker.core.contract import QUEUE
from worker.core.job.timing import Policy
from worker.messages.recording import Recorder
from worker.store import connection
from worker.store.embedded import EmbeddedValkey

POOLS: Final[dict[str, Any]] = {
    "worker-1": {"pool": "prefork", "concurrency": 2},
    "worker-2": {},  # as it ships
}
WORKERS: Final = tuple(POOLS)
CREDITS: Final = 10_000_000
JOB_TASK: Final = re.compile(r"fermata\.(?!schedule\.)")

# Shorter than in production, but longer than any of these things ever takes here.
SETTINGS: Final[dict[str, Any]] = {
    # Most freezes are longer than this, so they have an effect.
    "FERMATA_REDIS_TIMEOUT_SECONDS": "1",
    "FERMATA_SUBMIT_TIMEOUT_SECONDS": "3",
    "FERMATA_UNCONFIRMED_GRACE_SECONDS": "12",
    "FERMATA_BACKLOG_SECONDS": "15",
    "FERMATA_VISIBILITY_SECONDS": "60",
    "FERMATA_SWEEP_EVERY_SECONDS": "0.5",
    "FERMATA_POLL_FIRST_SECONDS": "4",
    "FERMATA_POLL_EVERY_SECONDS": "1",
    "FERMATA_POLLS_PER_SECOND": "50",
    "FERMATA_DEADLINE_SECONDS": "1200",
}


class Stage(System):
    """A system whose processes are killed, frozen and started again."""

    receiver_app = "tests.chaos.wsgi:app"

    def __init__(self, folder: Path, *, rabbitmq: bool = False) -> None:
        # With everysec, the server may hold writes back while the disk is busy. But a record that a
        # producer takes for stored must be stored.
        valkey = EmbeddedValkey(folder, appendfsync="always")
        timetable = str(folder / minutely.TIMETABLE)
        told = SETTINGS | {"FERMATA_TIMETABLE": timetable}
        broker = rabbitmq and RabbitMQ(folder)
        super().__init__(folder, redis=valkey, rabbitmq=broker, **told)
        self.restarts = 0
        self._running: dict[str, tuple[Started, tuple[str, ...]]] = {}

    def __enter__(self) -> "Stage":
        (self.folder / RAN).mkdir(parents=True)
        minutely.write(self.folder)
        super().__enter__()
        try:
            self._prepare()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _prepare(self) -> None:
        rich = {"credits": CREDITS}
        requests.put(f"{self.simulator.url}/_simulator/credits", json=rich, timeout=60)
        self.app = self._producer()
        for name, pool in POOLS.items():
            self.worker(name, app="tests.chaos.app", **pool)
        self.minutely = Minutely(connection.connect(self.redis_url), self.folder)
        self.run("beat", "-m", "celery", "-A", "worker.app", "beat", "--schedule", "beat.db")

    def _producer(self) -> Celery:
        """As ``open_producer``: it records. Chords need a result backend besides."""
        app = Celery(
            broker=self.broker_url,
            backend=self.redis_url,
            set_as_current=False,
            amqp=recording(self._recorder),
        )
        app.conf.task_default_queue = QUEUE
        if self.rabbitmq:
            app.conf.broker_transport_options = {"confirm_publish": True}
        # It waits for no result, so it must not subscribe to any: Celery gives up on a subscription
        # whose server was restarted.
        backend: Any = app.backend
        backend.on_task_call = backend.remove_pending_result = lambda *_: None
        return app

    def _recorder(self) -> Recorder:
        policy = Policy(backlog_seconds=float(SETTINGS["FERMATA_BACKLOG_SECONDS"]))
        return Recorder(self.records, self.readings, policy, time.time)

    def __exit__(self, *_: object) -> None:
        for process, _ in self._running.values():
            _kill_group(process)
        self.valkey.signal(signal.SIGCONT)  # it may be frozen
        self.valkey.stop()
        if self.rabbitmq:
            self.rabbitmq.stop()

    def run(self, name: str, *arguments: str, **settings: str) -> Started:
        if name == "receiver":
            arguments = (*arguments, "--workers", "2")
        process = super().run(name, *arguments, **settings)
        self._running[name] = (process, arguments)
        return process

    def tend(self) -> None:
        """Start dead processes again, as a container would: first kill what is left of them."""
        for name, (process, arguments) in list(self._running.items()):
            if process.poll() is not None:
                assert name != "simulator", "the simulator keeps the books: it must not die"
                _kill_group(process)
                self.restarts += 1
                super().run(name, *arguments)
                self._running[name] = (self._processes[-1], arguments)

    def kill(self, name: str, *, child: int | None = None) -> bool:
        """Kill -9 a process group, or the main process's n-th child; says whether it could."""
        process, _ = self._running[name]
        if child is None:
            _kill_group(process, wait=False)
            return True
        with contextlib.suppress(psutil.Error):
            children = psutil.Process(process.pid).children()
            if children:
                children[child % len(children)].kill()
                return True
        return False

    def kill_main(self, name: str) -> None:
        """Kill -9 the main process alone; its children find themselves orphaned."""
        with contextlib.suppress(ProcessLookupError):
            self._running[name][0].kill()

    def freeze(self, name: str, seconds: float) -> None:
        """Stop a process group, and let it go on after some seconds; does not wait."""
        group = self._running[name][0].pid
        _signal_group(group, signal.SIGSTOP)
        thaw = threading.Timer(seconds, _signal_group, (group, signal.SIGCONT))
        thaw.daemon = True
        thaw.start()

    def freeze_valkey(self, seconds: float) -> None:
        """Stop the server, and let it go on after some seconds; waits for that."""
        self.valkey.signal(signal.SIGSTOP)
        time.sleep(seconds)
        self.valkey.signal(signal.SIGCONT)

    def restart_valkey(self, seconds: float) -> None:
        """Kill -9 the server; start it again later, on the same port and append-only file."""
        self.valkey.signal(signal.SIGKILL)
        self.valkey.wait(lambda: time.sleep(seconds))
        self.valkey.start()

    def stop_beat(self) -> None:
        """Let no further minute be due."""
        process, _ = self._running.pop("beat")
        _kill_group(process)

    def lose_message(self) -> bool:
        """Remove the message of a job from the broker's queue for good; False if none is there."""
        with self.app.connection_for_read() as connection:
            queue = connection.SimpleQueue(QUEUE)
            with contextlib.suppress(Empty):
                message = queue.get_nowait()
                if JOB_TASK.match(message.headers["task"]):
                    message.ack()
                    return True
                message.requeue()
        return False

    def is_idle(self) -> bool:
        """Say whether the broker holds no message; on Redis none in hand either."""
        if self.rabbitmq:
            return not self.backlog()[0]
        with Redis.from_url(self.broker_url) as broker:
            return not broker.llen(QUEUE) and not broker.hlen("unacked")

    def runs(self, key: str) -> list[str]:
        """The copies of a plain step that have run, or the errors that an errback got."""
        try:
            return (self.folder / RAN / key).read_text().splitlines()
        except FileNotFoundError:
            return []


def _kill_group(process: Started, *, wait: bool = True) -> None:
    _signal_group(process.pid, signal.SIGKILL)
    if wait:
        process.wait()


def _signal_group(group: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)
