"""gunicorn's threaded worker as we run it: it cuts off clients that send too slowly.

A thread reads a request for as long as its client takes to send it. Without a limit, a stranger
can hold all threads with as many connections, each in the middle of a request that never ends.
This worker cuts such connections off after ``request_seconds``, so the threads become free again.
An answer may take longer: a live stream goes on. To keep slow clients out altogether, put a proxy
before it that passes on only whole requests.
"""

import contextlib
import socket
import time
from typing import Any, ClassVar, Final

from gunicorn.workers.gthread import ThreadWorker

LINGER_SECONDS: Final = 0.2


class LimitedWorker(ThreadWorker):  # type: ignore[misc]
    """Gives a client so many seconds for its request."""

    request_seconds: ClassVar[float] = 10
    """Many times the time that a provider needs to send a webhook."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._give_up_at: dict[Any, float] = {}

    def handle_quit(self, sig: int, frame: Any) -> None:
        """End as by SIGTERM on Ctrl-C too: requests in hand are answered.

        gunicorn's own way ends no thread, and then Python waits for all of them.
        """
        self.handle_exit(sig, frame)

    def enqueue_req(self, conn: Any) -> None:
        """Queue a request for a thread. Its time runs from here: waiting for a thread counts."""
        self._give_up_at[conn] = time.monotonic() + self.request_seconds
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
        """Cut off the requests that are late; runs in the main thread, every second at least."""
        super().notify()
        now = time.monotonic()
        for conn, give_up_at in list(self._give_up_at.items()):
            if now > give_up_at:
                # Only the reading side: the thread gets the bytes that have come, then an end, and
                # can still send its answer.
                with contextlib.suppress(OSError):
                    conn.sock.shutdown(socket.SHUT_RD)


def _hang_up(sock: socket.socket) -> None:
    """Close our side of a connection, and read the rest here, for ``LINGER_SECONDS`` at most.

    gunicorn would wait in its main thread, up to 2 s for each client that does not hang up, and let
    nobody in meanwhile. Not to wait at all would reset the connection while the client still sends,
    and the client would lose the answer.
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
