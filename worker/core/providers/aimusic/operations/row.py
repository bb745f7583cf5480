"""What the table of operations says of each: one row is all that a new operation needs."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from worker.core.providers.aimusic.fields import RequestSchema

SONIC_TASK: Final = "/sonic/task/"
PRODUCER_TASK: Final = "/producer/task/"
RIFFUSION_TASK: Final = "/riffusion/task/"
NURO_TASK: Final = "/nuro/task/"


class Mode(StrEnum):
    """How an operation's result comes."""

    WEBHOOK = "webhook"
    """The job parks until the webhook; a poll stands in for one that is late."""
    POLLED = "polled"
    """The job parks, and the provider, which takes no webhook here, is polled."""
    DIRECT = "direct"
    """The answer of the request is the result, at once or after asking again."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One thing the provider can do. Durations are in seconds."""

    name: str
    path: str
    schema: type[RequestSchema]
    summary: str
    """An imperative line: what it does, and what is worth knowing."""
    method: str = "POST"
    fixed: Mapping[str, Any] = field(default_factory=dict)
    """What the request carries besides its parameters."""
    clip_field: str | None = None
    """The parameter that takes the clip, or the clips, of the source."""
    clips: int = 1
    """How many clips that is."""
    carries: Mapping[str, str] = field(default_factory=dict)
    """Parameters that are filled from the source's ``data``: name -> dotted path."""
    poll_path: str | None = None
    """Where the provider task is polled; None: the answer of the request is the result."""
    takes_webhook: bool = False
    callback_field: str = ""
    """Where an address goes instead of the webhook pair. What comes back there is not known to be
    signed, so it is refused like any stranger's, and polling settles the job."""
    expected_seconds: float = 0
    """When a webhook is late enough to ask; or, without webhooks, when asking first pays."""
    again_seconds: float = 6
    """How long to wait after "not ready yet", where the answer of the request is the result."""
    deadline_seconds: float = 3600
    submit_seconds: float | None = None
    """How long the request itself may take, where that is unusually long (a queue of its own)."""
    credits: float = 0
    """List price of September 2026 (provider-api.md §7); resellers differ."""
    makes_clips: bool = True
    """A result without a clip is an error."""
    songs: int = 1
    """A poll that shows fewer has not ended."""
    repeatable: bool = False
    """Asking again costs nothing, so an unknown outcome is simply asked again."""
    asked_again: bool = False
    """"Not ready yet" is an answer of it, and asking again is documented not to be charged."""
    uncharged: frozenset[int] = frozenset()
    """HTTP statuses that are documented to mean: not accepted, not charged."""
    retired: str = ""
    """The operation to use instead, where the provider has retired this one."""

    @property
    def mode(self) -> Mode:
        if self.poll_path is None:
            return Mode.DIRECT
        return Mode.WEBHOOK if self.takes_webhook else Mode.POLLED

    @property
    def synchronous(self) -> bool:
        return self.mode is Mode.DIRECT

    @property
    def called_back(self) -> bool:
        """Whether its request names an address of ours."""
        return self.takes_webhook or bool(self.callback_field)

    @property
    def slow(self) -> bool:
        return self.submit_seconds is not None

    @property
    def family(self) -> str:
        return self.name.partition(".")[0]
