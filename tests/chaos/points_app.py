"""A worker that dies at named points: ``celery -A tests.chaos.points_app worker``."""

from tests.canvas_app import app
from tests.chaos import points

points.install()

__all__ = ["app"]
