"""The receiver under test: Fermata's own, with kill points."""

from tests.chaos import kills
from webhook_receiver.wsgi import app

__all__ = ["app"]

kills.install()
