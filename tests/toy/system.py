"""The whole system on the toy provider, as real processes."""

import socket
from typing import Any

from tests.chaos.stage import Stage
from tests.launcher import Started
from tests.ports import take_port
from tests.system import System, wait_until


class OnToy(System):
    """Lets a system's workers and receiver speak to the toy provider, which starts with it."""

    worker_app: str

    def serve(self, simulator_port: int, receiver_port: int) -> None:
        port = take_port()
        self.environment["FERMATA_PROVIDER_URL"] = f"http://127.0.0.1:{port}"
        given = ["--port", str(port), "--simulator", self.simulator.url]
        self.run("toy", "-m", "tests.toy.server", *given)
        super().serve(simulator_port, receiver_port)
        wait_until(lambda: _listens(port), what="the toy provider")

    def worker(self, name: str = "worker", *, app: str = "", **options: Any) -> Started:
        return super().worker(name, app=self.worker_app, **options)


class ToySystem(OnToy):
    worker_app = "tests.toy.worker"
    receiver_app = "tests.toy.receiver:app"


class ToyStage(OnToy, Stage):
    worker_app = "tests.toy.chaos_worker"
    receiver_app = "tests.toy.chaos_receiver:app"


def _listens(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0
