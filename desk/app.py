"""The Flask application factory of the desk."""

import time
from collections.abc import Callable, Iterator
from typing import Final

from flask import Flask, Response

from desk import api, doors, health, metrics, pages, problems
from desk.parts import EXTENSION
from worker.core.errors import ConfigError
from worker.core.visitors import Token
from worker.settings import Settings
from worker.wiring.desk import open_desk

_LONGEST_BODY: Final = 32 * 1024**2


class _Answer(Response):
    """Text in UTF-8, with `?` for half a surrogate pair, which the provider's JSON may hold."""

    def set_data(self, value: str | bytes) -> None:
        super().set_data(value.encode(errors="replace") if isinstance(value, str) else value)

    def iter_encoded(self) -> Iterator[bytes]:
        for part in self.response:
            yield part.encode(errors="replace") if isinstance(part, str) else part


def create_app(
    settings: Settings,
    *,
    this_run: Token | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Flask:
    """Build the desk; it connects to Redis on the first request.

    Args:
        this_run: the token of this run, if the settings have none (desk/server.py).
        clock: for the throttle of the login.

    Raises ConfigError if there is no token at all: nobody could enter.
    """
    if not settings.desk_tokens and this_run is None:
        raise ConfigError(
            "set FERMATA_DESK_TOKENS, or start gunicorn with --worker-class desk.server.Worker"
        )
    app = Flask(__name__)
    app.response_class = _Answer
    app.config["MAX_CONTENT_LENGTH"] = _LONGEST_BODY
    app.extensions[EXTENSION] = open_desk(settings)
    doors.install(app, settings, this_run=this_run, clock=clock)
    problems.install(app)
    api.install(app)
    app.register_blueprint(health.blueprint)
    app.register_blueprint(metrics.blueprint)
    app.register_blueprint(pages.register())
    return app
