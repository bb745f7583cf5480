"""The one table of the provider's operations: everything else is derived from its rows."""

from typing import Final

from worker.core.contract import TASK_PREFIX
from worker.core.errors import InvalidRequest
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

__all__ = ["OPERATIONS", "Mode", "Operation", "find", "operation_of"]


def find(name: str) -> Operation:
    """Find an operation by name.

    Raises InvalidRequest, with the names there are.
    """
    try:
        return OPERATIONS[name]
    except KeyError:
        known = ", ".join(sorted(OPERATIONS))
        raise InvalidRequest(f"there is no operation {name!r}; there are: {known}") from None


def operation_of(task: str) -> Operation | None:
    """Return the row of an operation by the name of its task; None if it is another task."""
    return OPERATIONS.get(task.removeprefix(TASK_PREFIX)) if task.startswith(TASK_PREFIX) else None
