"""Errors as programs want them: problem documents (RFC 9457), ``application/problem+json``."""

from http import HTTPStatus
from typing import Any, Final

import structlog
from flask import Flask, Response, json, request
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import HTTPException, ServiceUnavailable

from desk.doors import is_for_programs
from worker.core.errors import ConfigError, FermataError, UnknownBatch, UnknownJob
from worker.core.wording import told
from worker.messages.follow_ups import AWAY

log = structlog.get_logger()

MEDIA_TYPE: Final = "application/problem+json"

# Not any OSError: a missing template is one too, and no fault of a server.
_AWAY: Final = (*(each for each in AWAY if each is not OSError), ConnectionError, TimeoutError)


class Problem(HTTPException):
    """An error of ours, with the status and the members of its document.

    Args:
        members: further members, as ``errors``: what is wrong, by field.
    """

    def __init__(self, status: int, detail: str, **members: Any) -> None:
        super().__init__(detail)
        self.code = status
        self.members = members


def install(app: Flask) -> None:
    """Answer errors with problem documents where programs ask, and with a page elsewhere."""
    app.register_error_handler(HTTPException, answer)
    app.register_error_handler(FermataError, _ours)
    for away in _AWAY:
        app.register_error_handler(away, _away)


def answer(error: HTTPException) -> ResponseReturnValue:
    """Answer an HTTP error."""
    if not is_for_programs(request.path):
        return error
    return document(error)


def document(error: HTTPException) -> Response:
    """Write an HTTP error as a problem document."""
    status = error.code or 500
    members = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": error.description,
        **getattr(error, "members", {}),
    }
    response = Response(json.dumps(members), status, content_type=MEDIA_TYPE)
    for name, value in error.get_headers():
        if name.lower() not in {"content-type", "content-length"}:
            response.headers.add(name, value)
    return response


def _ours(error: FermataError) -> ResponseReturnValue:
    status = 422
    if isinstance(error, UnknownJob | UnknownBatch):
        status = 404
    if isinstance(error, ConfigError):
        log.error("desk_misconfigured", error=error.message)
        status = 500
    return answer(Problem(status, error.message))


def _away(error: Exception) -> ResponseReturnValue:
    log.error("state_unavailable", error=told(error))
    return answer(ServiceUnavailable("Redis or the broker is away: try again.", retry_after=5))
