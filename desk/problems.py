"""Errors: problem documents (RFC 9457) where programs ask, and a page like the others elsewhere."""

from collections.abc import Iterator
from http import HTTPStatus
from typing import Any, Final

import structlog
from flask import Flask, Response, json, make_response, render_template, request
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import HTTPException, NotFound, ServiceUnavailable

from desk.doors import is_for_programs
from worker.core.errors import (
    ArchiveFailed,
    ConfigError,
    FermataError,
    UnknownBatch,
    UnknownJob,
)
from worker.core.wording import told
from worker.messages.follow_ups import AWAY

log = structlog.get_logger()

MEDIA_TYPE: Final = "application/problem+json"

_NO_PAGE: Final = "The desk has no such page."

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
    app.register_error_handler(RecursionError, _too_deep)
    for away in _AWAY:
        app.register_error_handler(away, _away)


def answer(error: HTTPException) -> ResponseReturnValue:
    """Answer an HTTP error."""
    if (error.code or 500) < 400:  # a redirect
        return error
    return document(error) if is_for_programs(request.path) else _page(error)


def page(why: str, status: int) -> tuple[str, int]:
    """Say on a page what went wrong."""
    return render_template("error.html", why=why, status=status), status


def _page(error: HTTPException) -> Response:
    why = _NO_PAGE if error.description == NotFound.description else error.description
    return _with_headers(make_response(page(why or error.name, error.code or 500)), error)


def document(error: HTTPException) -> Response:
    """Write an HTTP error as a problem document."""
    status = error.code or 500
    members = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": error.description,
        **getattr(error, "members", _mistakes(error)),
    }
    return _with_headers(Response(json.dumps(members), status, content_type=MEDIA_TYPE), error)


def _with_headers(response: Response, error: HTTPException) -> Response:
    for name, value in error.get_headers():
        if name.lower() not in {"content-type", "content-length"}:
            response.headers.add(name, value)
    return response


def _mistakes(error: HTTPException) -> dict[str, Any]:
    """Return what webargs found wrong with a request: ``errors``, by field."""
    found = getattr(error, "data", {}).get("messages", {})
    errors = {name: why for each in found.values() for name, why in _leaves("", each)}
    return {"errors": errors} if errors else {}


def _leaves(name: str, why: Any) -> Iterator[tuple[str, list[str]]]:
    if isinstance(why, dict):
        for inner, each in why.items():
            yield from _leaves(f"{name}.{inner}" if name else str(inner), each)
    else:
        yield name or "body", list(why)


def _ours(error: FermataError) -> ResponseReturnValue:
    status = 422
    if isinstance(error, UnknownJob | UnknownBatch):
        status = 404
    if isinstance(error, ArchiveFailed):
        status = 503
    if isinstance(error, ConfigError):
        log.error("desk_misconfigured", error=error.message)
        status = 500
    return answer(Problem(status, error.message))


def _too_deep(_: RecursionError) -> ResponseReturnValue:
    return answer(Problem(400, "The request is nested too deeply."))


def _away(error: Exception) -> ResponseReturnValue:
    log.error("state_unavailable", error=told(error))
    return answer(ServiceUnavailable("Redis or the broker is away: try again.", retry_after=5))
