"""Plain Celery: a task that submits, and a second one that a Flask view enqueues for the webhook.

They run in Fermata's own worker, so under the same settings. Nothing waits between the two: a
canvas around the first task goes on without the song.
"""

from collections.abc import Sequence
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

    def submit(self, job_id: str) -> None:
        self._home.producer.send_task("benchmark.submit", [job_id], task_id=job_id, queue=QUEUE)

    def parked(self, job_ids: Sequence[str]) -> float:
        return self._home.stored(job_ids)

    def resolved(self, job_ids: Sequence[str]) -> float:
        return self._home.stored(_second(job_ids))

    def require(self, job_ids: Sequence[str]) -> None:
        self._home.require_results(_second(job_ids))


def _second(job_ids: Sequence[str]) -> list[str]:
    """Name the second task of each job."""
    return [f"finish-{job_id}" for job_id in job_ids]
