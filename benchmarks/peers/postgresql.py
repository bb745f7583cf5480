"""A private PostgreSQL with its own defaults: every commit is forced to the disk."""

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import psutil

from benchmarks.peers.peer import Missing, await_start, run

USER: Final = "fermata"
_DEBIAN: Final = Path("/usr/lib/postgresql")
_NEEDED: Final = ("initdb", "postgres", "pg_isready", "psql")
_STOP_SECONDS: Final = 10


class PostgreSQL:
    """A server that runs; only its own user and root come into the folder of its socket."""

    def __init__(self, process: psutil.Process, folder: Path, psql: Path, version: str) -> None:
        self.process = process
        self.version = version
        self.url = f"postgresql+psycopg://{USER}@/postgres?host={folder}"
        self._questions = subprocess.Popen(
            [psql, "-AtqX", f"postgresql://{USER}@/postgres?host={folder}"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip

    def count(self, query: str) -> int:
        """Ask for a number, over a connection that stays."""
        assert self._questions.stdin
        assert self._questions.stdout
        self._questions.stdin.write(f"select count(*) from {query};\n")
        self._questions.stdin.flush()
        return int(self._questions.stdout.readline())

    def close(self) -> None:
        self._questions.kill()
        self._questions.communicate()


@contextlib.contextmanager
def postgresql() -> Iterator[PostgreSQL]:
    """Start a server in a temporary folder; nothing of it is left.

    Raises Missing.
    """
    programs = installed()
    version = run(str(programs / "postgres"), "--version", missing="PostgreSQL").split()[2]
    with tempfile.TemporaryDirectory(prefix="fermata-postgresql-") as name:
        folder = Path(name)
        process = _start(programs, folder, folder / "postgresql.log")
        try:
            ready = [str(programs / "pg_isready"), "--quiet", "--host", name]
            await_start(process, lambda: not subprocess.call(ready), folder / "postgresql.log")
            psql = programs / "psql"
            server = PostgreSQL(psutil.Process(process.pid), folder, psql, version)
            with contextlib.closing(server):
                yield server
        finally:
            _stop(process)


def installed() -> Path:
    """Find the folder of the programs: on the PATH, or where Debian has them.

    Raises Missing.
    """
    on_path = shutil.which("initdb")
    folders = [Path(on_path).resolve().parent] if on_path else []
    versions = _DEBIAN.glob("[0-9]*/bin")
    folders += sorted(versions, key=lambda each: float(each.parent.name), reverse=True)
    for folder in folders:
        if all((folder / name).exists() for name in _NEEDED):
            return folder
    raise Missing("there is no PostgreSQL with its client: install it (Debian: postgresql)")


def _start(programs: Path, folder: Path, log: Path) -> "subprocess.Popen[bytes]":
    user, data = _user(folder), f"{folder}/data"
    run(
        str(programs / "initdb"), "--pgdata", data, "--username", USER, "--auth", "trust",
        "--encoding", "UTF8", "--no-locale", cwd=folder, missing="initdb fails", **user,
    )  # fmt: skip
    with log.open("wb") as output:
        return subprocess.Popen(
            [programs / "postgres", "-D", data, "-k", folder, "-c", "listen_addresses="],
            cwd=folder, stdout=output, stderr=output, start_new_session=True, **user,
        )  # fmt: skip


def _user(folder: Path) -> dict[str, Any]:
    """Return whom the server runs as, and give that user the folder: root is refused."""
    if os.geteuid():
        return {}
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            found = pwd.getpwnam(name)
            os.chown(folder, found.pw_uid, found.pw_gid)
            return {"user": found.pw_uid, "group": found.pw_gid, "extra_groups": ()}
    raise Missing("PostgreSQL refuses to run as root, and there is no other user for it")


def _stop(process: "subprocess.Popen[bytes]") -> None:
    """End a server at once: it takes its shared memory with it, if it is not killed."""
    process.send_signal(signal.SIGQUIT)
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
