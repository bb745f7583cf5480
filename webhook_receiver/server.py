"""The receiver's gunicorn worker: ``gunicorn --worker-class webhook_receiver.server.Worker``.

A thread reads a request for as long as its client takes. Without a limit a stranger holds all
threads with as many connections, each of them in the middle of a request that never ends. With
it the receiver gets free by itself; to keep slow clients out altogether is the business of a
proxy before it that takes in a whole request before it passes it on.
"""

import contextlib
import logging
import re
import socket
import sys
import time
from typing import Any, Final

from gunicorn.workers.gthread import ThreadWorker

from worker import log
from worker.core.errors import ConfigError
from worker.settings import Role, load

REQUEST_SECONDS: Final = 10
"""Many times what a provider needs to send a webhook."""

LINGER_SECONDS: Final = 0.2

_FAREWELLS: Final = re.compile(
    r"Handling signal: term|Worker exiting|Shutting down|Worker \(pid:\d+\) was sent SIGTERM!"
)


class Worker(ThreadWorker):  # type: ignore[misc]
    """Threads that stop listening to whoever takes too long."""

    @classmethod
    def setup(cls) -> None:
        """Refuse wrong settings, and let the server log as we do.

        Runs in the master, before it opens a port or says anything.
        """
        try:
            load(Role.RECEIVER)
        except ConfigError as error:
            log.refuse(error.message)
            sys.exit(3)
        if log.speaks_json() and not log.taken_over():
            logs = map(logging.getLogger, ("gunicorn.error", "gunicorn.access"))
            log.take_over(handler for each in logs for handler in each.handlers)
        logging.getLogger("gunicorn.error").addFilter(_is_no_farewell)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._give_up_at: dict[Any, float] = {}

    def enqueue_req(self, conn: Any) -> None:
        """Let a thread serve a request that begins; the time it queues for one counts too."""
        self._give_up_at[conn] = time.monotonic() + REQUEST_SECONDS
        super().enqueue_req(conn)

    def handle(self, conn: Any) -> Any:
        """Serve the request; runs in a thread."""
        try:
            kept = super().handle(conn)
            if not kept:
                _hang_up(conn.sock)
            return kept
        finally:
            self._give_up_at.pop(conn, None)

    def notify(self) -> None:
        """Cut off the late ones; runs in the main thread, every second at least."""
        super().notify()
        now = time.monotonic()
        for conn, give_up_at in list(self._give_up_at.items()):
            if now > give_up_at:
                # Whoever reads gets what has come so far, then an end; and can still answer.
                with contextlib.suppress(OSError):
                    conn.sock.shutdown(socket.SHUT_RD)


def _is_no_farewell(record: logging.LogRecord) -> bool:
    """Drop what the server says when it ends as it was told to.

    Under ``honcho start`` it is told so when another process has refused to start: the reason for
    that is to be the last thing on the screen.
    """
    return record.levelno > logging.INFO or not _FAREWELLS.match(record.getMessage())


def _hang_up(sock: socket.socket) -> None:
    """Say that this was all, and hear the rest; the main thread then has nothing to wait for.

    gunicorn would wait there, up to 2 s each, for clients that do not hang up: meanwhile nobody
    is let in. Not to wait at all would reset the connection under what is still being sent, and
    take the answer with it.
    """
    give_up = time.monotonic() + LINGER_SECONDS
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_WR)
        with contextlib.suppress(TimeoutError):
            while (left := give_up - time.monotonic()) > 0:
                sock.settimeout(left)
                if not sock.recv(65536):
                    break
        sock.shutdown(socket.SHUT_RD)
