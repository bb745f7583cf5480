"""What the provider says, as pure functions over ``(status, headers, body)``."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from marshmallow import ValidationError

from worker.core import errors, schemas
from worker.core.errors import InvalidPayload, ProviderError
from worker.core.models import Answer, JSONObject, ProviderTaskId
from worker.core.operations import Operation

_ENVELOPE_KEYS: Final = frozenset({"code", "message", "task_id", "event", "platform", "type"})
# A task that failed is polled as HTTP 200 with one of these and neither code nor data
# (provider-api-2.md §4).
_FAILURE_TYPES: Final = frozenset({"failed", "timeout", "forbidden", "api_error"})
_DEPTH_LIMIT: Final = 100
_CLIP: Final = schemas.Clip()
_ENVELOPE: Final = schemas.Envelope()
_ENDED: Final = frozenset({"succeeded", "failed"})
_STILL_RUNNING_CODES: Final = frozenset({102, 202, "102", "202"})


@dataclass(frozen=True, slots=True)
class Accepted:
    """The provider took the work."""

    provider_task_id: ProviderTaskId


@dataclass(frozen=True, slots=True)
class Completed:
    """A synchronous operation's result."""

    body: str


@dataclass(frozen=True, slots=True)
class Refused:
    """Certainly refused, for good."""

    error: ProviderError


@dataclass(frozen=True, slots=True)
class Postponed:
    """Certainly not accepted, or not ready: ask again, after ``retry_after`` seconds if given."""

    reason: str
    retry_after: float | None = None


@dataclass(frozen=True, slots=True)
class Unknown:
    """The provider may or may not have taken the work."""

    reason: str


SubmitOutcome = Accepted | Completed | Refused | Postponed | Unknown


@dataclass(frozen=True, slots=True)
class Running:
    """Not finished; ``progress`` is what there is to show."""

    progress: JSONObject | None = None


@dataclass(frozen=True, slots=True)
class Finished:
    """Finished, well or badly: ``body`` is read by :func:`read_result`."""

    body: str


@dataclass(frozen=True, slots=True)
class Failed:
    """Finished badly, and only the HTTP status said so."""

    error: ProviderError


PollOutcome = Running | Finished | Failed | Postponed


@dataclass(frozen=True, slots=True)
class Delivery:
    """A webhook's content. ``final`` says whether it settles the job."""

    event: str
    final: bool
    body: str
    provider_task_id: str | None
    progress: JSONObject


def parse(body: bytes | str) -> JSONObject:
    """Parse a JSON object.

    Raises InvalidPayload on anything else: not UTF-8, nested too deep, NaN, not an object.
    """
    try:
        text = body.decode() if isinstance(body, bytes) else body
        value = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise InvalidPayload(f"the body is not JSON: {type(error).__name__}") from None
    if _is_deeper(value, text):
        raise InvalidPayload(f"the body is nested deeper than {_DEPTH_LIMIT} levels")
    if not isinstance(value, dict):
        raise InvalidPayload(f"the body is a JSON {type(value).__name__}, not an object")
    return value


def _is_deeper(value: Any, text: str) -> bool:
    """Say whether a value is nested deeper than the limit, which is far from any stack's end.

    Without a limit of our own, what the receiver could parse might be too deep for the worker.
    """
    if text.count("[") + text.count("{") <= _DEPTH_LIMIT:
        return False
    level = [value] if isinstance(value, dict | list) else []
    for _ in range(_DEPTH_LIMIT):
        below = (each.values() if isinstance(each, dict) else each for each in level)
        level = [x for each in below for x in each if isinstance(x, dict | list)]
    return bool(level)


def _refuse_constant(name: str) -> None:
    raise ValueError(name)


def read_submit(operation: Operation, answer: Answer) -> SubmitOutcome:
    """Read what the answer to a submit means: accepted, refused, postponed or unknown."""
    try:
        body = parse(answer.body)
    except InvalidPayload as unreadable:
        if answer.status < 300:
            return Unknown(f"HTTP {answer.status}, but {unreadable}")
        body = {}
    match answer.status:
        case 202 if operation.synchronous:
            return Postponed("not ready", _retry_after(answer))
        case status if 200 <= status < 300:
            return _read_success(operation, answer, body)
        case 429:
            return Postponed("rate limited", _retry_after(answer))
        case status if status >= 500 or status == 408:
            return Unknown(f"HTTP {status}: {_words(body)}")
        case _:
            return Refused(read_error(answer.status, body))


def _read_success(operation: Operation, answer: Answer, body: JSONObject) -> SubmitOutcome:
    if operation.synchronous:
        if _is_one_of(body.get("type"), _FAILURE_TYPES):
            return Refused(_task_failed(answer.status, body))
        return Completed(answer.body.decode())
    provider_task_id = body.get("task_id")
    if isinstance(provider_task_id, str) and provider_task_id:
        return Accepted(ProviderTaskId(provider_task_id))
    return Unknown(f"HTTP {answer.status} without a task_id: {_words(body)}")


def read_poll(answer: Answer) -> PollOutcome:
    """Read a poll: 202 first, then failure by type, then the clips (provider-api-2.md §4)."""
    try:
        body = parse(answer.body)
    except InvalidPayload:
        return Postponed(f"HTTP {answer.status} with an unreadable body", _retry_after(answer))
    if answer.status == 202 or _is_one_of(body.get("code"), _STILL_RUNNING_CODES):
        return Running()
    if _says_failed(body):
        return Finished(answer.body.decode())
    # On this route a 5xx can be a terminal failure, if it speaks of a refund; else it passes.
    if answer.status >= 500 and _details(None, body).get("refunded"):
        return Failed(_task_failed(answer.status, body))
    if answer.status != 200:
        return Postponed(f"HTTP {answer.status}: {_words(body)}", _retry_after(answer))
    if _has_ended(body):
        return Finished(answer.body.decode())
    return Running(_progress(body))


def read_delivery(raw: bytes) -> Delivery:
    """Read an authentic delivery as far as the receiver needs: which event, and is it final?

    A ``song.completed`` whose clips still run is progress: the job waits for the rest.

    Raises InvalidPayload.
    """
    body = parse(raw)
    try:
        envelope = _ENVELOPE.load(body)
    except ValidationError as error:
        raise InvalidPayload(f"the envelope is wrong: {error.messages}") from None
    event = envelope["event"]
    final = event == "song.failed" or (event == "song.completed" and _has_ended(body))
    return Delivery(event, final, raw.decode(), envelope["task_id"], _progress(body))


def read_result(
    operation: Operation, body: Mapping[str, Any], *, clip_id: str | None = None
) -> JSONObject:
    """Read a final body into ``{"clips": […], "data": {…}, "partial": bool}``.

    Args:
        clip_id: the source clip. A derivative that brings no clips of its own passes it on, so
            that a chain reads ``remaster | wav | midi``.

    Raises TaskFailed, UnexpectedResponse.
    """
    if _says_failed(body):
        raise _task_failed(None, body)
    data = body.get("data", _without_envelope(body))
    found = _read_clips(data) if isinstance(data, list) else []
    if not operation.synchronous:
        _require_success(operation, found, body)
    elif not (isinstance(data, dict) and data):
        raise errors.UnexpectedResponse(f"{operation.name} brought no result: {_words(body)}")
    elif clip_id:
        found = [_read_clip({"clip_id": clip_id, "state": "succeeded"})]
    return {
        "clips": found,
        "data": data if isinstance(data, dict) else {},
        "partial": any(clip["state"] != "succeeded" for clip in found),
    }


def _read_clips(items: list[Any]) -> list[JSONObject]:
    return [_read_clip(_named(each)) for each in items]


def _named(item: Any) -> Any:
    # A clip that failed may never have had an id; that must not lose the clips that succeeded.
    failed = isinstance(item, dict) and item.get("state") == "failed"
    return item | {"clip_id": str(item.get("clip_id") or "")} if failed else item


def _read_clip(item: Any) -> JSONObject:
    try:
        return dict(_CLIP.load(item))
    except ValidationError as error:
        why = f"a clip cannot be read: {error.messages}"
        raise errors.UnexpectedResponse(why) from None


def _require_success(
    operation: Operation, found: list[JSONObject], body: Mapping[str, Any]
) -> None:
    if any(clip["state"] == "succeeded" for clip in found):
        return
    if found and all(clip["state"] == "failed" for clip in found):
        reason = next((c["error"] for c in found if c["error"]), None) or "every clip failed"
        raise _task_failed(None, dict(body) | {"message": str(reason)})
    raise errors.UnexpectedResponse(f"{operation.name} ended without a clip: {_words(body)}")


def read_error(status: int, body: Mapping[str, Any]) -> ProviderError:
    """Read an error answer of any of the provider's shapes (provider-api.md §6)."""
    words, details = _words(body), _details(status, body)
    if status == 429:
        return errors.RateLimited(words, details)
    if status >= 500:
        return errors.ProviderUnavailable(words, details)
    # 402, or a 403 told apart from moderation by its text (provider-api.md §9.6).
    if status == 402 or (status == 403 and _about_credits(words)):
        return errors.OutOfCredits(words, details)
    if 300 <= status < 400:
        return errors.UnexpectedResponse("redirected: check FERMATA_PROVIDER_URL", details)
    return errors.RequestRefused(words, details)


def _about_credits(words: str) -> bool:
    return any(word in words.lower() for word in ("credit", "subscription"))


def _task_failed(status: int | None, body: Mapping[str, Any]) -> errors.TaskFailed:
    return errors.TaskFailed(_words(body), _details(status, body))


def _details(status: int | None, body: Mapping[str, Any]) -> JSONObject:
    refunds = [body.get(key) for key in ("refund_processed", "already_refunded")]
    refunded = next((flag for flag in refunds if isinstance(flag, bool)), None)
    if refunded is None and re.search(r"(?<!not )\brefunded\b", _words(body).lower()):
        refunded = True
    known = {"http_status": status, "provider_type": body.get("type"), "refunded": refunded}
    return {name: value for name, value in known.items() if value is not None}


def _says_failed(body: Mapping[str, Any]) -> bool:
    if body.get("event") == "song.failed":
        return True
    return _is_one_of(body.get("type"), _FAILURE_TYPES) and "data" not in body


def _is_one_of(value: Any, known: frozenset[Any]) -> bool:
    # What the provider sends may be a list or an object, which no set can be asked for.
    return isinstance(value, str | int) and value in known


def _has_ended(body: Mapping[str, Any]) -> bool:
    data = body.get("data")
    if not isinstance(data, list):
        return isinstance(data, dict) and bool(data)
    states = [item.get("state") if isinstance(item, dict) else None for item in data]
    return bool(states) and all(_is_one_of(state, _ENDED) for state in states)


def _progress(body: Mapping[str, Any]) -> JSONObject:
    data = body.get("data")
    items = [item for item in data if isinstance(item, dict)] if isinstance(data, list) else []
    return {"clips": [{k: i.get(k) for k in ("clip_id", "state", "audio_url")} for i in items]}


def _without_envelope(body: Mapping[str, Any]) -> JSONObject:
    return {key: value for key, value in body.items() if key not in _ENVELOPE_KEYS}


def _words(body: Mapping[str, Any]) -> str:
    for key in ("error", "message", "detail", "type"):
        if isinstance(body.get(key), str) and body[key]:
            return str(body[key])[:500]
    return "no reason given"


def _retry_after(answer: Answer) -> float | None:
    # Header names come in any case: Answer.headers is a plain mapping.
    value = next((v for k, v in answer.headers.items() if k.lower() == "retry-after"), "")
    return float(value) if re.fullmatch("[0-9]{1,9}", value) else None
