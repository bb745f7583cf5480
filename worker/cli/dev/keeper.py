"""The keeper ends the processes of ``fermata dev``, however ``fermata dev`` itself ends.

``fermata dev`` starts it first, as ``python keeper.py FILE``, and all other processes into its
process group. It writes a line for each of them to the keeper's standard input: a stage and a
process id. ``fermata dev`` alone holds the writing end of that pipe. So the pipe closes when
``fermata dev`` closes it, and also when it dies, even by SIGKILL. Then the keeper

1. terminates the processes of the first stage, and gives them ``GRACE_SECONDS`` to end;
2. does the same with the next stage: Valkey outlives the processes that work with it;
3. removes FILE, by which other commands would look for a system that has ended;
4. kills its whole group: the rest of it, children of children, and itself.

It imports nothing of ours, so that it is small and starts fast.
"""

import contextlib
import os
import signal
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final

GRACE_SECONDS: Final = 6
"""How long the processes of one stage may take to end."""

_LOOK_EVERY_SECONDS: Final = 0.05


def main() -> None:
    """Wait until the pipe closes, then end all processes."""
    if os.getpgrp() != os.getpid():
        sys.exit("the keeper kills its group in the end: fermata dev starts it in one of its own")
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    # This ends when the last writing end of the pipe is closed, and that is the word to begin.
    told = [line.split() for line in sys.stdin]
    try:
        for stage in sorted({stage for stage, _ in told}):
            _end([int(pid) for each, pid in told if each == stage])
        Path(sys.argv[1]).unlink(missing_ok=True)
    finally:
        os.killpg(0, signal.SIGKILL)


def _end(pids: Iterable[int]) -> None:
    left = [pid for pid in pids if _is_ours(pid)]
    for pid in left:
        with contextlib.suppress(OSError):  # it has ended meanwhile
            os.kill(pid, signal.SIGTERM)
    give_up = time.monotonic() + GRACE_SECONDS
    while any(map(_is_ours, left)) and time.monotonic() < give_up:
        time.sleep(_LOOK_EVERY_SECONDS)


def _is_ours(pid: int) -> bool:
    """Say whether a process is there, and in our group: its id may belong to a stranger by now."""
    try:
        return os.getpgid(pid) == os.getpgrp()
    except OSError:  # it has ended; or, on a BSD, it is of another session
        return False


if __name__ == "__main__":
    main()
