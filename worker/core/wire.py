"""The nouns of the exchange with a provider, the same for every provider.

An adapter carries a :class:`Request` to the provider and brings an :class:`Answer` back. The
provider's own folder reads the answer into one of the outcomes here, and the engine acts on that.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, TypeVar

from worker.core.errors import FermataError, InvalidPayload, InvalidRequest, ProviderError
from worker.core.job.models import JSONObject, ProviderTaskId

_DEPTH_LIMIT: Final = 100
"""Far from the end of any stack, and far deeper than the provider's bodies."""


class NeverSent(FermataError):
    """Nothing of the request left this machine, so the provider certainly does not know it."""


class AnswerLost(FermataError):
    """The request may have reached the provider; its answer did not reach us."""


class Operation(Protocol):
    """What the engine must know of an operation. Durations are in seconds."""

    @property
    def name(self) -> str: ...
    @property
    def summary(self) -> str: ...
    @property
    def clip_field(self) -> str | None:
        """The parameter that takes the clip, or the clips, of the source."""

    @property
    def takes_webhook(self) -> bool: ...
    @property
    def called_back(self) -> bool:
        """Whether its request names a URL of ours."""

    @property
    def expected_seconds(self) -> float:
        """When to poll first: when a webhook is late or, without webhooks, a result is likely."""

    @property
    def deadline_seconds(self) -> float: ...
    @property
    def submit_seconds(self) -> float | None:
        """How long the request itself may take, if that is unusually long."""

    @property
    def slow(self) -> bool:
        """Whether it has a queue of its own, because its request takes unusually long."""

    @property
    def credits(self) -> float:
        """Its list price."""

    @property
    def makes_music(self) -> bool:
        """Its job brings something to hear."""

    @property
    def repeatable(self) -> bool:
        """A second request costs nothing, so if the outcome is unknown, it is sent again."""


_Row = TypeVar("_Row", bound=Operation)


@dataclass(frozen=True, slots=True)
class Webhook:
    """Where the provider calls back, and the secret it signs with."""

    url: str
    secret: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request to the provider; ``path`` is relative to the API's base URL."""

    method: str
    path: str
    body: JSONObject | None = field(default=None, repr=False)
    timeout_seconds: float | None = None
    """How long the answer may take, if that is not the usual time."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One HTTP answer of the provider."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Accepted:
    """The provider took the work."""

    provider_task_id: ProviderTaskId


@dataclass(frozen=True, slots=True)
class Completed:
    """The result of an operation that answers at once."""

    body: str


@dataclass(frozen=True, slots=True)
class Refused:
    """The provider refused the work for good."""

    error: ProviderError


@dataclass(frozen=True, slots=True)
class Postponed:
    """The provider certainly did not take the work, or is not ready: submit it again later."""

    reason: str
    retry_after: float | None = None
    backoff: bool = True
    """Wait longer each time; False if the provider just needs a little more time."""
    failed: bool = False
    """The provider could not be reached, or could not serve anybody."""


@dataclass(frozen=True, slots=True)
class Unknown:
    """The provider may or may not have taken the work."""

    reason: str


SubmitOutcome = Accepted | Completed | Refused | Postponed | Unknown


@dataclass(frozen=True, slots=True)
class Running:
    """The work is not finished; ``progress`` is for people."""

    progress: JSONObject | None = None
    usable: str | None = None
    """The body, if it holds a clip that succeeded: at the deadline, the job ends with it."""


@dataclass(frozen=True, slots=True)
class Finished:
    """The work has ended, well or badly: ``body`` is read into the job's result or error."""

    body: str


@dataclass(frozen=True, slots=True)
class Failed:
    """The work has failed, and only the HTTP status says so."""

    error: ProviderError


PollOutcome = Running | Finished | Failed | Postponed


@dataclass(frozen=True, slots=True)
class Delivery:
    """A webhook's content. ``final`` says whether it settles the job."""

    event: str
    """In the provider's own words; for people."""
    final: bool
    brings_work: bool
    """It brings the paid work, or a part of it; if False, it tells of progress or of a failure."""
    body: str
    provider_task_id: str | None
    progress: JSONObject
    """For people, while the job goes on; empty if this delivery settles the job."""

    @property
    def summary(self) -> str:
        """Say what it is, for people."""
        return f"{self.event}, {'the end of a job' if self.final else 'progress of a job'}"


def parse(body: bytes | str) -> JSONObject:
    """Parse a JSON object.

    Raises InvalidPayload on anything else: not UTF-8, nested too deep, NaN, not an object.
    """
    try:
        text = body.decode() if isinstance(body, bytes) else body
        value = _STRICT.decode(text)
    except (ValueError, RecursionError) as error:
        raise InvalidPayload(f"the body is not JSON: {type(error).__name__}") from None
    if _is_deeper(value, text):
        raise InvalidPayload(f"the body is nested deeper than {_DEPTH_LIMIT} levels")
    if not isinstance(value, dict):
        raise InvalidPayload(f"the body is a JSON {type(value).__name__}, not an object")
    return value


def _is_deeper(value: Any, text: str) -> bool:
    """Say whether a value is nested deeper than the limit.

    Without a limit of our own, the receiver might accept a body that is too deep for the worker.
    """
    # Most bodies have fewer brackets than the limit, and need no walk.
    if text.count("[") + text.count("{") <= _DEPTH_LIMIT:
        return False
    level = [value] if isinstance(value, dict | list) else []
    # Level by level: recursion would meet the very depth that this function looks for.
    for _ in range(_DEPTH_LIMIT):
        below = (each.values() if isinstance(each, dict) else each for each in level)
        level = [x for each in below for x in each if isinstance(x, dict | list)]
    return bool(level)


def _refuse_constant(name: str) -> None:
    raise ValueError(name)


_STRICT: Final = json.JSONDecoder(parse_constant=_refuse_constant)
"""Kept: ``json.loads`` would build a decoder for each body."""


def find(operations: Mapping[str, _Row], name: str) -> _Row:
    """Find an operation by name.

    Raises InvalidRequest, with the names there are.
    """
    try:
        return operations[name]
    except KeyError:
        known = ", ".join(sorted(operations))
        raise InvalidRequest(f"there is no operation {name!r}; there are: {known}") from None
