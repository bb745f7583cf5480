"""The HTTP API, ``/api/v1``, for programs in any language; ``openapi.json`` describes it.

Each view reads what it is asked, lets a use case of ``worker`` do it, and writes what that returns.
Lists go on by a cursor. An error is a problem document (``desk/problems.py``). What belongs to
another tenant is not there: 404. Each view has an ``operationId`` of its own: generated clients
name their functions by it, so it never changes.
"""

from typing import Any, Final

from flask import Flask
from flask.typing import ResponseReturnValue
from flask_smorest import Api
from werkzeug.exceptions import HTTPException

from desk import problems
from desk.api import batches, deliveries, files, flows, jobs, song, system
from desk.api.schemas import Problem

PREFIX: Final = "/api/v1"

_BEARER: Final = {"type": "http", "scheme": "bearer", "description": "A token of the desk."}


class _Api(Api):  # type: ignore[misc]
    """flask-smorest, with problem documents for errors."""

    ERROR_SCHEMA = Problem
    DEFAULT_RESPONSE_CONTENT_TYPE = "application/json"

    def _register_responses(self) -> None:
        # These are the errors. flask-smorest has one media type for them and for answers.
        self.DEFAULT_RESPONSE_CONTENT_TYPE = problems.MEDIA_TYPE
        super()._register_responses()
        del self.DEFAULT_RESPONSE_CONTENT_TYPE

    def handle_http_exception(self, error: HTTPException) -> ResponseReturnValue:
        return problems.answer(error)


def install(app: Flask) -> None:
    """Add the API to an application."""
    app.config.update(
        API_TITLE="Fermata",
        API_VERSION="v1",
        OPENAPI_VERSION="3.1.0",
        OPENAPI_URL_PREFIX=PREFIX,
    )
    options: dict[str, Any] = {"security": [{"token": []}]}
    api = _Api(app, spec_kwargs=options)
    api.spec.components.security_scheme("token", dict(_BEARER))
    for each in (jobs, files, song, flows, batches, deliveries, system):
        api.register_blueprint(each.blueprint, url_prefix=PREFIX)
