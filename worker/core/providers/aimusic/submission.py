"""Builds our requests to the provider, after it has checked their parameters at no cost."""

import functools
import json
import uuid
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote

from marshmallow import ValidationError

from worker.core.errors import InvalidRequest
from worker.core.job.models import JSONObject, ProviderTaskId
from worker.core.providers.aimusic import sources
from worker.core.providers.aimusic.fields import RequestSchema
from worker.core.providers.aimusic.operations import Operation
from worker.core.wire import Request, Webhook

RESERVED: Final = frozenset({"webhook_url", "webhook_secret", "task_type"})


def check_parameters(
    operation: Operation,
    parameters: Mapping[str, Any],
    *,
    source: sources.Source = None,
    pick: sources.Pick = None,
    extra: Mapping[str, Any] | None = None,
) -> JSONObject:
    """Check a request before it costs anything; returns its body, without the webhook pair.

    Args:
        parameters: by the provider's field names; None means "not given".
        source, pick: see :mod:`worker.core.providers.aimusic.sources`.
        extra: fields passed through unchecked: the provider moves faster than we do.

    Raises InvalidRequest with every wrong field at once.
    """
    given = {name: value for name, value in parameters.items() if value is not None}
    try:
        given, source, pick, extra = _written([given, source, pick, extra])
    except RecursionError:
        raise InvalidRequest(f"{operation.name}: nested too deeply") from None
    wrong: dict[str, Any] = {}
    if source is not None:
        wrong |= _take_source(operation, given, source, pick)
    try:
        body = dict(_schema(operation.schema).load(given))
    except ValidationError as error:
        found = dict(error.messages_dict)
        if "source" in wrong:
            # One mistake, one message: do not also report what a wrong source did not bring.
            for name in {operation.clip_field, *operation.carries} - given.keys():
                found.pop(str(name), None)
        wrong = found | wrong
    if not isinstance(extra, Mapping | None):
        wrong["extra"], extra = ["Not an object."], None
    elif not _is_json(extra):
        wrong["extra"] = ["Not JSON."]
    for name in RESERVED.union(operation.fixed).intersection(extra or {}):
        wrong[name] = ["Fermata sets this field itself."]
    if wrong:
        listed = "; ".join(f"{name}: {_flatten(why)}" for name, why in sorted(wrong.items()))
        raise InvalidRequest(f"{operation.name}: {listed}", {"fields": wrong})
    return body | dict(extra or {}) | dict(operation.fixed)


@functools.cache
def _schema(kind: type[RequestSchema]) -> RequestSchema:
    """Return the one schema of its kind. A new one copies its fields: half of a check."""
    return kind()


def _written(value: Any) -> Any:
    """Write ids as text, because kombu's JSON brings a ``uuid.UUID`` to the worker as it is."""
    match value:
        case uuid.UUID():
            return str(value)
        case dict():
            return {name: _written(each) for name, each in value.items()}
        case list() | tuple():
            return [_written(each) for each in value]
    return value


def _take_source(
    operation: Operation, given: JSONObject, source: sources.Source, pick: sources.Pick
) -> dict[str, Any]:
    """Add the parameters that a source brings; returns the mistakes in the source."""
    if operation.clip_field in given:
        return {str(operation.clip_field): ["Given twice: by name and as the source."]}
    try:
        brought = sources.read(operation, source, pick)
    except InvalidRequest as error:
        return {"source": [error.message]}
    # A parameter that the caller gave wins over the source's.
    for name, value in brought.items():
        given.setdefault(name, value)
    return {}


def _is_json(value: Any) -> bool:
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        return False
    return True


def _flatten(why: Any) -> str:
    if isinstance(why, dict):
        return " ".join(f"{position}: {_flatten(each)}" for position, each in why.items())
    return " ".join(map(_flatten, why)) if isinstance(why, list) else str(why)


def build_request(
    operation: Operation, body: Mapping[str, Any], webhook: Webhook | None
) -> Request:
    """Build the submit; the webhook pair goes into the body (provider-api.md §5.1)."""
    if operation.method == "GET":
        return Request("GET", operation.path)
    answer_to: JSONObject = {}
    if webhook and operation.callback_field:
        answer_to = {operation.callback_field: webhook.url}
    elif webhook:
        answer_to = {"webhook_url": webhook.url, "webhook_secret": webhook.secret}
    body = dict(body) | answer_to
    return Request(operation.method, operation.path, body, operation.submit_seconds)


def build_poll(operation: Operation, provider_task_id: ProviderTaskId) -> Request:
    """Build the poll of a provider task (provider-api.md §4.1)."""
    if operation.poll_path is None:
        raise ValueError(f"{operation.name} is synchronous: there is nothing to poll")
    return Request("GET", operation.poll_path + quote(provider_task_id, safe=""))
