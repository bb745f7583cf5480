"""How long a leg insists on a write to Redis while Redis is away.

After the provider has answered, the leg alone knows the answer. If the leg gave up at the first
error, a sweep would have to guess, and a song might be paid for twice. So the engine's submit and
settle make their writes through ``insist``.
"""

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
    """Repeat a write until Redis takes it. The write must be safe to make twice.

    Args:
        unavailable: what ``write`` raises while Redis is away.

    Raises that error after ``seconds``. A sweep, or another conductor, then takes the job over.
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
