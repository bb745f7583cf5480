"""Plain Celery: a task that submits, and a second one that a Flask view enqueues for the webhook.

They run in Fermata's own worker, so under the same settings. Nothing waits between the two: a
canvas around the first task goes on without the song.
"""

import uuid
from importlib.metadata import version

import psutil

from benchmarks.house import House
from benchmarks.peers.peer import Peer
from worker.core.contract import QUEUE


class Plain(Peer):
    """Its jobs are two tasks each."""

    def __init__(self, home: House, worker: psutil.Process) -> None:
        front = home.server("plain-front", "benchmarks.peers.apps.plain_front:app")
        super().__init__(f"plain Celery {version('celery')}", front, worker, home.valkey)
        self._home = home
        self._job_ids: list[str] = []

    def submit(self, count: int) -> None:
        self._job_ids = [str(uuid.uuid4()) for _ in range(count)]
        submit = self._home.producer.signature("benchmark.submit", queue=QUEUE)
        for job_id in self._job_ids:
            submit.clone(args=(job_id,), task_id=job_id).apply_async()

    def parked(self) -> float:
        return self._home.stored(self._job_ids)

    def resolved(self) -> float:
        return self._home.stored(self._finished())

    def require(self) -> None:
        self._home.require_results(self._finished())

    def _finished(self) -> list[str]:
        return [f"finish-{job_id}" for job_id in self._job_ids]
