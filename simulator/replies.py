"""Answers of the API, and refusals in each of the documented shapes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from .scenarios import ErrorShape
from .settings import Settings

JSON = dict[str, object]

# provider-api.md §6: the machine-readable name that goes with each status.
ERROR_TYPES: Mapping[int, str] = {
    400: "validation_error",
    401: "unauthorized",
    402: "insufficient_credits",
    403: "forbidden",
    404: "not_found",
    410: "endpoint_retired",
    429: "rate_limited",
    500: "internal_error",
    502: "upstream_error",
    504: "timeout",
}
RETRIABLE = frozenset({429, 500, 502, 504})


@dataclass(frozen=True, slots=True)
class Reply:
    """One HTTP answer: a JSON object, or text that is sent as HTML."""

    status: int
    body: JSON | str
    headers: Mapping[str, str] = field(default_factory=dict)


class Refused(Exception):
    """The request is refused: nothing was started, nothing is charged."""

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.headers = headers or {}
        self.shape = ErrorShape.AS_SET


def error_reply(settings: Settings, shape: ErrorShape, status: int, message: str) -> Reply:
    return Reply(status, error_body(settings, shape, status, message))


def error_body(settings: Settings, shape: ErrorShape, status: int, message: str) -> JSON | str:
    """Word an error as the handlers of the provider do, which is not uniform (§6)."""
    match settings.error_shape if shape is ErrorShape.AS_SET else shape.value:
        case "typed":
            return {"error": message, "type": ERROR_TYPES[status], "detail": message}
        case "brief":
            return {"error": message, "type": ERROR_TYPES[status]}
        case "retriable":
            return {"error": message, "retriable": status in RETRIABLE}
        case "text_code":
            return {"code": str(status), "message": message}
        case "html":
            return f"<!doctype html><title>{status}</title><h1>{message}</h1>"
        case "empty":
            return ""
        case _:
            return {"code": status, "message": message}
