"""How the provider behaves towards one request: the fields, and the rules that choose them."""

from __future__ import annotations

import dataclasses
import math
import textwrap
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, get_type_hints


class Webhook(StrEnum):
    """How the webhooks of one task are sent."""

    NORMAL = "normal"
    EARLY = "early"  # before the submit is answered
    DUPLICATE = "duplicate"  # `copies` times at once, under one delivery id
    LATE = "late"  # `late_seconds` after a poll already says so
    LOST = "lost"
    FORGED = "forged"  # a wrong signature, once, then nothing
    MALFORMED = "malformed"  # well signed, but not JSON; once, then nothing
    NONSENSE = "nonsense"  # well signed JSON, but no envelope; once, then nothing
    REORDERED = "reordered"  # song.streaming after song.completed


class Outcome(StrEnum):
    """How the work ends."""

    SUCCEED = "succeed"
    FAIL = "fail"  # and the credits come back
    PARTIAL = "partial"  # the last clip failed


class Submit(StrEnum):
    """How the submit call is answered. The first five accept, and charge for, the task."""

    OK = "ok"
    DROP = "drop"  # the connection closes without an answer
    SLOW = "slow"  # the answer takes `submit_delay_seconds`
    ERROR_500 = "error_500"
    UNREADABLE = "unreadable"  # 200 with an HTML body
    RATE_LIMITED = "rate_limited"
    KEY_REFUSED_401 = "key_refused_401"
    NO_CREDITS_402 = "no_credits_402"
    NO_CREDITS_403 = "no_credits_403"
    NO_SUBSCRIPTION_403 = "no_subscription_403"
    MODERATION_403 = "moderation_403"
    UNREACHABLE_AUDIO_400 = "unreachable_audio_400"
    COPYRIGHT_400 = "copyright_400"
    RETIRED_410 = "retired_410"
    UPSTREAM_502 = "upstream_502"
    TIMEOUT_504 = "timeout_504"


class FailureForm(StrEnum):
    """How a poll reports a failed task (`provider-api-2.md` §4 and §9.2: all three are seen)."""

    TYPED = "typed"  # 200 with `type` and neither `code` nor `data`
    GATEWAY_TIMEOUT = "gateway_timeout"  # 504 that speaks of a refund
    CLIPS = "clips"  # 200 with every clip `failed`


class FailureType(StrEnum):
    """The `type` of a failed task (`provider-api-2.md` §4)."""

    FAILED = "failed"
    TIMEOUT = "timeout"
    FORBIDDEN = "forbidden"
    API_ERROR = "api_error"


class FailedStep(StrEnum):
    """Which step of a submit that uploads first breaks (`provider-api-2.md` §3.2)."""

    NONE = "none"
    UPLOAD = "upload"  # nothing is charged
    NEXT = "next"  # the upload is charged


class ErrorShape(StrEnum):
    """The body of an error (`provider-api.md` §6, `provider-api-2.md` §6)."""

    AS_SET = "as_set"  # as the setting says
    MESSAGE = "message"
    TYPED = "typed"
    BRIEF = "brief"
    RETRIABLE = "retriable"
    TEXT_CODE = "text_code"  # `code` as a string
    HTML = "html"
    EMPTY = "empty"


@dataclass(frozen=True, slots=True)
class Scenario:
    """The provider's behaviour towards one request. Times are in seconds."""

    latency_seconds: float = 2.0
    streaming: int = 0  # song.streaming events before the end
    webhook: Webhook = Webhook.NORMAL
    copies: int = 2
    late_seconds: float = 5.0
    outcome: Outcome = Outcome.SUCCEED
    failure_form: FailureForm = FailureForm.TYPED
    failure_type: FailureType = FailureType.FAILED
    error_shape: ErrorShape = ErrorShape.AS_SET
    poll_errors: int = 0  # polls that answer 500 before the first that tells
    upload_seconds: float = 0.0  # how long a submit takes that uploads first
    failed_step: FailedStep = FailedStep.NONE
    submit: Submit = Submit.OK
    submit_delay_seconds: float = 5.0
    retry_after_seconds: int = 0  # 0 sends no Retry-After
    not_ready_times: int = 0  # 202 answers before MIDI, alignment or a download is ready


FIELD_TYPES: Mapping[str, type] = get_type_hints(Scenario)


def describe_fields(width: int) -> str:
    """List the fields, an entry each: what a value may be, and what it is by default."""
    entries = (
        f"  {each.name}: {_values(FIELD_TYPES[each.name])} (default {each.default})"
        for each in dataclasses.fields(Scenario)
    )
    return "\n".join(textwrap.fill(each, width, subsequent_indent=" " * 6) for each in entries)


def _values(kind: type) -> str:
    return ", ".join(kind) if issubclass(kind, StrEnum) else "a number"


class BadScenario(ValueError):
    """A scenario that cannot be used; the message names every bad field."""


def vary(base: Scenario, fields: Mapping[str, object]) -> Scenario:
    """Replace some fields of `base`. Values may be text, as on a command line.

    Raises `BadScenario`.
    """
    values: dict[str, Any] = {}
    problems = []
    for name, value in fields.items():
        try:
            values[name] = _convert(name, value)
        except (ValueError, TypeError, OverflowError) as error:
            problems.append(f"{name}: {error}")
    if problems:
        raise BadScenario("; ".join(problems))
    return dataclasses.replace(base, **values)


def _convert(name: str, value: object) -> object:
    kind = FIELD_TYPES.get(name)
    if kind is None:
        raise ValueError(f"no such field (there are {', '.join(FIELD_TYPES)})")
    if issubclass(kind, StrEnum):
        return _choice(kind, value)
    return _quantity(kind, value)


def _choice(kind: type[StrEnum], value: object) -> StrEnum:
    try:
        return kind(str(value))
    except ValueError:
        raise ValueError(f"{value!r} is not one of {', '.join(kind)}") from None


def _quantity(kind: type, value: object) -> float:
    expected = "a whole number" if kind is int else "a number"
    if isinstance(value, bool):
        raise ValueError(f"{expected} is expected")
    try:
        number = float(value)  # type: ignore[arg-type]
    except (ValueError, TypeError):
        raise ValueError(f"{expected} is expected") from None
    if not math.isfinite(number) or number < 0 or kind(number) != number:
        raise ValueError(f"{expected}, zero or more, is expected")
    return kind(number)  # type: ignore[no-any-return]


@dataclass(slots=True)
class Rule:
    """Give `scenario` to the next `times` requests whose body holds `match`; None is for ever."""

    match: str
    scenario: Scenario
    times: int | None = None


class Rulebook:
    """The rules in force, in the order they came; the first that matches decides."""

    def __init__(self, default: Scenario) -> None:
        self.default = default
        self._rules: list[Rule] = []
        self._lock = threading.Lock()

    def add(self, rule: Rule) -> None:
        with self._lock:
            self._rules.append(rule)

    def clear(self) -> None:
        with self._lock:
            self._rules.clear()

    def choose(self, body: str) -> Scenario:
        """Find the scenario for a raw request body, and use up one turn of its rule."""
        with self._lock:
            rule = next((rule for rule in self._rules if rule.match in body), None)
            if rule is None:
                return self.default
            self._use(rule)
            return rule.scenario

    def _use(self, rule: Rule) -> None:
        if rule.times is None:
            return
        rule.times -= 1
        if rule.times <= 0:
            self._rules.remove(rule)
