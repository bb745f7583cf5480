"""The Flask application factory of the desk."""

from flask import Flask

from desk import metrics
from desk.parts import EXTENSION
from worker.settings import Settings
from worker.wiring.desk import open_desk


def create_app(settings: Settings) -> Flask:
    """Build the desk; it connects to Redis on the first request."""
    app = Flask(__name__)
    app.extensions[EXTENSION] = open_desk(settings)
    app.register_blueprint(metrics.blueprint)
    return app
