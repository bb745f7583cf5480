"""The worker of ``canvas_app``, with OpenTelemetry's SDK."""

from tests import traced
from tests.canvas_app import app

__all__ = ["app"]

traced.install()
traced.instrument_redis()
