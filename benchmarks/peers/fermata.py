"""Fermata: the worker of the Procfile, the receiver, and the embedded Valkey."""

import uuid
from collections.abc import Sequence

import psutil

from benchmarks import jobs
from benchmarks.house import RECEIVER, House
from benchmarks.peers.peer import Peer


class Fermata(Peer):
    """Its jobs are provider tasks, published as a backend publishes them."""

    def __init__(self, home: House) -> None:
        self.home = home
        self.worker = psutil.Process(home.default_worker("worker").pid)
        receiver = home.server("receiver", *RECEIVER)
        super().__init__("Fermata", receiver, self.worker, home.valkey)

    def submit(self, job_id: str) -> None:
        jobs.remaster(self.home, str(uuid.uuid4()), task_id=job_id).apply_async()

    def parked(self, job_ids: Sequence[str]) -> float:
        return self.home.drained()

    def resolved(self, job_ids: Sequence[str]) -> float:
        return self.home.resumed()

    def require(self, job_ids: Sequence[str]) -> None:
        self.home.require("succeeded", job_ids)
        self.home.require_results(job_ids)
