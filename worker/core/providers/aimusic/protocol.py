"""Reads the provider's answers and webhooks, by pure functions over ``(status, headers, body)``.

The engine must know one thing of a submit that went wrong: did the provider take the work? A
refusal, a 429, or a status that the row calls ``uncharged`` says no. Any other 5xx says nothing,
because the provider may have started the work before it failed: the outcome is ``Unknown``, and the
engine does not simply submit again.
"""

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from marshmallow import ValidationError

from worker.core.errors import InvalidPayload
from worker.core.job.models import JSONObject, ProviderTaskId
from worker.core.providers.aimusic import refusals, schemas
from worker.core.providers.aimusic.endings import clip_state
from worker.core.providers.aimusic.results import PARTS, find_clips, without_envelope
from worker.core.wire import (
    Accepted,
    Answer,
    Completed,
    Delivery,
    Failed,
    Finished,
    PollOutcome,
    Postponed,
    Refused,
    Running,
    SubmitOutcome,
    Unknown,
    parse,
)

if TYPE_CHECKING:
    from worker.core.providers.aimusic.operations import Operation

_ENVELOPE: Final = schemas.Envelope()
_STILL_RUNNING_CODES: Final = frozenset({102, 202, "102", "202"})
_TASK_ID_LIMIT: Final = 256


def read_submit(operation: "Operation", answer: Answer) -> SubmitOutcome:
    """Read the answer to a submit: it was accepted, refused, postponed, or nobody knows."""
    if answer.status == 202 and operation.synchronous:
        return _not_ready(operation, _retry_after(answer))
    try:
        body = parse(answer.body)
    except InvalidPayload as unreadable:
        # A success whose body is cut off may have started the work, and the task id is lost.
        if answer.status < 300:
            return Unknown(f"HTTP {answer.status}, but {unreadable}")
        body = {}
    if 200 <= answer.status < 300:
        if operation.synchronous and _says_not_ready(body):
            return _not_ready(operation, None)
        return _read_success(operation, answer, body)
    # From here on the status is an error, and the body only says which.
    after = _retry_after(answer)
    error = refusals.read_error(operation, answer.status, body, retry_after=after)
    if answer.status == 429 or answer.status in operation.uncharged:
        failed = answer.status != 429
        return Postponed(f"HTTP {answer.status}: {error}", error.retry_after, failed=failed)
    if error.retryable:
        return Unknown(f"HTTP {answer.status}: {error}")
    return Refused(error)


def _not_ready(operation: "Operation", retry_after: float | None) -> SubmitOutcome:
    if not (operation.repeatable or operation.asked_again):
        return Unknown("not ready, and asking again may cost as much again")
    return Postponed("not ready", retry_after or operation.again_seconds, backoff=False)


def _read_success(operation: "Operation", answer: Answer, body: JSONObject) -> SubmitOutcome:
    if refusals.says_failed(body):
        return Refused(refusals.task_failed(answer.status, body))
    if operation.synchronous:
        return Completed(answer.body.decode())
    provider_task_id = body.get("task_id")
    if isinstance(provider_task_id, str) and 0 < len(provider_task_id) <= _TASK_ID_LIMIT:
        return Accepted(ProviderTaskId(provider_task_id))
    # A 200 may say that the first of two steps failed: nothing was started (provider-api-2.md
    # §3.2).
    if body.get("failed_step"):
        return Refused(refusals.task_failed(answer.status, body))
    # The provider may do an asynchronous upload at once, and answer with the clip (§3.3).
    if isinstance(body.get("clip_id"), str):
        return Completed(answer.body.decode())
    return Unknown(f"HTTP {answer.status} without a task_id: {refusals.find_words(body)}")


def _says_not_ready(body: Mapping[str, Any]) -> bool:
    data = body.get("data")
    statuses = [refusals.task_status(each) for each in (body, data) if isinstance(each, dict)]
    return (
        refusals.is_one_of(body.get("code"), _STILL_RUNNING_CODES)
        or body.get("type") == "not_ready"
        or "running" in statuses
    )


def read_poll(operation: "Operation", answer: Answer) -> PollOutcome:
    """Read a poll: 202 first, then failure by type, then the clips (provider-api-2.md §4)."""
    if answer.status == 202:
        return Running()
    after = _retry_after(answer)
    try:
        body = parse(answer.body)
    except InvalidPayload:
        return Postponed(f"HTTP {answer.status} with an unreadable body", after)
    if refusals.is_one_of(body.get("code"), _STILL_RUNNING_CODES):
        return Running()
    # An error status ends the task only if the body has the type "failed" or speaks of a refund.
    # Any other error is about this request (a throttled key, a broken gateway): poll again.
    terminal = refusals.says_refunded(body) or body.get("type") == "failed"
    if answer.status >= 400 and answer.status != 429 and terminal:
        return Failed(refusals.task_failed(answer.status, body))
    if answer.status == 410:
        return Failed(refusals.read_error(operation, 410, body))
    if answer.status != 200:
        return Postponed(f"HTTP {answer.status}: {refusals.find_words(body)}", after)
    if refusals.says_failed(body) or _has_ended(body, songs=operation.songs):
        return Finished(answer.body.decode())
    return Running(_progress(body), _usable(answer, body))


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
    completed = event == "song.completed"
    final = event == "song.failed" or (completed and _has_ended(body))
    progress = {} if final else _progress(body)
    return Delivery(event, final, completed, raw.decode(), envelope["task_id"], progress)


def _has_ended(body: Mapping[str, Any], *, songs: int = 1) -> bool:
    status = refusals.task_status(body)
    if status is not None:
        return status != "running"
    data = body.get("data")
    match data:
        case None:
            # Some bodies have no ``data``: a clip id, a persona id or lyrics are at the top
            # (§3.3, §3.4, §3.7).
            return bool(without_envelope(body))
        case dict():
            return bool(data) and _item_has_ended(data)
        case list():
            return len(data) >= songs and all(map(_item_has_ended, data))
        case _:
            return False


def _item_has_ended(item: Any) -> bool:
    if not isinstance(item, dict) or not item:
        return False
    if any(part in item for part in PARTS):
        return all(_item_has_ended(item[part]) for part in PARTS if part in item)
    return clip_state(item) != "running"


def _usable(answer: Answer, body: Mapping[str, Any]) -> str | None:
    done = any(clip_state(clip, body) == "succeeded" for clip, _ in find_clips(body.get("data")))
    return answer.body.decode() if done else None


def _progress(body: Mapping[str, Any]) -> JSONObject:
    data = body.get("data")
    items = [item for item in data if isinstance(item, dict)] if isinstance(data, list) else []
    return {"clips": [{k: i.get(k) for k in ("clip_id", "state", "audio_url")} for i in items]}


def _retry_after(answer: Answer) -> float | None:
    # Header names come in any case: Answer.headers is a plain mapping.
    value = next((v for k, v in answer.headers.items() if k.lower() == "retry-after"), "")
    return float(value) if re.fullmatch("[0-9]{1,9}", value) else None
