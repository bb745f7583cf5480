"""The provider's own limits: how many submits in a second, how many tasks under way."""

from __future__ import annotations

import heapq
import math
import threading

from .replies import Refused


class Pace:
    """A token bucket that holds a second's worth."""

    def __init__(self, per_second: float | None) -> None:
        self._per_second = per_second
        self._tokens = self._most = max(per_second or 0, 1.0)
        self._filled_at = 0.0
        self._lock = threading.Lock()

    def take(self, now: float) -> None:
        """Let one request pass. Raises `Refused` (429)."""
        if self._per_second is None:
            return
        with self._lock:
            since = max(0.0, now - self._filled_at)
            self._tokens = min(self._most, self._tokens + since * self._per_second)
            self._filled_at = now
            if self._tokens < 1:
                raise _too_many((1 - self._tokens) / self._per_second)
            self._tokens -= 1


class Flight:
    """The tasks under way, and the most at once. `Books` calls it under its own lock."""

    def __init__(self, most: int | None) -> None:
        self._most = most
        self._ends: list[float] = []
        self.peak = 0

    def require_room(self, now: float) -> None:
        """Raise `Refused` (429) if one more task would be too many."""
        while self._ends and self._ends[0] <= now:
            heapq.heappop(self._ends)
        if self._most is not None and len(self._ends) >= self._most:
            raise _too_many(self._ends[0] - now)

    def take_off(self, done_at: float) -> None:
        heapq.heappush(self._ends, done_at)
        self.peak = max(self.peak, len(self._ends))


def _too_many(seconds: float) -> Refused:
    return Refused(429, "Too many requests.", {"Retry-After": str(max(1, math.ceil(seconds)))})
