"""Restate: its server, a Python service, and a Flask view that resolves awakeables."""

import contextlib
import functools
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import psutil
import requests

from benchmarks.house import House, Server, listens
from benchmarks.peers import pins
from benchmarks.peers.apps.http import post
from benchmarks.peers.installation import npm_package, python_package
from benchmarks.peers.peer import Missing, Peer, await_start, counted, serve_asgi
from tests.ports import take_port
from tests.system import ROOT, stop

_LOOK_SECONDS: Final = 0.05
"""One look costs its server 6 ms of CPU."""
_MACHINES: Final = {"x86_64": "x64", "AMD64": "x64", "aarch64": "arm64", "arm64": "arm64"}


@contextlib.contextmanager
def restate(home: House) -> Iterator[Peer]:
    """Install and start it all.

    Raises Missing.
    """
    with (
        python_package(f"restate-sdk=={pins.RESTATE_SDK}") as library,
        npm_package(f"@restatedev/restate-server@{pins.RESTATE_SERVER}") as modules,
        _running(_binary(modules)) as server,
    ):
        settings = {
            "PYTHONPATH": os.pathsep.join((str(library), str(ROOT))),
            "BENCHMARK_INGRESS_URL": server.ingress_url,
        }
        app = serve_asgi(home, "restate-app", "benchmarks.peers.apps.restate_app:app", **settings)
        server.register(app)
        front = home.server("restate-front", "benchmarks.peers.apps.restate_front:app", **settings)
        yield Restate(app, front, server)


class Restate(Peer):
    """Its jobs are workflows that wait for an awakeable."""

    def __init__(self, app: Server, front: Server, server: "_Server") -> None:
        name = f"Restate {pins.RESTATE_SERVER} with its Python SDK {pins.RESTATE_SDK}"
        super().__init__(name, front, app.process, server.process)
        self._server = server
        self._before = 0

    def submit(self, job_id: str) -> None:
        post(f"{self._server.ingress_url}/Song/{job_id}/run/send")

    def parked(self, job_ids: Sequence[str]) -> float:
        return self._counted("suspended", len(job_ids))

    def resolved(self, job_ids: Sequence[str]) -> float:
        self._before += len(job_ids)
        return self._counted("completed", self._before)

    def require(self, job_ids: Sequence[str]) -> None:
        with requests.Session() as session:
            for job_id in job_ids:
                url = f"{self._server.ingress_url}/restate/workflow/Song/{job_id}/output"
                session.get(url, timeout=10).raise_for_status()

    def _counted(self, status: str, wanted: int) -> float:
        count = functools.partial(self._server.count, status)
        return counted(wanted, count, every_seconds=_LOOK_SECONDS)


class _Server:
    """A server that runs."""

    def __init__(self, process: psutil.Process, ingress_port: int, admin_port: int) -> None:
        self.process = process
        self.ingress_url = f"http://127.0.0.1:{ingress_port}"
        self._admin_url = f"http://127.0.0.1:{admin_port}"
        self._session = requests.Session()

    def up(self) -> bool:
        """Say whether it can be used; it answers before that."""
        urls = (f"{self._admin_url}/health", f"{self.ingress_url}/restate/health")
        return all(listens(url) and self._session.get(url, timeout=2).ok for url in urls)

    def register(self, app: Server) -> None:
        """Make a service known."""
        told = {"uri": f"http://127.0.0.1:{app.port}", "use_http_11": True}
        answer = self._session.post(f"{self._admin_url}/deployments", json=told, timeout=30)
        answer.raise_for_status()

    def count(self, status: str) -> int:
        """Count jobs by its own query engine."""
        query = f"select count(*) as n from sys_invocation_status where status = '{status}'"
        answer = self._session.post(
            f"{self._admin_url}/query", json={"query": query},
            headers={"Accept": "application/json"}, timeout=10,
        )  # fmt: skip
        answer.raise_for_status()
        rows: list[dict[str, Any]] = answer.json()["rows"]
        return int(rows[0]["n"])


@contextlib.contextmanager
def _running(binary: Path) -> Iterator[_Server]:
    """Start a server with its own defaults in a temporary folder; nothing of it is left."""
    ingress, admin, node = take_port(), take_port(), take_port()
    settings = {
        "RESTATE_INGRESS__BIND_ADDRESS": f"127.0.0.1:{ingress}",
        "RESTATE_ADMIN__BIND_ADDRESS": f"127.0.0.1:{admin}",
        "RESTATE_BIND_ADDRESS": f"127.0.0.1:{node}",
        "RESTATE_LISTEN_MODE": "tcp",
        "RESTATE_LOG_FILTER": "warn",
        "RESTATE_DISABLE_TELEMETRY": "true",
    }
    with tempfile.TemporaryDirectory(prefix="fermata-restate-") as folder:
        settings["TMPDIR"] = folder
        log = Path(folder) / "restate.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [binary, "--base-dir", f"{folder}/data", "--no-logo"],
                env=os.environ | settings, cwd=folder, stdout=output, stderr=output,
                start_new_session=True,
            )  # fmt: skip
        try:
            server = _Server(psutil.Process(process.pid), ingress, admin)
            await_start(process, server.up, log)
            yield server
        finally:
            stop(process, kill=True)


def _binary(modules: Path) -> Path:
    """Find the server in the package for this machine; its launcher needs Node.js to run."""
    machine = f"{sys.platform}-{_MACHINES.get(platform.machine(), platform.machine())}"
    found = modules / f"@restatedev/restate-server-{machine}" / "bin" / "restate-server"
    if not found.exists():
        raise Missing(f"there is no Restate server for {machine}")
    return found
