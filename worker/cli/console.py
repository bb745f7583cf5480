"""Standard output and error on any terminal, pipe or disk, without a traceback."""

import codecs
import io
import os
import sys
from typing import Final

_ERRORS: Final = "fermata.replace"
_INSTEAD: Final = {
    "├": "|", "└": "`", "–": "-", "·": "-", "→": "->", "…": "...",
}  # fmt: skip
"""Substitutes for our own typography. Any other character becomes a question mark."""


def prepare() -> None:
    """Replace characters that the terminal's encoding lacks."""
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
    """Drop output that could not be written: Python would try again when it ends, and complain."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.__stdout__.fileno() if sys.__stdout__ else 1)
    os.close(null)
