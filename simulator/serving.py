"""Serve the simulator from a thread for each connection."""

from __future__ import annotations

import socket
from typing import Any

from flask import Flask
from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler, make_server

BACKLOG = 1024


class QuietHandler(WSGIRequestHandler):
    """Log nothing here: `Provider` and `Submissions` log each request, and never a header."""

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        pass

    def connection_dropped(self, error: BaseException, environ: Any = None) -> None:
        self.close_connection = True  # or the client would wait for an answer


def serve(app: Flask, host: str, port: int, *, descriptor: int | None = None) -> BaseWSGIServer:
    """Listen, and return a server that is ready to `serve_forever`.

    Port 0 takes any free port. A descriptor is that of a socket that listens already, in place of
    host and port. Raises `OSError` when the address cannot be used.
    """
    with _listener(host, port, descriptor) as listener:
        host, port = listener.getsockname()[:2]
        return make_server(
            host,
            port,
            app,
            threaded=True,
            request_handler=QuietHandler,
            fd=listener.fileno(),
        )


def _listener(host: str, port: int, descriptor: int | None) -> socket.socket:
    if descriptor is not None:
        return socket.socket(fileno=descriptor)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=BACKLOG)
