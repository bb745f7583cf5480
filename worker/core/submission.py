"""What we say to the provider: parameters checked before they cost anything, then requests."""

import json
from collections.abc import Mapping
from typing import Any, Final

from marshmallow import ValidationError

from worker.core import clips
from worker.core.errors import InvalidRequest
from worker.core.models import JSONObject, ProviderTaskId, Request, Webhook
from worker.core.operations import Operation

_RESERVED: Final = frozenset({"webhook_url", "webhook_secret", "task_type"})


def check_parameters(
    operation: Operation,
    parameters: Mapping[str, Any],
    *,
    source: clips.Source = None,
    pick: clips.Pick = None,
    extra: Mapping[str, Any] | None = None,
) -> JSONObject:
    """Check a request before it costs anything; returns its body, without the webhook pair.

    Args:
        parameters: by the provider's field names; None means "not given".
        source, pick: see :mod:`worker.core.clips`.
        extra: fields passed through unchecked: the provider moves faster than we do.

    Raises InvalidRequest with every wrong field at once.
    """
    given = {name: value for name, value in parameters.items() if value is not None}
    wrong: dict[str, Any] = {}
    if source is not None:
        wrong |= _place_clip(operation, given, source, pick)
    try:
        body = dict(operation.schema().load(given))
    except ValidationError as error:
        found = dict(error.messages_dict)
        if "source" in wrong:
            # The clip is missing because its source is wrong: one mistake, one message.
            found.pop(operation.clip_field or "", None)
        wrong = found | wrong
    if not isinstance(extra, Mapping | None):
        wrong["extra"], extra = ["Not an object."], None
    elif not _is_json(extra):
        wrong["extra"] = ["Not JSON."]
    for name in _RESERVED.intersection(extra or {}):
        wrong[name] = ["Fermata sets this field itself."]
    if wrong:
        listed = "; ".join(f"{name}: {_flatten(why)}" for name, why in sorted(wrong.items()))
        raise InvalidRequest(f"{operation.name}: {listed}", {"fields": wrong})
    return body | dict(extra or {}) | dict(operation.fixed)


def _place_clip(
    operation: Operation, given: JSONObject, source: clips.Source, pick: clips.Pick
) -> dict[str, Any]:
    if operation.clip_field is None:
        return {"source": [f"{operation.name} takes no clip; in a chain, use .si(…)."]}
    if operation.clip_field in given:
        return {operation.clip_field: ["Given twice: by name and as the source."]}
    try:
        given[operation.clip_field] = clips.choose(source, pick)
    except InvalidRequest as error:
        return {"source": [error.message]}
    return {}


def _is_json(value: Any) -> bool:
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        return False
    return True


def _flatten(why: Any) -> str:
    return " ".join(map(str, why)) if isinstance(why, list) else str(why)


def build_request(
    operation: Operation, body: Mapping[str, Any], webhook: Webhook | None
) -> Request:
    """Build the submit; the webhook pair goes into the body (provider-api.md §5.1)."""
    if operation.method == "GET":
        return Request("GET", operation.path)
    pair = {"webhook_url": webhook.url, "webhook_secret": webhook.secret} if webhook else {}
    return Request(operation.method, operation.path, dict(body) | pair)


def build_poll(operation: Operation, provider_task_id: ProviderTaskId) -> Request:
    """Build the poll of a provider task (provider-api.md §4.1)."""
    if operation.poll_path is None:
        raise ValueError(f"{operation.name} is synchronous: there is nothing to poll")
    return Request("GET", operation.poll_path + provider_task_id)
