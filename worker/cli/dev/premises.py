"""The things that ``fermata dev`` needs before anything starts: a folder of its own, ports, and a
temporary folder. If one is missing, it refuses to start, in one line."""

import contextlib
import fcntl
import os
import secrets
import shutil
import socket
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Final

from worker.cli.dev.crew import END_SECONDS
from worker.core.errors import ConfigError, FermataError, Unwritable

_LOOK_EVERY_SECONDS: Final = 0.1
_DYING_SECONDS: Final = 2
_WORDS: Final = 4
_BACKLOG: Final = 1024
_PROBE_BYTES: Final = 64 * 1024


def data_folder(path: Path) -> Path:
    """Make the folder for the data.

    Raises Unwritable if it cannot be written to, before any process has started.
    """
    folder = path.resolve()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(bytes(_PROBE_BYTES))
            probe.flush()
    except OSError as error:
        raise Unwritable(
            f"data cannot be kept in {folder} ({error.strerror}): set FERMATA_DATA_DIR to a "
            "folder that can be written to"
        ) from None
    return folder


def require_temporary_folder() -> None:
    """Raise Unwritable if there is no temporary folder: gunicorn and others need one."""
    try:
        tempfile.gettempdir()
    except FileNotFoundError as error:
        raise Unwritable(f"{error.strerror}: set TMPDIR to one that can be written to") from None


def is_full(folder: Path) -> bool:
    """Say whether the folder's disk has no room left, by the free space that it reports."""
    return shutil.disk_usage(folder).free < _PROBE_BYTES


def failure(folder: Path, why: str) -> FermataError:
    """Return an error for a failure in a folder; if its disk is full, the error says that."""
    return Unwritable(f"{why}; the disk is full") if is_full(folder) else ConfigError(why)


@contextlib.contextmanager
def alone(folder: Path, tell: Callable[[str], None]) -> Iterator[int]:
    """Lock the folder; yields the lock's descriptor. The lock holds as long as anyone has it open.

    Raises ConfigError if ``fermata dev`` runs there, or if processes of one that was killed do.
    """
    with (folder / "lock").open("a+", encoding="utf-8") as lock:
        _take(lock, folder, tell)
        write_lock(lock.fileno(), f"{os.getpid()}")
        yield lock.fileno()


def _take(lock: IO[str], folder: Path, tell: Callable[[str], None]) -> None:
    """Wait while a keeper ends the processes of a killed ``fermata dev``; not for one that runs."""
    give_up = time.monotonic() + END_SECONDS
    told = False
    while not _locked(lock):
        lock.seek(0)
        pid, _, group = lock.read().partition(" ")
        if not group or _runs(int(pid)):
            raise ConfigError(
                f"fermata dev already runs in {folder} (process {pid or 'unknown'}): "
                "stop it, or set FERMATA_DATA_DIR"
            )
        if not _runs(int(group)):  # the keeper has ended: the processes it killed end very soon
            give_up = min(give_up, time.monotonic() + _DYING_SECONDS)
        if time.monotonic() > give_up:
            raise ConfigError(
                f"fermata dev (process {pid}) was killed, and what it started in {folder} still "
                f"runs: end it with kill -9 -- -{group}"
            )
        if not told:
            tell(f"fermata dev: process {pid} was killed; what it started is ending")
            told = True
        time.sleep(_LOOK_EVERY_SECONDS)


def _locked(lock: IO[str]) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def write_lock(descriptor: int, text: str) -> None:
    """Write into the lock's file who holds it: a process, and the group that it started."""
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, text.encode(), 0)


def listen_at(stack: contextlib.ExitStack, ports: Mapping[str, int]) -> dict[str, socket.socket]:
    """Open the ports of some options of ``fermata dev``, until the stack is closed.

    Raises ConfigError that names every port that is in use.
    """
    doors, taken = dict[str, socket.socket](), list[str]()
    for option, port in ports.items():
        try:
            doors[option] = stack.enter_context(listen(f"fermata dev {option}", port))
        except ConfigError as error:
            taken.append(error.message)
    if taken:
        raise ConfigError("; ".join(taken))
    return doors


def listen(choice: str, port: int, *, host: str = "127.0.0.1") -> socket.socket:
    """Open a port for a process that will inherit it: nobody else can take it meanwhile.

    Raises ConfigError if it is in use, and says by whom if that can be known.

    Args:
        choice: the command and its option by which a person chooses another port.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        # Connections wait in the backlog until the process that inherits the port accepts them.
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        why = f"{os.strerror(error.errno or 0)}{_holder(port)}"
        said = f"port {port} cannot be used ({why}): choose another by `{choice} …`"
        raise ConfigError(said) from None


def _holder(port: int) -> str:
    """Name the process that listens at a port, as far as Linux shows it to this user."""
    tables = (path for path in map(Path, ("/proc/net/tcp", "/proc/net/tcp6")) if path.exists())
    rows = [line.split() for table in tables for line in table.read_text("utf-8").splitlines()]
    # The columns: 1 is the address with its port, 3 the state (0A: listening), 9 the inode.
    listening = {
        f"socket:[{row[9]}]" for row in rows if row[1].endswith(f":{port:04X}") and row[3] == "0A"
    }
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # another user's, or gone meanwhile
            if not listening.isdisjoint(_open_in(process)):
                command = (process / "cmdline").read_text("utf-8", "replace").split("\0")
                return f", by process {process.name}: {' '.join(command[:_WORDS]).strip()}"
    return ""


def _open_in(process: Path) -> Iterator[str]:
    for descriptor in (process / "fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            yield str(descriptor.readlink())


def signing_key(folder: Path) -> str:
    """Keep one key for the folder, so that webhooks of jobs parked yesterday are still accepted."""
    path = folder / "signing.key"
    if not path.exists():
        write_privately(path, secrets.token_urlsafe(32))
    return path.read_text("utf-8")


def write_privately(path: Path, text: str) -> None:
    """Write a file that its owner alone may read, whole or not at all."""
    whole = path.with_name(f"{path.name}.new")
    whole.unlink(missing_ok=True)
    whole.touch(mode=0o600)
    whole.write_text(text, "utf-8")
    whole.replace(path)
