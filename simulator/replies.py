"""Answers of the API, and refusals in each of the documented shapes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from .settings import Settings

JSON = dict[str, object]

# provider-api.md §6: the machine-readable name that goes with each status.
ERROR_TYPES: Mapping[int, str] = {
    400: "validation_error",
    401: "unauthorized",
    402: "insufficient_credits",
    403: "forbidden",
    404: "not_found",
    429: "rate_limited",
    500: "internal_error",
}
RETRIABLE = frozenset({429, 500})


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


def error_body(settings: Settings, status: int, message: str) -> JSON:
    """Word an error as the handlers of the provider do, which is not uniform (§6)."""
    match settings.error_shape:
        case "message":
            return {"code": status, "message": message}
        case "typed":
            return {"error": message, "type": ERROR_TYPES[status], "detail": message}
        case "retriable":
            return {"error": message, "retriable": status in RETRIABLE}
