"""Reads files that people wrote. Every such file is read here, in one way."""

from pathlib import Path
from typing import Final

from worker.core.text import NotText, decode, without_mark

LIMIT: Final = 16 * 1024 * 1024
"""The longest file, in bytes. A song's words are at most 30 KB."""


class Unreadable(ValueError):
    """A file that cannot be read as text; ``str()`` names the file, the fault, and what to do."""


def read(path: Path) -> str:
    """Read a UTF-8 file, without a byte-order mark; every line ends in ``\\n``.

    Raises Unreadable.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(LIMIT + 1)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        why = error.strerror if isinstance(error, OSError) else error
        raise Unreadable(f"{path} cannot be read: {why}") from None
    if len(raw) > LIMIT:
        raise Unreadable(f"{path} is longer than {LIMIT:,} bytes")
    try:
        return decode(without_mark(raw)).replace("\r\n", "\n").replace("\r", "\n")
    except NotText as error:
        place = f", line {error.line}, {error.at}" if error.at else ""
        raise Unreadable(f"{path}{place} {error}; save it as UTF-8 text") from None
