"""What ``fermata dev`` shows: a few lines for a person, out of all that the processes say.

Its reader may be slow (Ctrl-S, a pager), full (a disk) or gone (``| head``, a closed terminal).
So a thread writes, from a queue that may overflow, and nobody waits for it.
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
_UUID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_SIMULATOR: Final = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} ")


class Screen:
    """An output for lines that matter less than the system that they are about.

    Args:
        stream: standard output; None if it was closed before we began.
    """

    def __init__(self, stream: TextIO | None) -> None:
        self._descriptor = stream.fileno() if stream else -1
        self.is_terminal = stream is not None and stream.isatty()  # a closed one is none any more
        self._encoding = stream.encoding if stream else "utf-8"
        self._lines: queue.Queue[str | None] = queue.Queue(_MOST_LINES)
        self._gone = False
        self._writer = threading.Thread(target=self._write_all, daemon=True)
        self._writer.start()

    @property
    def gone(self) -> bool:
        """Say whether nobody will ever read what is written."""
        if self._descriptor < 0:
            return False
        poll = select.poll()
        poll.register(self._descriptor, 0)
        hung_up = any(what & (select.POLLERR | select.POLLHUP) for _, what in poll.poll(0))
        return self._gone or hung_up

    def tell(self, line: str) -> None:
        """Show a line, if its reader keeps up."""
        with contextlib.suppress(queue.Full):
            self._lines.put_nowait(f"{line}\n")

    def close(self, seconds: float) -> None:
        """Let what was told be written, but not for longer than this."""
        with contextlib.suppress(queue.Full):
            self._lines.put_nowait(None)
        self._writer.join(seconds)

    def _write_all(self) -> None:
        while (line := self._lines.get()) is not None and self._descriptor >= 0:
            try:
                self._write(line.encode(self._encoding, "replace"))
            except OSError as error:
                # A disk that is full takes the next line, perhaps.
                self._gone = self._gone or error.errno in _GONE

    def _write(self, data: bytes) -> None:
        while data:
            data = data[os.write(self._descriptor, data) :]


class Log:
    """What one process says, read from its file while it grows."""

    def __init__(self, name: str, path: Path) -> None:
        self.name = name
        self.path = path
        self._read = 0

    def lines(self) -> Iterator[str]:
        """Yield the whole lines that are new."""
        with self.path.open("rb") as file:
            file.seek(self._read)
            for line in file:
                if not line.endswith(b"\n"):
                    return
                self._read += len(line)
                yield line.decode(errors="replace").rstrip()

    def cause(self) -> str:
        """Return why the process ended, as far as it said so: its last grave line, or its last."""
        said = self.path.read_text("utf-8", "replace")
        lines = [line.strip() for line in said.splitlines() if line.strip()]
        grave = [m[3] for m in map(_LINE.match, lines) if m and m[2] in {"critical", "error"}]
        return next(reversed(grave or lines), "")


def summary(name: str, line: str, *, started: bool) -> str:
    """Return what to show of a line that a process said; nothing for most.

    Args:
        started: the system is up, so that a line of no known form is news. Before, it is a banner.
    """
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
