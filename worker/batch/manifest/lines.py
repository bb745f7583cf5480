"""From bytes to numbered lines of text. An error names the line and place that is not text."""

from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from worker.core.batch import RowError
from worker.core.text import NotText, decode, without_mark

LIMIT: Final = 256 * 1024
"""The most bytes in a line, and in a row. A song's words are at most 30 KB, escaped."""

_OTHER_KINDS: Final = {
    b"PK\x03\x04": "a workbook, or a ZIP: save it as CSV, in UTF-8",
    b"\xd0\xcf\x11\xe0": "an old workbook: save it as CSV, in UTF-8",
    b"\x1f\x8b": "packed with gzip: unpack it first",
}
"""The first bytes of files that are not text, and what to do about them."""


class Line(NamedTuple):
    """One line, without its end; numbers count from 1."""

    number: int
    text: str


def lines(chunks: Iterable[bytes]) -> Iterator[Line | RowError]:
    """Split chunks of bytes into lines, or say what is wrong with a line."""
    for number, raw in enumerate(_split(chunks), start=1):
        if number == 1 and (why := _no_lines(raw)):
            yield RowError(1, None, why)
            return
        try:
            yield _line(number, without_mark(raw) if number == 1 else raw)
        except NotText as error:
            yield RowError(1, None, f"the manifest {error}: save it as UTF-8")
            return


def _no_lines(first: bytes) -> str | None:
    """Say why there are no lines to read, if the first one shows that."""
    for mark, what in _OTHER_KINDS.items():
        if first.startswith(mark):
            return f"the manifest is {what}"
    if b"\r" in first.rstrip(b"\r"):
        ends = "the lines end in carriage returns alone"
        return f"{ends}: save the manifest with line feeds (LF or CRLF)"
    return None


def _split(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Split at line feeds. Of a line that is too long, keep one byte more than the limit."""
    held = bytearray()
    for chunk in chunks:
        *ended, rest = chunk.split(b"\n")
        for part in ended:
            held += part[: LIMIT + 1 - len(held)]
            yield bytes(held)
            held.clear()
        held += rest[: LIMIT + 1 - len(held)]
    if held:
        yield bytes(held)


def _line(number: int, raw: bytes) -> Line | RowError:
    if len(raw) > LIMIT:
        return RowError(number, None, f"the line is longer than {LIMIT:,} bytes")
    try:
        return Line(number, decode(raw).rstrip("\r"))
    except NotText as error:
        return RowError(number, error.at, str(error))
