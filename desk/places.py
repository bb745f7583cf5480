"""The answers that take long: how many of them are open at once.

Each holds one of this process's threads for as long as its client takes, and a client may read as
slowly as it likes. So there are fewer places than threads, and no visitor gets all of them.
"""

import threading
from collections import Counter
from typing import Final

from flask import Response
from werkzeug.exceptions import ServiceUnavailable, TooManyRequests

from desk.doors import visitor

MOST_AT_ONCE: Final = 100
"""So many long answers are open in one process at most."""
MOST_OF_ONE: Final = 20
"""So many of them may be of one visitor."""


class _Places:
    """The long answers that are open, by visitor."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: Counter[str] = Counter()

    def take(self, name: str) -> None:
        with self._lock:
            if self._open[name] >= MOST_OF_ONE:
                raise TooManyRequests(
                    f"You have {MOST_OF_ONE} live streams and downloads open.", retry_after=10
                )
            if self._open.total() >= MOST_AT_ONCE:
                raise ServiceUnavailable(
                    "Too many live streams and downloads are open here.", retry_after=10
                )
            self._open[name] += 1

    def give_back(self, name: str) -> None:
        with self._lock:
            self._open[name] -= 1


_places: Final = _Places()


def hold(response: Response) -> Response:
    """Take a place for the visitor until an answer is closed.

    Raises ServiceUnavailable if all are taken, TooManyRequests if the visitor has enough; the
    answer is closed then.
    """
    name = visitor().name
    try:
        _places.take(name)
    except (ServiceUnavailable, TooManyRequests):
        response.close()
        raise
    response.call_on_close(lambda: _places.give_back(name))
    return response
