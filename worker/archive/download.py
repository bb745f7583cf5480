"""Fetches a link that a stranger wrote: from allowed hosts only, within limits of size and time.

Each host name is resolved once, and the download connects to the very address that the egress rule
has judged. So a DNS answer that changes in between changes nothing. TLS still checks the name. The
request goes through no proxy and carries no cookie and no API key.
"""

import contextlib
import http.client
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from worker.core.archive.egress import Egress, Origin, redirected, shown
from worker.core.errors import ArchiveFailed

READ_SECONDS: Final = 30
"""How long a server may send nothing."""

CHUNK_BYTES: Final = 256 * 1024
REDIRECTS: Final = 5
_REDIRECT: Final = frozenset({301, 302, 303, 307, 308})
# Shortly after a job has ended, its link may answer 403 or 404 because the file is not there yet.
_NOT_YET: Final = frozenset({401, 403, 404, 408, 425, 429})

Resolve = Callable[[str, int], list[str]]
Connect = Callable[[str, int, float], socket.socket]


def resolve(host: str, port: int) -> list[str]:
    """Ask the system for a host's addresses."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(address[0]) for *_, address in found]


def connect(address: str, port: int, seconds: float) -> socket.socket:
    """Connect to a numeric address, so that no name is resolved again."""
    return socket.create_connection((address, port), seconds)


@dataclass(frozen=True, slots=True)
class Body:
    """An answer that is being read.

    Args:
        offset: where in the file the bytes begin
        size: of the whole file; None if the server does not say
        validator: tells this version of the file from another, for If-Range
    """

    content_type: str
    offset: int
    size: int | None
    validator: str
    chunks: Iterator[bytes]


@dataclass(frozen=True, slots=True)
class Downloader:
    """Fetches files. Every failure is an ArchiveFailed; ``retryable`` says if it may pass."""

    egress: Egress
    tls: ssl.SSLContext
    connect_seconds: float
    max_bytes: int
    resolve: Resolve = resolve
    connect: Connect = connect

    @contextlib.contextmanager
    def open(
        self, url: str, *, give_up: float, offset: int = 0, validator: str = ""
    ) -> Iterator[Body]:
        """Ask for a file, or for the rest of it from ``offset`` on if it is still that version.

        Args:
            give_up: the time, on the monotonic clock, at which the download is cut off

        Raises ArchiveFailed, here and while the body is read.
        """
        wanted = {"Range": f"bytes={offset}-", "If-Range": validator} if offset else {}
        with contextlib.ExitStack() as stack:
            for _ in range(REDIRECTS + 1):
                answer = stack.enter_context(self._ask(url, wanted, give_up))
                extent = _extent(answer, offset if wanted else 0)
                if answer.status in _REDIRECT:
                    url = redirected(url, answer.headers.get("Location", ""))
                elif wanted and extent is None:
                    wanted = {}  # not the rest that was asked for: ask again for the whole file
                else:
                    yield self._read(url, answer, extent, give_up)
                    return
        raise ArchiveFailed(f"{shown(url)}: more than {REDIRECTS} redirects")

    @contextlib.contextmanager
    def _ask(
        self, url: str, wanted: dict[str, str], give_up: float
    ) -> Iterator[http.client.HTTPResponse]:
        origin = self.egress.admit(url)
        with contextlib.ExitStack() as stack:
            with _failures(url, give_up):
                sock = stack.enter_context(self._connected(origin, give_up))
                stack.enter_context(_cut_off(sock, give_up))
                if origin.scheme == "https":
                    sock = self.tls.wrap_socket(sock, server_hostname=origin.host)
                    stack.enter_context(sock)
                # http.client gets a connected socket, so that it neither resolves nor connects. It
                # writes the Host header from the name; a port that is the default is left out.
                connection = http.client.HTTPConnection(origin.host, origin.port)
                connection.default_port = 443 if origin.scheme == "https" else 80
                connection.sock = sock
                connection.request("GET", origin.target, headers=_HEADERS | wanted)
                answer = stack.enter_context(connection.getresponse())
            yield answer

    def _connected(self, origin: Origin, give_up: float) -> socket.socket:
        addresses = self.resolve(origin.host, origin.port)
        # One forbidden address refuses the whole name: no honest host mixes public and private.
        for address in addresses:
            self.egress.judge(origin, address)
        unreachable: OSError = ConnectionError()
        for address in addresses:
            seconds = min(self.connect_seconds, max(give_up - time.monotonic(), 0.001))
            try:
                sock = self.connect(address, origin.port, seconds)
            except OSError as error:
                unreachable = error
                continue
            sock.settimeout(READ_SECONDS)
            return sock
        raise unreachable

    def _read(
        self, url: str, answer: http.client.HTTPResponse, extent: "_Extent | None", give_up: float
    ) -> Body:
        if extent is None or answer.status not in {200, 206}:
            raise _unsuccessful(url, answer.status)
        if answer.headers.get("Content-Encoding", "identity").lower() != "identity":
            # We asked for none, and nobody can tell beforehand how large a body unpacks to be.
            raise ArchiveFailed(f"{shown(url)}: refused a compressed body")
        begin, size = extent
        if size is None and not answer.chunked:
            raise ArchiveFailed(f"{shown(url)}: refused a body whose end cannot be told from a cut")
        if size is not None and size > self.max_bytes:
            raise self._too_large(url)
        return Body(
            content_type=answer.headers.get("Content-Type", "")[:100],
            offset=begin,
            size=size,
            validator=_validator(answer.headers),
            chunks=self._chunks(url, answer, begin, size, give_up),
        )

    def _chunks(
        self,
        url: str,
        answer: http.client.HTTPResponse,
        begin: int,
        size: int | None,
        give_up: float,
    ) -> Iterator[bytes]:
        received = begin
        # read1 returns the bytes that have come. read would wait until a whole chunk has come.
        with _failures(url, give_up):
            while time.monotonic() < give_up and (chunk := answer.read1(CHUNK_BYTES)):
                received += len(chunk)
                if received > self.max_bytes:
                    raise self._too_large(url)
                yield chunk
        if time.monotonic() >= give_up or (size is not None and received != size):
            wanted = "" if size is None else f" of {size}"
            raise _later(f"{shown(url)}: only {received}{wanted} bytes came")

    def _too_large(self, url: str) -> ArchiveFailed:
        return ArchiveFailed(
            f"{shown(url)}: larger than the {self.max_bytes} bytes of FERMATA_ARCHIVE_MAX_BYTES"
        )


_HEADERS: Final = {
    "Accept": "*/*",
    "Accept-Encoding": "identity",
    "Connection": "close",
    "User-Agent": "fermata",
}


@contextlib.contextmanager
def _cut_off(sock: socket.socket, give_up: float) -> Iterator[None]:
    """Shut a connection at ``give_up``, whatever it is doing.

    A socket's own timeout starts anew with every byte, so a server that sends a byte now and then
    would hold the download for ever.
    """
    # A second handle on the connection: wrapping it in TLS detaches the first one.
    with sock.dup() as handle:
        timer = threading.Timer(max(give_up - time.monotonic(), 0), _shut, [handle])
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            timer.join()


def _shut(handle: socket.socket) -> None:
    with contextlib.suppress(OSError):
        handle.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def _failures(url: str, give_up: float) -> Iterator[None]:
    """Turn an error of the wire into ArchiveFailed, without the library's text: it may quote the
    URL, whose query may be a signature."""
    try:
        yield
    except ssl.SSLCertVerificationError as error:
        raise ArchiveFailed(f"{shown(url)}: its certificate: {error.verify_message}") from None
    except UnicodeError:
        raise ArchiveFailed(f"{shown(url)}: refused a host that cannot be a name") from None
    except (OSError, http.client.HTTPException) as error:
        over = time.monotonic() >= give_up
        why = "the time was over" if over else type(error).__name__
        raise _later(f"{shown(url)}: the download broke off: {why}") from None


def _later(why: str) -> ArchiveFailed:
    return ArchiveFailed(why, {"retryable": True})


def _unsuccessful(url: str, status: int) -> ArchiveFailed:
    why = f"{shown(url)}: HTTP {status}"
    return _later(why) if status in _NOT_YET or status >= 500 else ArchiveFailed(why)


_Extent = tuple[int, int | None]
"""Where a body begins in the file, and the size of the whole file."""


def _extent(answer: http.client.HTTPResponse, offset: int) -> _Extent | None:
    """Read the extent of an answer; None if it is another part than the one asked for, or none."""
    if answer.status == 206:
        said = answer.headers.get("Content-Range", "")
        part = re.fullmatch(r"bytes (\d{1,18})-\d{1,18}/(\d{1,18})", said, re.ASCII)
        return (offset, int(part[2])) if part and int(part[1]) == offset else None
    return None if answer.status == 416 else (0, answer.length)


def _validator(headers: http.client.HTTPMessage) -> str:
    """Return the value for If-Range: a strong ETag, else the date (RFC 9110 §13.1.5)."""
    etag = str(headers.get("ETag", ""))
    strong = etag if not etag.startswith("W/") else ""
    validator = strong or str(headers.get("Last-Modified", ""))
    return validator if validator.isascii() and validator.isprintable() else ""
