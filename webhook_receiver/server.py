"""The receiver's gunicorn worker: ``gunicorn --worker-class webhook_receiver.server.Worker``.

A thread reads a request for as long as its client takes. Without a limit a stranger holds all
threads with as many connections, each of them in the middle of a request that never ends. With
it the receiver gets free by itself; to keep slow clients out altogether is the business of a
proxy before it that takes in a whole request before it passes it on.
"""

import contextlib
import socket
import time
from typing import Any, Final

from gunicorn.workers.gthread import ThreadWorker

REQUEST_SECONDS: Final = 10
"""Many times what a provider needs to send a webhook."""


class Worker(ThreadWorker):  # type: ignore[misc]
    """Threads that stop listening to whoever takes too long."""

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
            return super().handle(conn)
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
