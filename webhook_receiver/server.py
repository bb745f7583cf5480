"""The receiver's gunicorn worker: ``gunicorn --worker-class webhook_receiver.server.Worker``."""

import sys

from worker import log
from worker.core.errors import ConfigError
from worker.settings import Role, load
from worker.wiring.limited_worker import LimitedWorker


class Worker(LimitedWorker):
    """gunicorn's threaded worker, which refuses wrong settings."""

    @classmethod
    def setup(cls) -> None:
        """Refuse wrong settings, and make the server log as we do.

        Gunicorn calls this in the master, before it opens a port or logs anything.
        """
        try:
            load(Role.RECEIVER)
        except ConfigError as error:
            log.refuse(error.message)
            sys.exit(3)
        log.take_over_gunicorn()
