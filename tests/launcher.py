"""Starts the Python processes of a test, forked from one that has imported their libraries.

To import Celery, redis-py and the rest takes a second of a core, and the tests start more than a
thousand processes. So each process of tests has a fork server, the standard library's own, which
imports them once. Each fork has its own session, folder, environment and output, and runs a
module, code or a script as ``python`` would. Benchmarks, and tests of how a process begins, start
ordinary processes.
"""

import atexit
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from functools import cache
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any, Final, Protocol

LIBRARIES: Final = (
    "celery.apps.beat",
    "celery.apps.worker",
    "celery.backends.redis",
    "celery.bin.celery",
    "celery.concurrency.prefork",
    "celery.concurrency.thread",
    "celery.fixups.django",
    "celery.worker.components",
    "celery.worker.consumer",
    "flask",
    "flask_smorest",
    "kombu.transport.pyamqp",
    "kombu.transport.redis",
    "simulator.app",
    "simulator.scenarios",
    "simulator.serving",
    "worker.cli.commands",
    "worker.mends",
)
"""The imports of a test's processes. On import, none of them reads a setting or the folder."""


class Started(Protocol):
    """The methods that a forked process and one of ``subprocess.Popen`` share."""

    @property
    def pid(self) -> int: ...
    @property
    def returncode(self) -> Any: ...
    def poll(self) -> int | None: ...
    def wait(self, timeout: float | None = None) -> int: ...
    def send_signal(self, number: int, /) -> None: ...
    def terminate(self) -> None: ...
    def kill(self) -> None: ...


class Process:
    """A process with the methods of ``subprocess.Popen``; its output goes to files."""

    def __init__(
        self,
        *arguments: str,
        environment: Mapping[str, str],
        folder: Path,
        stdin: Path = Path(os.devnull),
        stdout: Path,
        stderr: Path,
    ) -> None:
        streams = (stdin, stdout, stderr)
        self.args = arguments
        self._output = (stdout, stderr)
        for path in self._output:
            path.touch()
        self._process = server().Process(
            target=_become, args=(arguments, dict(environment), folder, streams), daemon=True
        )
        self._process.start()

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0)
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.returncode is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Wait until it has ended; returns its whole output."""
        self.wait(timeout)
        out, err = (path.read_text() for path in self._output)
        return out, err


def start(
    *arguments: str, environment: Mapping[str, str], folder: Path, given: str = ""
) -> Process:
    """Start a process whose output is read after it has ended."""
    streams = Path(tempfile.mkdtemp(prefix="process-", dir=folder.parent))
    stdin, stdout, stderr = (streams / name for name in ("stdin", "stdout", "stderr"))
    stdin.write_text(given)
    return Process(
        *arguments, environment=environment, folder=folder,
        stdin=stdin, stdout=stdout, stderr=stderr,
    )  # fmt: skip


def run(
    *arguments: str,
    environment: Mapping[str, str],
    folder: Path,
    given: str = "",
    seconds: float = 60,
) -> "subprocess.CompletedProcess[str]":
    """Run a process to its end, and return its output; it is killed if it takes longer."""
    process = start(*arguments, environment=environment, folder=folder, given=given)
    try:
        out, err = process.communicate(seconds)
    except BaseException:
        process.kill()
        raise
    return subprocess.CompletedProcess(arguments, process.wait(), out, err)


@cache
def server() -> ForkServerContext:
    """Start all processes by this fork server, also those of ``multiprocessing``'s executors."""
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload(list(LIBRARIES))
    return server


def _become(
    arguments: tuple[str, ...],
    environment: dict[str, str],
    folder: Path,
    streams: tuple[Path, Path, Path],
) -> None:
    os.setsid()
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    time.tzset()
    for number, path in enumerate(streams):
        flags = os.O_APPEND | os.O_WRONLY if number else os.O_RDONLY
        os.dup2(os.open(path, flags), number)
    sys.stdin = open(0, closefd=False)  # noqa: SIM115
    kind, *rest = arguments
    what = rest.pop(0) if kind in {"-m", "-c"} else kind
    sys.argv = [kind, *rest]
    installed = [path for path in sys.path if path.startswith((sys.prefix, sys.base_prefix))]
    given = filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))
    beside = Path(what).parent if what == kind else folder
    sys.path[:] = [str(beside), *given, *installed]
    try:
        if kind == "-m":
            runpy.run_module(what, run_name="__main__", alter_sys=True)
        elif kind == "-c":
            exec(what, {"__name__": "__main__"})
        else:
            runpy.run_path(what, run_name="__main__")
    finally:
        atexit._run_exitfuncs()
