"""The one table of the provider's operations: everything else is derived from its rows."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from worker.core import schemas
from worker.core.errors import InvalidRequest

SONIC_TASK: Final = "/sonic/task/"


@dataclass(frozen=True, slots=True)
class Operation:
    """One thing the provider can do. Durations are in seconds."""

    name: str
    path: str
    schema: type[schemas.RequestSchema]
    method: str = "POST"
    fixed: Mapping[str, Any] = field(default_factory=dict)
    """What the request carries besides its parameters."""
    clip_field: str | None = None
    """The parameter that takes the source clip."""
    poll_path: str | None = None
    """Where the provider task is polled; None: the answer of the request is the result."""
    takes_webhook: bool = False
    expected_seconds: float = 0
    """When a webhook is late enough to ask; or, without webhooks, when asking first pays."""
    deadline_seconds: float = 3600
    credits: int = 0
    """List price of September 2026 (provider-api.md §7); resellers differ."""
    repeatable: bool = False
    """The request changes and costs nothing, so an unknown outcome is simply asked again."""

    @property
    def synchronous(self) -> bool:
        return self.poll_path is None


_TABLE = (
    Operation(
        name="sonic.create_music",
        path="/sonic/create",
        schema=schemas.CreateMusic,
        fixed={"task_type": "create_music"},
        poll_path=SONIC_TASK,
        takes_webhook=True,
        expected_seconds=150,
        credits=14,
    ),
    Operation(
        name="sonic.remaster",
        path="/sonic/create",
        schema=schemas.Remaster,
        fixed={"task_type": "remaster"},
        clip_field="continue_clip_id",
        poll_path=SONIC_TASK,
        takes_webhook=True,
        expected_seconds=150,
        credits=10,
    ),
    Operation(
        name="sonic.stems_basic",
        path="/sonic/stems/basic",
        schema=schemas.ClipRequest,
        clip_field="clip_id",
        poll_path=SONIC_TASK,
        expected_seconds=20,
        credits=20,
    ),
    Operation(
        name="sonic.stems_full",
        path="/sonic/stems/full",
        schema=schemas.ClipRequest,
        clip_field="clip_id",
        poll_path=SONIC_TASK,
        expected_seconds=20,
        credits=50,
    ),
    Operation(
        name="sonic.wav",
        path="/sonic/wav",
        schema=schemas.ClipRequest,
        clip_field="clip_id",
        credits=1,
        deadline_seconds=900,
    ),
    Operation(
        name="sonic.midi",
        path="/sonic/midi",
        schema=schemas.ClipRequest,
        clip_field="clip_id",
        credits=1,
        deadline_seconds=900,
    ),
    Operation(
        name="account.credits",
        method="GET",
        path="/get-credits",
        schema=schemas.NoParameters,
        repeatable=True,
        deadline_seconds=300,
    ),
)

OPERATIONS: Final[Mapping[str, Operation]] = {row.name: row for row in _TABLE}


def find(name: str) -> Operation:
    """Find an operation by name.

    Raises InvalidRequest, with the names there are.
    """
    try:
        return OPERATIONS[name]
    except KeyError:
        known = ", ".join(sorted(OPERATIONS))
        raise InvalidRequest(f"there is no operation {name!r}; there are: {known}") from None
