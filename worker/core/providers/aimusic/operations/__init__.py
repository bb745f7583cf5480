"""The one table of the provider's operations: everything else is derived from its rows."""

from typing import Final

from worker.core import wire
from worker.core.providers.aimusic.operations import (
    account,
    lyrics,
    nuro,
    producer,
    riffusion,
    sonic,
)
from worker.core.providers.aimusic.operations.row import Mode, Operation

OPERATIONS: Final[dict[str, Operation]] = {
    row.name: row
    for family in (sonic, lyrics, producer, account, riffusion, nuro)
    for row in family.ROWS
}

__all__ = ["OPERATIONS", "Mode", "Operation", "find"]


def find(name: str) -> Operation:
    """Find an operation by name.

    Raises InvalidRequest, with the names there are.
    """
    return wire.find(OPERATIONS, name)
