"""Standard output and error, on whatever terminal, pipe or disk they end: never a traceback."""

import codecs
import io
import os
import sys
from typing import Final

_ERRORS: Final = "fermata.replace"
_INSTEAD: Final = {
    "├": "|", "└": "`", "–": "-", "·": "-", "→": "->", "…": "...",
}  # fmt: skip
"""Our own typography; of other people's text, what cannot be shown is a question mark."""


def prepare() -> None:
    """Replace what the terminal's encoding does not have."""
    codecs.register_error(_ERRORS, _replace)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=_ERRORS)


def _replace(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    unknown = error.object[error.start : error.end]
    return "".join(_INSTEAD.get(character, "?") for character in unknown), error.end


def abandon_output() -> None:
    """Forget what could not be written: Python would try again at its end, and complain."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.__stdout__.fileno() if sys.__stdout__ else 1)
    os.close(null)
