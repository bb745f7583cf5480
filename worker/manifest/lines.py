"""From bytes to numbered lines of text: what is no text is named by its line and place."""

import re
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from worker.core.batch import RowError

LIMIT: Final = 256 * 1024
"""Bytes in a line, and in a row. A song's words are at most 30 KB, escaped."""

_CONTROL: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_OTHER_KINDS: Final = {
    b"\xff\xfe": "UTF-16: save it as UTF-8",
    b"\xfe\xff": "UTF-16: save it as UTF-8",
    b"PK\x03\x04": "a workbook, or a ZIP: save it as CSV, in UTF-8",
    b"\xd0\xcf\x11\xe0": "an old workbook: save it as CSV, in UTF-8",
    b"\x1f\x8b": "packed with gzip: unpack it first",
}
"""How files begin that are no text in UTF-8, and what to do about them."""

_MARK: Final = b"\xef\xbb\xbf"


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
        yield _line(number, raw.removeprefix(_MARK) if number == 1 else raw)


def _no_lines(first: bytes) -> str | None:
    """Say what the first line gives away: that there are no lines to read."""
    for mark, what in _OTHER_KINDS.items():
        if first.startswith(mark):
            return f"the manifest is {what}"
    if b"\r" in first.rstrip(b"\r"):
        ends = "the lines end in carriage returns alone"
        return f"{ends}: save the manifest with line feeds (LF or CRLF)"
    return None


def _split(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Split at line feeds; no more of an over-long line is kept than shows that it is one."""
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
        text = raw.decode().rstrip("\r")
    except UnicodeDecodeError as error:
        byte = raw[error.start]
        return RowError(number, f"byte {error.start + 1}", f"is not UTF-8: 0x{byte:02X}")
    if found := _CONTROL.search(text):
        place = f"character {found.start() + 1}"
        return RowError(number, place, f"is a control character: U+{ord(found[0]):04X}")
    return Line(number, text)
