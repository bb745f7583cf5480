"""What the provider says, as pure functions over ``(status, headers, body)``."""

import json
from collections.abc import Iterator, Mapping
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
_ENDED: Final = frozenset({"succeeded", "failed"})
# Producer and nuro name the task's own status, in either case (provider-api.md §4.2, §4.3).
_STATUS: Final = {
    "pending": "running", "running": "running", "processing": "running",
    "success": "succeeded", "succeeded": "succeeded", "failed": "failed",
}  # fmt: skip
# With auto_concat an item of data is a pair of clips; the joined one comes first (§3.5).
_PARTS: Final = ("full", "replaced", "extended")
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
    backoff: bool = True
    """Wait longer each time; not where the provider just needs a moment more."""


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

    Raises InvalidPayload on anything else: not UTF-8, too deep, NaN, not an object.
    """
    try:
        text = body.decode() if isinstance(body, bytes) else body
        value = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise InvalidPayload(f"the body is not JSON: {type(error).__name__}") from None
    if not isinstance(value, dict):
        raise InvalidPayload(f"the body is a JSON {type(value).__name__}, not an object")
    return value


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
            after = _retry_after(answer) or operation.again_seconds
            return Postponed("not ready", after, backoff=False)
        case status if 200 <= status < 300:
            return _read_success(operation, answer, body)
        case 429:
            return Postponed("rate limited", _retry_after(answer))
        case status if status in operation.uncharged:
            return Postponed(f"HTTP {status}: {_words(body)}", _retry_after(answer))
        case status if status >= 500 or status == 408:
            return Unknown(f"HTTP {status}: {_words(body)}")
        case 410:
            return Refused(_retired(operation, body))
        case status:
            return Refused(read_error(status, body))


def _read_success(operation: Operation, answer: Answer, body: JSONObject) -> SubmitOutcome:
    provider_task_id = body.get("task_id")
    if _says_failed(body):
        return Refused(_task_failed(answer.status, body))
    if operation.synchronous:
        return Completed(answer.body.decode())
    if isinstance(provider_task_id, str) and 0 < len(provider_task_id) <= 256:
        return Accepted(ProviderTaskId(provider_task_id))
    if body.get("failed_step"):
        return Refused(_task_failed(answer.status, body))
    return Unknown(f"HTTP {answer.status} without a task_id: {_words(body)}")


def _retired(operation: Operation, body: Mapping[str, Any]) -> errors.OperationRetired:
    instead = f"; use {operation.retired}" if operation.retired else ""
    details = _details(410, body) | {"instead": operation.retired}
    message = f"the provider has retired {operation.name}{instead} ({_words(body)})"
    return errors.OperationRetired(message, details)


def read_poll(operation: Operation, answer: Answer) -> PollOutcome:
    """Read a poll: 202 first, then failure by type, then the clips (provider-api-2.md §4)."""
    try:
        body = parse(answer.body)
    except InvalidPayload:
        return Postponed(f"HTTP {answer.status} with an unreadable body", _retry_after(answer))
    if answer.status == 202 or body.get("code") in _STILL_RUNNING_CODES:
        return Running()
    if _says_failed(body):
        return Finished(answer.body.decode())
    # On this route a 5xx can be a terminal failure, if it speaks of a refund; else it passes.
    if answer.status >= 500 and _details(None, body).get("refunded"):
        return Failed(_task_failed(answer.status, body))
    if answer.status == 410:
        return Failed(_retired(operation, body))
    if answer.status != 200:
        return Postponed(f"HTTP {answer.status}: {_words(body)}", _retry_after(answer))
    if _has_ended(body, songs=operation.songs):
        return Finished(answer.body.decode())
    return Running(_progress(body))


def read_delivery(raw: bytes) -> Delivery:
    """Read an authentic delivery as far as the receiver needs: which event, and is it final?

    A ``song.completed`` whose clips still run is progress: the job waits for the rest.

    Raises InvalidPayload.
    """
    body = parse(raw)
    try:
        envelope = schemas.Envelope().load(body)
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
    found = [_read_clip(item, part) for item, part in _items(data)]
    if not found and clip_id and operation.synchronous:
        found = [_read_clip({"clip_id": clip_id}, None)]
    if operation.makes_clips:
        _require_success(operation, found, body)
    return {
        "clips": found,
        "data": {"items": data} if isinstance(data, list) and not found else _object(data),
        "partial": any(clip["state"] != "succeeded" for clip in found),
    }


def _items(data: Any) -> Iterator[tuple[JSONObject, str | None]]:
    """Find the clips in ``data``: a list of them, of pairs, or one object that is a clip."""
    listed = data if isinstance(data, list) else [data]
    for item in listed:
        if not isinstance(item, dict):
            continue
        pair = [(item[part], part) for part in _PARTS if isinstance(item.get(part), dict)]
        if pair:
            yield from pair
        elif any(isinstance(item.get(key), str) for key in ("clip_id", "audio_url")):
            yield item, None


def _object(data: Any) -> JSONObject:
    return data if isinstance(data, dict) else {}


def _read_clip(item: Mapping[str, Any], part: str | None) -> JSONObject:
    try:
        clip = dict(schemas.Clip().load(dict(item)))
    except ValidationError as error:
        why = f"a clip cannot be read: {error.messages}"
        raise errors.UnexpectedResponse(why) from None
    return clip | {"part": part, "state": clip["state"] or "succeeded"}


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
    if refunded is None and "refunded" in _words(body).lower():
        refunded = True
    known = {"http_status": status, "provider_type": body.get("type"), "refunded": refunded}
    return {name: value for name, value in known.items() if value is not None}


def _says_failed(body: Mapping[str, Any]) -> bool:
    if body.get("event") == "song.failed" or _status(body) == "failed":
        return True
    return body.get("type") in _FAILURE_TYPES and "data" not in body


def _status(body: Mapping[str, Any]) -> str | None:
    status = body.get("status")
    return _STATUS.get(status.lower()) if isinstance(status, str) else None


def _has_ended(body: Mapping[str, Any], *, songs: int = 1) -> bool:
    status = _status(body)
    if status is not None:
        return status in _ENDED
    data = body.get("data")
    if not isinstance(data, list):
        return isinstance(data, dict) and bool(data)
    return len(data) >= songs and all(map(_item_has_ended, data))


def _item_has_ended(item: Any) -> bool:
    if not isinstance(item, dict):
        return True
    if any(part in item for part in _PARTS):
        return item.get("full", {}) is not None and all(
            _item_has_ended(item[part]) for part in _PARTS if part in item
        )
    # Some results are no songs and have no state, such as a download's address.
    return item.get("state", "succeeded") in _ENDED


def _progress(body: Mapping[str, Any]) -> JSONObject:
    data = body.get("data")
    items = [item for item in data if isinstance(item, dict)] if isinstance(data, list) else []
    return {"clips": [{k: i.get(k) for k in ("clip_id", "state", "audio_url")} for i in items]}


def _without_envelope(body: Mapping[str, Any]) -> JSONObject:
    return {key: value for key, value in body.items() if key not in _ENVELOPE_KEYS}


def _words(body: Mapping[str, Any]) -> str:
    """Find the provider's words in any of its error shapes (provider-api.md §6)."""
    step = _object(_object(body.get("steps")).get(str(body.get("failed_step", "upload"))))
    for place in (step, body):
        for key in ("error", "message", "detail", "type"):
            if isinstance(place.get(key), str) and place[key]:
                return str(place[key])[:500]
    return "no reason given"


def _retry_after(answer: Answer) -> float | None:
    value = answer.headers.get("Retry-After", "")
    return float(value) if value.isascii() and value.isdigit() else None
