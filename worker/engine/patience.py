"""How long a leg insists on writing what only it knows, while Redis is away."""

import time
from collections.abc import Callable
from typing import Final, TypeVar

import structlog

from worker.core.ports import Clock
from worker.core.wording import told

log = structlog.get_logger()

PAUSE_SECONDS: Final = 1.0

_T = TypeVar("_T")


def insist(
    write: Callable[[], _T],
    *,
    unavailable: type[Exception],
    seconds: float,
    clock: Clock,
    pause: Callable[[float], None] = time.sleep,
) -> _T:
    """Write something that is safe to write twice, as soon as Redis is there again.

    Args:
        unavailable: what ``write`` raises while Redis is away.

    Raises that error if it takes too long: the leg will be taken for dead.
    """
    until = clock() + seconds
    while True:
        try:
            return write()
        except unavailable as error:
            if clock() > until:
                raise
            log.warning("outcome_unwritten", error=told(error))
            pause(PAUSE_SECONDS)
