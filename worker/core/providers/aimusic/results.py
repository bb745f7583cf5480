"""Reads the provider's final body into a job's result, in one shape for every operation."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from marshmallow import ValidationError

from worker.core import errors
from worker.core.job.models import JobId, JSONObject
from worker.core.providers.aimusic import refusals, schemas
from worker.core.providers.aimusic.endings import clip_state

if TYPE_CHECKING:
    from worker.core.providers.aimusic.operations import Operation

# With auto_concat an item of data is a pair of clips (provider-api.md §3.5); the joined one first.
PARTS: Final = ("full", "replaced", "extended")
_ENVELOPE_KEYS: Final = frozenset(
    {"code", "message", "data", "task_id", "event", "platform", "type", "status", "progress"}
    | {"error", "detail", "steps", "failed_step", "warning"}
)
_CLIP: Final = schemas.Clip()


def read_result(
    operation: "Operation", body: Mapping[str, Any], *, clip_id: str | None = None
) -> JSONObject:
    """Read a final body into ``{"clips": […], "data": {…}, "partial": bool}``.

    Args:
        clip_id: the source clip. A derivative that brings no clips of its own passes it on, so
            that a chain reads ``remaster | wav | midi``.

    Raises TaskFailed, UnexpectedResponse.
    """
    if refusals.says_failed(body):
        raise refusals.task_failed(None, body)
    data = body.get("data") or without_envelope(body)
    if not data:
        raise _empty(operation, body)
    found, unreadable = _read_clips(data, body)
    if operation.synchronous and clip_id and not found:
        found = [_read_clip({"clip_id": clip_id}, None, {})]
    if operation.makes_clips:
        # One clip that can be read is worth more than an error; the result is then partial.
        if unreadable and not any(map(_usable, found)):
            raise unreadable[0]
        _require_success(operation, found, body)
    return {
        "clips": found,
        "data": _data(data, found),
        "partial": bool(unreadable)
        or any(clip["state"] != "succeeded" for clip in found)
        or _lacks_a_part(data),
    }


def job_result(
    job_id: JobId,
    operation: "Operation",
    body: Mapping[str, Any],
    *,
    clip_id: str | None = None,
    provider_task_id: str | None = None,
) -> JSONObject:
    """Read a final body into a job's result: :func:`read_result`, and the ids of its job.

    Args:
        provider_task_id: the provider's task, if the body does not name it.

    Raises TaskFailed, UnexpectedResponse.
    """
    said = body.get("task_id")
    return {
        "job_id": job_id,
        "operation": operation.name,
        "provider_task_id": said if isinstance(said, str) else provider_task_id,
        **read_result(operation, body, clip_id=clip_id),
    }


def _lacks_a_part(data: Any) -> bool:
    """Say whether a pair came without its joined song."""
    items = data if isinstance(data, list) else [data]
    return any(isinstance(item, dict) and item.get("full", {}) is None for item in items)


def without_envelope(body: Mapping[str, Any]) -> JSONObject:
    """Return what a body holds besides its envelope."""
    return {key: value for key, value in body.items() if key not in _ENVELOPE_KEYS}


def _data(data: Any, found: list[JSONObject]) -> JSONObject:
    """Keep the data that are no clips, even a list whose shape no page documents."""
    if isinstance(data, dict):
        return data
    if found:
        return {}
    alone = isinstance(data, list) and len(data) == 1 and isinstance(data[0], dict)
    return dict(data[0]) if alone else {"items": data}


def find_clips(data: Any) -> Iterator[tuple[JSONObject, str | None]]:
    """Find the clips in ``data``: a list of them, of pairs, or one object that is a clip."""
    for item in data if isinstance(data, list) else [data]:
        if not isinstance(item, dict):
            continue
        pair = [(item[part], part) for part in PARTS if isinstance(item.get(part), dict)]
        if pair:
            yield from pair
        elif "state" in item or any(isinstance(item.get(k), str) for k in ("clip_id", "audio_url")):
            yield item, None


def _read_clips(
    data: Any, body: Mapping[str, Any]
) -> tuple[list[JSONObject], list[errors.UnexpectedResponse]]:
    found, unreadable = [], []
    for item, part in find_clips(data):
        try:
            found.append(_read_clip(item, part, body))
        except errors.UnexpectedResponse as error:
            unreadable.append(error)
    return found, unreadable


def _read_clip(item: Mapping[str, Any], part: str | None, body: Mapping[str, Any]) -> JSONObject:
    try:
        clip = dict(_CLIP.load(dict(item)))
    except ValidationError as error:
        why = f"a clip cannot be read: {error.messages}"
        raise errors.UnexpectedResponse(why) from None
    return clip | {"part": part, "state": clip_state(item, body)}


def _require_success(
    operation: "Operation", found: list[JSONObject], body: Mapping[str, Any]
) -> None:
    if any(map(_usable, found)):
        return
    if found and all(clip["state"] == "failed" for clip in found):
        reason = next((c["error"] for c in found if c["error"]), None) or "every clip failed"
        raise refusals.task_failed(None, dict(body) | {"message": str(reason)})
    raise _empty(operation, body)


def _usable(clip: Mapping[str, Any]) -> bool:
    """A clip that succeeded has an id, or at least an address."""
    return clip["state"] == "succeeded" and bool(clip.get("clip_id") or clip.get("audio_url"))


def _empty(operation: "Operation", body: Mapping[str, Any]) -> errors.UnexpectedResponse:
    said = refusals.find_words(body)
    return errors.UnexpectedResponse(f"{operation.name} ended without a result: {said}")
