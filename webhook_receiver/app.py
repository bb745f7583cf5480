"""The Flask application factory. It imports no task, and neither Celery nor kombu."""

from flask import Flask
from werkzeug.exceptions import HTTPException

from webhook_receiver import callbacks, health
from worker.settings import Settings
from worker.store import connection
from worker.wiring.receiver import open_deliveries


def create_app(settings: Settings) -> Flask:
    """Build the public receiver; it connects to Redis on the first request.

    One client serves a process: build the app after the fork (gunicorn without --preload).
    """
    app = Flask(__name__, static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = settings.webhook_max_bytes
    # One path and one method: no OPTIONS, and no redirects from paths that look like it.
    app.config["PROVIDE_AUTOMATIC_OPTIONS"] = False
    app.url_map.merge_slashes = False
    # No retries: the provider waits for the answer, so fail within one timeout.
    client = connection.connect(
        settings.redis_url, timeout_seconds=settings.redis_timeout_seconds, retries=0
    )
    app.extensions["redis"] = client
    app.extensions["deliveries"] = open_deliveries(settings, client)
    app.register_blueprint(callbacks.blueprint)
    app.register_blueprint(health.blueprint)
    app.register_error_handler(HTTPException, _as_json)
    return app


def _as_json(error: HTTPException) -> tuple[dict[str, str], int]:
    return {"error": error.name.lower()}, error.code or 500
