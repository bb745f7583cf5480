"""DBOS Transact on PostgreSQL: a web application with its workflows, and a process for webhooks."""

import contextlib
import functools
import os
from collections.abc import Iterator, Sequence
from typing import Final

from benchmarks.house import House, Server
from benchmarks.peers import pins
from benchmarks.peers.apps.http import post
from benchmarks.peers.installation import python_package
from benchmarks.peers.peer import Peer, counted, serve_asgi
from benchmarks.peers.postgresql import PostgreSQL, postgresql
from tests.system import ROOT

_LOOK_SECONDS: Final = 0.02
_WAITING: Final = "dbos.operation_outputs where function_name = 'DBOS.sleep'"
"""What a workflow records when it begins to wait for a message: until when."""
_STATUS: Final = "dbos.workflow_status"
_DONE: Final = f"{_STATUS} where status = 'SUCCESS'"


@contextlib.contextmanager
def dbos(home: House) -> Iterator[Peer]:
    """Install and start it all.

    Raises Missing.
    """
    with python_package(f"dbos=={pins.DBOS}") as library, postgresql() as database:
        settings = {
            "PYTHONPATH": os.pathsep.join((str(library), str(ROOT))),
            "BENCHMARK_DATABASE_URL": database.url,
        }
        app = serve_asgi(home, "dbos-app", "benchmarks.peers.apps.dbos_app:app", **settings)
        front = home.server("dbos-front", "benchmarks.peers.apps.dbos_front:app", **settings)
        yield DBOS(app, front, database)


class DBOS(Peer):
    """Its jobs are async workflows that wait for a message."""

    def __init__(self, app: Server, front: Server, database: PostgreSQL) -> None:
        name = f"DBOS {pins.DBOS} on PostgreSQL {database.version}"
        super().__init__(name, front, app.process, database.process)
        self._url = f"http://127.0.0.1:{app.port}"
        self._database = database
        self._before = 0

    def submit(self, job_id: str) -> None:
        post(f"{self._url}/jobs/{job_id}")

    def parked(self, job_ids: Sequence[str]) -> float:
        return self._counted(_WAITING, self._before + len(job_ids))

    def resolved(self, job_ids: Sequence[str]) -> float:
        self._before += len(job_ids)
        return self._counted(_DONE, self._before)

    def require(self, job_ids: Sequence[str]) -> None:
        if others := self._database.count(f"{_STATUS} where status <> 'SUCCESS'"):
            raise RuntimeError(f"{others} workflows have no result")

    def _counted(self, query: str, wanted: int) -> float:
        count = functools.partial(self._database.count, query)
        return counted(wanted, count, every_seconds=_LOOK_SECONDS)
