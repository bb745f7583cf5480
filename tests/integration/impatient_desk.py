"""The desk's gunicorn worker, with a limit that a test can outwait."""

from typing import ClassVar

from desk import server


class Worker(server.Worker):
    """Gives a client a second for its request."""

    request_seconds: ClassVar[float] = 1
