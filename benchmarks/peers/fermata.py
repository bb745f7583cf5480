"""Fermata: the worker of the Procfile, the receiver, and the embedded Valkey."""

import uuid

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
        self._job_ids: list[str] = []

    def submit(self, count: int) -> None:
        wanted = [jobs.remaster(self.home, str(uuid.uuid4())) for _ in range(count)]
        self._job_ids = [str(each.id) for each in wanted]
        for each in wanted:
            each.apply_async()

    def parked(self) -> float:
        at = self.home.drained()
        self.home.require("waiting", self._job_ids)
        return at

    def resolved(self) -> float:
        return self.home.resumed()

    def require(self) -> None:
        self.home.require("succeeded", self._job_ids)
        self.home.require_results(self._job_ids)
