"""A real server whose answers a test chooses, and an archive that fetches from it."""

import contextlib
import hashlib
import http.server
import ssl
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from worker.archive.download import Downloader
from worker.archive.files import Archive
from worker.archive.targets import Folder, Target
from worker.core.archive.egress import Egress, Origin
from worker.core.archive.names import DEFAULT_TEMPLATE
from worker.core.errors import ArchiveFailed

SONG = b"ID3" + bytes(range(256)) * 4096
SHA256 = hashlib.sha256(SONG).hexdigest()
LIMIT = 8 * 1024 * 1024


class CDN:
    """A real server on loopback: each path is a function that answers."""

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self.routes: dict[str, Callable[[http.server.BaseHTTPRequestHandler], None]] = {}
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.sent = 0
        cdn = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                cdn.requests.append((self.path, dict(self.headers.items())))
                self.close_connection = True
                with contextlib.suppress(OSError):
                    cdn.routes[self.path.partition("?")[0]](self)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        if context:
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self._server.daemon_threads = True
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign]
        self.port: int = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def paths(self) -> list[str]:
        return [path for path, _ in self.requests]


def answer(
    body: bytes = SONG, *, status: int = 200, kind: str = "audio/mpeg", **headers: str
) -> Callable[[Any], None]:
    def respond(handler: Any) -> None:
        handler.send_response(status)
        given = {"Content-Type": kind, "Content-Length": str(len(body))}
        for name, value in (given | {k.replace("_", "-"): v for k, v in headers.items()}).items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(body)

    return respond


def endless(cdn: CDN, *, length: int | None, total: int = 10 * 1024**3) -> Callable[[Any], None]:
    """A body of 10 GB, with a length or chunked."""

    def respond(handler: Any) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", "audio/mpeg")
        chunk = b"ID3" + bytes(65533)
        if length is None:
            handler.send_header("Transfer-Encoding", "chunked")
            chunk = b"%x\r\n%b\r\n" % (len(chunk), chunk)
        else:
            handler.send_header("Content-Length", str(length))
        handler.end_headers()
        while cdn.sent < total:
            handler.wfile.write(chunk)
            cdn.sent += len(chunk)

    return respond


def resumable(
    *, etag: str = '"v1"', cut_at: int | None = None, body: bytes = SONG
) -> Callable[[Any], None]:
    """A server that takes Range and If-Range, and may break off in the middle."""

    def respond(handler: Any) -> None:
        asked = handler.headers.get("Range", "")
        begin = int(asked[6:-1]) if asked and handler.headers.get("If-Range") == etag else 0
        handler.send_response(206 if begin else 200)
        handler.send_header("Content-Type", "audio/mpeg")
        handler.send_header("ETag", etag)
        handler.send_header("Content-Length", str(len(body) - begin))
        if begin:
            handler.send_header("Content-Range", f"bytes {begin}-{len(body) - 1}/{len(body)}")
        handler.end_headers()
        handler.wfile.write(body[begin:cut_at])

    return respond


def archive_of(
    cdn: CDN, target: Target | Path, *, run_seconds: float = 20, **parts: Any
) -> Archive:
    """An archive that takes a server of the test for the simulator."""
    egress = Egress(("cdn.test",), (Origin("http", "127.0.0.1", cdn.port),))
    tls = ssl.create_default_context()
    usual: dict[str, Any] = {"egress": egress, "tls": tls, "max_bytes": LIMIT}
    downloader = Downloader(**usual | {"connect_seconds": 5} | parts)
    place = Folder(target) if isinstance(target, Path) else target
    return Archive(place, downloader, DEFAULT_TEMPLATE, run_seconds)


def song(*urls: str, job_id: str = "job", **clip: Any) -> dict[str, Any]:
    clips = [
        {"clip_id": f"c{n}", "state": "succeeded", "audio_url": url, **clip}
        for n, url in enumerate(urls)
    ]
    return {
        "job_id": job_id,
        "operation": "sonic.remaster",
        "provider_task_id": "p",
        "clips": clips,
    }


def refused(archive: Archive, *urls: str, retryable: bool = False) -> str:
    """Try to store files that must be refused; returns why, and asserts that none is there."""
    with pytest.raises(ArchiveFailed) as raised:
        archive.store(song(*urls))
    assert raised.value.retryable is retryable
    return str(raised.value)


def files(folder: Path) -> list[str]:
    found = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return sorted(str(path) for path in found)
