"""The screen of ``fermata dev``: a few lines for a person, out of the logs of all processes.

The reader of the output may be slow (Ctrl-S, a pager), full (a disk) or gone (``| head``, a closed
terminal). So a thread writes, from a queue that may overflow, and nobody waits for it.
"""

import contextlib
import errno
import os
import queue
import re
import select
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Final, TextIO

_MOST_LINES: Final = 10_000
_GONE: Final = frozenset({errno.EPIPE, errno.EIO})

# A log line as worker/log.py writes it to a file: time, level, event, and its fields.
_LINE: Final = re.compile(r"\S+T(\d\d:\d\d:\d\d)\S* \[(\w+) *\] (.*)")
_EVENT: Final = re.compile(r"([a-z]+(?:_[a-z]+)+) +(\w+=.*)")
_FIELD: Final = re.compile(r"(\w+)=('[^']*'|\"[^\"]*\"|\S*)")
_LINK: Final = re.compile(r"desk_open_on_this_machine +url='?([^\s']+)")
_UUID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_SIMULATOR: Final = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} ")


class Screen:
    """An output that may lose lines, but never holds up the system.

    Args:
        stream: standard output; None if it was closed before we began.
    """

    def __init__(self, stream: TextIO | None) -> None:
        self._descriptor = stream.fileno() if stream else -1
        self.is_terminal = stream is not None and stream.isatty()  # kept: a closed terminal says no
        self._encoding = stream.encoding if stream else "utf-8"
        self._lines: queue.Queue[str | None] = queue.Queue(_MOST_LINES)
        self._gone = False
        self._writer = threading.Thread(target=self._write_all, daemon=True)
        self._writer.start()

    @property
    def gone(self) -> bool:
        """Say whether the reader of the output has gone for good."""
        if self._descriptor < 0:
            return False
        poll = select.poll()
        poll.register(self._descriptor, 0)  # poll reports errors and hang-ups without being asked
        hung_up = any(what & (select.POLLERR | select.POLLHUP) for _, what in poll.poll(0))
        return self._gone or hung_up

    def tell(self, line: str) -> None:
        """Show a line, unless the reader is so slow that the queue is full."""
        with contextlib.suppress(queue.Full):
            self._lines.put_nowait(f"{line}\n")

    def show(self, name: str, place: str) -> None:
        """Show one part of the system, and where it is."""
        self.tell(f"  {name:9}  {place}")

    def close(self, seconds: float) -> None:
        """Wait until the queue is written, for these seconds at most."""
        with contextlib.suppress(queue.Full):
            self._lines.put_nowait(None)
        self._writer.join(seconds)

    def _write_all(self) -> None:
        while (line := self._lines.get()) is not None and self._descriptor >= 0:
            try:
                self._write(line.encode(self._encoding, "replace"))
            except OSError as error:
                # Other errors, as of a full disk, may have passed by the next line.
                self._gone = self._gone or error.errno in _GONE

    def _write(self, data: bytes) -> None:
        while data:
            data = data[os.write(self._descriptor, data) :]


def shown(path: Path) -> str:
    """Write a path relative to this folder, if it is in it."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


class Log:
    """The output of one process, read from its file while the file grows."""

    def __init__(self, name: str, path: Path) -> None:
        self.name = name
        self.path = path
        self._read = 0

    def lines(self) -> Iterator[str]:
        """Yield the new lines that are complete."""
        with self.path.open("rb") as file:
            file.seek(self._read)
            for line in file:
                if not line.endswith(b"\n"):
                    return
                self._read += len(line)
                yield line.decode(errors="replace").rstrip()

    def cause(self) -> str:
        """Return why the process ended, by its log: the last error in it, or its last line."""
        said = self.path.read_text("utf-8", "replace")
        lines = [line.strip() for line in said.splitlines() if line.strip()]
        grave = [m[3] for m in map(_LINE.match, lines) if m and m[2] in {"critical", "error"}]
        return next(reversed(grave or lines), "")


def link_of_the_desk(line: str) -> str:
    """Return the link in a line by which the desk says how to enter it; '' for other lines."""
    found = _LINK.search(line)
    return found[1] if found else ""


def summary(name: str, line: str, *, started: bool) -> str:
    """Return the text to show for a line of a process; '' for most.

    Args:
        started: the system is up, so a line of no known form is news. Before, it is a banner.
    """
    if link_of_the_desk(line):  # shown once, when all is ready
        return ""
    if match := _LINE.match(line):
        level, said = match[2], match[3]
        if level not in {"info", "debug"}:
            return f"{name}: {level}: {said}"
        event = _EVENT.fullmatch(said)
        return _event(event[1], dict(_FIELD.findall(event[2]))) if event else ""
    if not started or not line or _SIMULATOR.match(line):
        return ""
    return f"{name}: {line}"


def _event(event: str, fields: dict[str, str]) -> str:
    """Word an event of a job in some 80 columns: a UUID is cut, as Git cuts its ids."""
    job = fields.pop("job_id", "")
    job = job[:8] if _UUID.fullmatch(job) else job
    fields.pop("provider_task_id", None)
    told = (f"{name}={value}" for name, value in fields.items() if value not in {"", "None"})
    return " ".join([job or "-" * 8, event, *told])
