"""Fetches a link that a stranger wrote: from allowed hosts only, within limits of size and time.

``outward.py`` has the call itself, and says where it may go.
"""

import contextlib
import http.client
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from worker.archive.outward import Caller, failures, later
from worker.core.archive.egress import redirected, shown
from worker.core.errors import CallFailed

CHUNK_BYTES: Final = 256 * 1024
REDIRECTS: Final = 5
_REDIRECT: Final = frozenset({301, 302, 303, 307, 308})
# Shortly after a job has ended, its link may answer 403 or 404 because the file is not there yet.
_NOT_YET: Final = frozenset({401, 403, 404, 408, 425, 429})


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Downloader(Caller):
    """Fetches files. Every failure is a CallFailed; ``retryable`` says if it may pass."""

    max_bytes: int

    @contextlib.contextmanager
    def open(
        self, url: str, *, give_up: float, offset: int = 0, validator: str = ""
    ) -> Iterator[Body]:
        """Ask for a file, or for the rest of it from ``offset`` on if it is still that version.

        Args:
            give_up: the time, on the monotonic clock, at which the download is cut off

        Raises CallFailed, here and while the body is read.
        """
        wanted = {"Range": f"bytes={offset}-", "If-Range": validator} if offset else {}
        with contextlib.ExitStack() as stack:
            for _ in range(REDIRECTS + 1):
                answer = stack.enter_context(self.call("GET", url, headers=wanted, give_up=give_up))
                extent = _extent(answer, offset if wanted else 0)
                if answer.status in _REDIRECT:
                    url = redirected(url, answer.headers.get("Location", ""))
                elif wanted and extent is None:
                    wanted = {}  # not the rest that was asked for: ask again for the whole file
                else:
                    yield self._read(url, answer, extent, give_up)
                    return
        raise CallFailed(f"{shown(url)}: more than {REDIRECTS} redirects")

    def _read(
        self, url: str, answer: http.client.HTTPResponse, extent: "_Extent | None", give_up: float
    ) -> Body:
        if extent is None or answer.status not in {200, 206}:
            raise _unsuccessful(url, answer.status)
        if answer.headers.get("Content-Encoding", "identity").lower() != "identity":
            # We asked for none, and nobody can tell beforehand how large a body unpacks to be.
            raise CallFailed(f"{shown(url)}: refused a compressed body")
        begin, size = extent
        if size is None and not answer.chunked:
            raise CallFailed(f"{shown(url)}: refused a body whose end cannot be told from a cut")
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
        with failures(url, give_up):
            while time.monotonic() < give_up and (chunk := answer.read1(CHUNK_BYTES)):
                received += len(chunk)
                if received > self.max_bytes:
                    raise self._too_large(url)
                yield chunk
        if time.monotonic() >= give_up or (size is not None and received != size):
            wanted = "" if size is None else f" of {size}"
            raise later(f"{shown(url)}: only {received}{wanted} bytes came")

    def _too_large(self, url: str) -> CallFailed:
        return CallFailed(
            f"{shown(url)}: larger than the {self.max_bytes} bytes of FERMATA_ARCHIVE_MAX_BYTES"
        )


def _unsuccessful(url: str, status: int) -> CallFailed:
    why = f"{shown(url)}: HTTP {status}"
    return later(why) if status in _NOT_YET or status >= 500 else CallFailed(why)


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
