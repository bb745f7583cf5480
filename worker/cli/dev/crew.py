"""The processes of ``fermata dev``, and how they end.

``fermata dev`` is their parent. It starts a keeper (keeper.py beside this file) before all
others, and each of them into the keeper's process group:

- *Ctrl-C, Ctrl-Z and a closed terminal* signal the terminal's own group, in which ``fermata dev``
  is alone. It alone decides what a signal means; the other processes never get it.
- *There is one way to end*: the pipe to the keeper closes. ``fermata dev`` closes it on a signal,
  when a process has died, when nobody reads its output any more, and on an error; the system
  closes it if ``fermata dev`` is killed. The keeper then ends all processes, within its grace.
- *A process that ignores SIGTERM* is killed with the group after the grace, and so are children
  whose parent died. A second Ctrl-C kills the group at once.
- *Output* goes to one file for each process, never through ``fermata dev``: no process waits for
  the terminal or for ``fermata dev``, or dies with them.
- *The lock* of the data folder is inherited by all of them. It is free when the last has ended,
  and not before, even if the keeper was killed too: two servers never write to one folder.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, Final

from worker.cli.dev import keeper

END_SECONDS: Final = 2 * keeper.GRACE_SECONDS + 3
"""The longest that all may take to end: the two stages of the keeper, and its own end."""

_LOOK_EVERY_SECONDS: Final = 0.05

Handler = Callable[[int, FrameType | None], Any]


def hear(handler: Handler) -> None:
    """Handle the signals that end it. One that is ignored, as SIGHUP is by nohup, stays ignored."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, handler)


def hear_again(handler: Handler) -> None:
    """Handle a second signal. SIGHUP does not count: shell and system each send one."""
    hear(handler)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


class Crew:
    """Processes in one group, with a keeper.

    Args:
        logs: the folder in which each process has a file for its output.
        told: a file that is removed when all processes have ended.
        lock: the descriptor of a locked file, which all processes inherit.
    """

    def __init__(self, *, logs: Path, told: Path, lock: int) -> None:
        self._logs = logs
        self._told = told
        self._lock = lock
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        logs.mkdir(mode=0o700, exist_ok=True)
        # Python's pipes are not inherited: no process that we start holds the writing end open.
        reading, self._pipe = os.pipe()
        self._keeper = subprocess.Popen(
            [sys.executable, "-I", "-S", keeper.__file__, str(told)],
            stdin=reading,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            process_group=0,
            pass_fds=(lock,),
        )
        os.close(reading)

    @property
    def group(self) -> int:
        """The process group, named after the keeper."""
        return self._keeper.pid

    def log(self, name: str) -> Path:
        """Name the file with the output of a process; that of the run before ends in ``.1``."""
        return self._logs / f"{name}.log"

    def start(
        self,
        name: str,
        command: Sequence[str],
        *,
        environment: Mapping[str, str] | None = None,
        descriptors: Sequence[int] = (),
        stage: int = 1,
    ) -> "subprocess.Popen[bytes]":
        """Start a process. Those of a later stage end after all of the stages before."""
        log = self.log(name)
        if log.exists():
            log.replace(log.with_suffix(".log.1"))
        with log.open("ab") as said:
            process = subprocess.Popen(
                command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=subprocess.STDOUT,
                process_group=self.group,
                pass_fds=(self._lock, *descriptors),
            )
        self._processes[name] = process
        self._tell_keeper(f"{stage} {process.pid}\n")
        return process

    def _tell_keeper(self, line: str) -> None:
        # If the keeper has ended, ``fallen`` finds that, as for any other process.
        with contextlib.suppress(BrokenPipeError):
            os.write(self._pipe, line.encode())

    def fallen(self) -> tuple[str, int] | None:
        """Return a process that has ended, and its exit code; None while all run."""
        everybody = {**self._processes, "keeper": self._keeper}
        codes = {name: process.poll() for name, process in everybody.items()}
        return next(((name, code) for name, code in codes.items() if code is not None), None)

    def end(self) -> None:
        """End all, and wait until they have."""
        with contextlib.suppress(OSError):
            os.close(self._pipe)
        give_up = time.monotonic() + END_SECONDS
        while self._keeper.poll() is None and time.monotonic() < give_up:
            self.fallen()  # reaps the processes that ended: the keeper would wait for a zombie
            time.sleep(_LOOK_EVERY_SECONDS)
        if any(process.poll() is None for process in self._processes.values()):
            self.kill()
        for process in self._processes.values():
            process.wait()
        self._told.unlink(missing_ok=True)

    def kill(self) -> None:
        """Kill all at once, the keeper too."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.group, signal.SIGKILL)
