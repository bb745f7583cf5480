"""Text that people wrote: UTF-8, with or without a byte-order mark, and nothing else.

A file that an editor saved as UTF-16 or Latin-1 is refused before anybody pays for a song with it.
"""

import re
from typing import Final

_MARK: Final = b"\xef\xbb\xbf"
_WIDE_MARKS: Final = (b"\xff\xfe", b"\xfe\xff")
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


class NotText(ValueError):
    """Bytes that are not text; ``str()`` says why, and ``at`` is the place in their line."""

    def __init__(self, why: str, line: int = 1, at: str | None = None) -> None:
        super().__init__(why)
        self.line = line
        self.at = at


def without_mark(raw: bytes) -> bytes:
    """Remove the byte-order mark of UTF-8. Raises NotText if the mark is that of UTF-16."""
    if raw.startswith(_WIDE_MARKS):
        raise NotText("is UTF-16")
    return raw.removeprefix(_MARK)


def decode(raw: bytes) -> str:
    """Decode UTF-8 without control characters other than tabs and line ends. Raises NotText."""
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        line, column = _place(raw[: error.start], b"\n")
        raise NotText(f"is not UTF-8: 0x{raw[error.start]:02X}", line, f"byte {column}") from None
    if found := _CONTROL.search(text):
        line, column = _place(text[: found.start()], "\n")
        why = f"is a control character: U+{ord(found[0]):04X}"
        raise NotText(why, line, f"character {column}")
    return text


def _place(before: bytes | str, end: bytes | str) -> tuple[int, int]:
    """Count lines and places from 1."""
    return before.count(end) + 1, len(before) - before.rfind(end)  # type: ignore[arg-type]
