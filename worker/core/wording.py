"""How an error names a user's value: short, printable, and with the known word nearest to it."""

from collections.abc import Iterable
from difflib import get_close_matches
from functools import lru_cache
from typing import Any, Final

SHOWN: Final = 40
"""The most characters of a value that an error repeats: the value may be lyrics."""


def shown(value: Any) -> str:
    """Quote a value for an error: its first characters, the unprintable ones escaped."""
    text = value if isinstance(value, str) else str(type(value).__name__)
    return repr(text[:SHOWN] + "…" if len(text) > SHOWN else text)


def told(error: BaseException) -> str:
    """Name an error with its own text, which the ``repr`` of redis-py's errors leaves out."""
    text, kind = str(error), type(error).__name__
    return f"{kind}: {text}" if text else kind


def name(text: str) -> str:
    """Name a column or a parameter as it is, if it can be printed."""
    return text if text.isprintable() and len(text) <= SHOWN else shown(text)


def suggest(word: str, known: Iterable[str]) -> str:
    """Say which known word was probably meant: ``; did you mean 'mv'?``, or nothing."""
    return _suggest(word[:SHOWN].lower(), tuple(sorted(known)))


# Cached: every row of a manifest may hold the same mistake.
@lru_cache(maxsize=256)
def _suggest(word: str, known: tuple[str, ...]) -> str:
    # ``remaster`` alone is close to ``sonic.remaster`` too.
    tails = {each.rpartition(".")[2]: each for each in known}
    found = get_close_matches(word, [*known, *tails], n=1)
    return f"; did you mean {tails.get(found[0], found[0])!r}?" if found else ""
