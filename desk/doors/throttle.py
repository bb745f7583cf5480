"""Slows down whoever guesses at the login form: wrong tokens alone count, and wait.

A token is a long secret, so the throttle need not keep a right one out: it spares the log, and says
what happens.
"""

from collections import deque
from collections.abc import Callable
from threading import Lock
from typing import Final

WINDOW_SECONDS: Final = 60
EACH: Final = 5
"""So many failed logins may come from one address within the window."""
OVERALL: Final = 50
"""So many may come from all addresses together."""


class Throttle:
    """Counts failed logins, in memory.

    Args:
        clock: returns seconds that never go back.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = Lock()
        self._failures: deque[tuple[float, str]] = deque(maxlen=OVERALL)

    def wait_seconds(self, address: str) -> float:
        """Return how long an address has to wait before its next try; 0 if it may try now."""
        with self._lock:
            now = self._clock()
            recent = [each for each in self._failures if each[0] > now - WINDOW_SECONDS]
            own = [at for at, by in recent if by == address]
            if len(recent) >= OVERALL:
                return recent[0][0] + WINDOW_SECONDS - now
            return own[-EACH] + WINDOW_SECONDS - now if len(own) >= EACH else 0

    def note_failure(self, address: str) -> None:
        """Note that a login from an address has failed."""
        with self._lock:
            self._failures.append((self._clock(), address))
