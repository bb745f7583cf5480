"""The columns of the table of operations. A new operation needs a row, and nothing else."""

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
    """The job parks and is polled: the provider takes no webhook for it."""
    DIRECT = "direct"
    """The answer of the request is the result, at once or after asking again."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One thing the provider can do. Durations are in seconds."""

    name: str
    path: str
    schema: type[RequestSchema]
    summary: str
    """An imperative line for people: what the operation does, and what they should know."""
    method: str = "POST"
    fixed: Mapping[str, Any] = field(default_factory=dict)
    """Fields that the request carries besides its parameters."""
    clip_field: str | None = None
    """The parameter that takes the clip, or the clips, of the source."""
    clips: int = 1
    """How many clips that is."""
    carries: Mapping[str, str] = field(default_factory=dict)
    """Parameters that are taken from the source's ``data``: name -> dotted path."""
    poll_path: str | None = None
    """The path that polls the provider task; None if the answer of the request is the result."""
    takes_webhook: bool = False
    callback_field: str = ""
    """The field that takes a URL instead of the webhook pair. No page says that the provider signs
    this callback, so the receiver refuses it, and polling settles the job."""
    expected_seconds: float = 0
    """When to poll first: when a webhook is late or, without webhooks, a result is likely."""
    again_seconds: float = 6
    """How long to wait after "not ready yet", if the answer of the request is the result."""
    deadline_seconds: float = 3600
    submit_seconds: float | None = None
    """How long the request itself may take, if that is unusually long (a queue of its own)."""
    credits: float = 0
    """List price of September 2026 (provider-api.md §7); resellers differ."""
    makes_clips: bool = True
    """A result without a clip is an error."""
    songs: int = 1
    """How many songs it makes. If a poll shows fewer, the task has not ended."""
    repeatable: bool = False
    """A second request costs nothing, so if the outcome is unknown, it is sent again."""
    asked_again: bool = False
    """It may answer "not ready yet", and the provider documents that asking again is free."""
    uncharged: frozenset[int] = frozenset()
    """HTTP statuses that mean, as documented: not accepted and not charged."""
    retired: str = ""
    """The operation to use instead, if the provider has retired this one."""

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
        """Whether its request names a URL of ours."""
        return self.takes_webhook or bool(self.callback_field)

    @property
    def makes_music(self) -> bool:
        # Others pass on the clip that they worked on.
        return self.makes_clips and not self.synchronous

    @property
    def slow(self) -> bool:
        return self.submit_seconds is not None

    @property
    def family(self) -> str:
        return self.name.partition(".")[0]
