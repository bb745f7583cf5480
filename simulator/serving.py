"""Serve the simulator from a thread for each connection."""

from __future__ import annotations

import socket
from typing import Any

from flask import Flask
from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler, make_server

BACKLOG = 1024


class QuietHandler(WSGIRequestHandler):
    """Log nothing here: the provider logs what matters, and never a header."""

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        pass

    def connection_dropped(self, error: BaseException, environ: Any = None) -> None:
        self.close_connection = True  # or the client would wait for an answer


def serve(app: Flask, host: str, port: int) -> BaseWSGIServer:
    """Listen, and return a server that is ready to `serve_forever`.

    Port 0 takes any free port. Raises `OSError` when the address cannot be used.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, port), family=family, backlog=BACKLOG) as listener:
        return make_server(
            host,
            listener.getsockname()[1],
            app,
            threaded=True,
            request_handler=QuietHandler,
            fd=listener.fileno(),
        )
