"""What is asked of each system that is measured."""

import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import psutil

from benchmarks.house import DRAIN_SECONDS, House, Server, listens
from tests.launcher import Started
from tests.ports import take_port
from tests.system import busyness, wait_until


class Missing(Exception):
    """A peer cannot be set up here; the message says why, and what to install."""


class Peer(ABC):
    """A system that submits jobs, lets them wait, and resolves them by their webhooks.

    Args:
        name: what the table calls it, with its version.
        front: the server that takes its webhooks.
        others: its other processes.
    """

    def __init__(self, name: str, front: Server, *others: psutil.Process) -> None:
        self.name = name
        self.front = front
        self.processes = (front.process, *others)

    @abstractmethod
    def submit(self, job_id: str) -> None:
        """Hand over a job, which submits to the provider and waits. Several threads call this."""

    @abstractmethod
    def parked(self, job_ids: Sequence[str]) -> float:
        """Wait until all of a round's jobs wait; returns the moment then (monotonic)."""

    @abstractmethod
    def resolved(self, job_ids: Sequence[str]) -> float:
        """Wait until the result of each is stored; returns the moment then (monotonic)."""

    @abstractmethod
    def require(self, job_ids: Sequence[str]) -> None:
        """Refuse to report a figure of jobs that have no result."""


def counted(wanted: int, count: Callable[[], int], *, every_seconds: float) -> float:
    """Wait until there are so many; returns the moment then (monotonic)."""
    give_up = time.monotonic() + DRAIN_SECONDS * busyness()
    while (found := count()) < wanted:
        if time.monotonic() > give_up:
            raise TimeoutError(f"{found} of {wanted} were done within {DRAIN_SECONDS} s and more")
        time.sleep(every_seconds)
    return time.monotonic()


def serve_asgi(home: House, name: str, app: str, **settings: str) -> Server:
    """Start an ASGI app under uvicorn, in one process.

    Raises Missing if it does not start.
    """
    port = take_port()
    command = ("-m", "uvicorn", "--port", str(port), "--no-access-log", "--log-level", "warning")
    process = home.system.run(name, *command, app, **settings)
    url = f"http://127.0.0.1:{port}"
    await_start(process, lambda: listens(url), home.system.folder / f"{name}.log")
    return Server(psutil.Process(process.pid), port)


def await_start(process: Started, up: Callable[[], bool], log: Path) -> None:
    """Wait until a server is up.

    Raises Missing, with the last that it said, if it ends instead.
    """
    wait_until(lambda: process.poll() is not None or up(), seconds=60, what=f"{log.stem} is up")
    if process.poll() is not None:
        said = log.read_text("utf-8", "replace")
        raise Missing(f"{log.stem} ended at once: {_lines(said)[-1]}")


def run(*command: str, missing: str, **options: Any) -> str:
    """Run a command to its end; returns what it printed.

    Raises Missing, with the text ``missing`` and the first that the command said, if it fails.
    """
    done: subprocess.CompletedProcess[str] = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, **options
    )
    if done.returncode:
        raise Missing(f"{missing}: {_lines(done.stderr)[0]}")
    return done.stdout


def _lines(said: str) -> list[str]:
    return said.strip().splitlines() or ["it says nothing"]
