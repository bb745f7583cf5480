"""Values, whatever field takes them: which can be sent at all, and which are equal."""

import math
from typing import Any, Final

_DEEPEST: Final = 16
_GREATEST: Final = 2**63


def unfit(value: Any, depth: int = 0) -> str | None:
    """Say why no field can take a value: it is no JSON, or no text."""
    match value:
        case str():
            return _unfit_text(value)
        case float() if not math.isfinite(value):
            return "NaN and Infinity are no numbers here"
        case int() if abs(value) >= _GREATEST:
            return "too large a number"
        case dict() | list() if depth == _DEEPEST:
            return "nested too deeply"
        case dict():
            parts = [*value.keys(), *value.values()]
            return next(filter(None, (unfit(each, depth + 1) for each in parts)), None)
        case list():
            return next(filter(None, (unfit(each, depth + 1) for each in value)), None)
    return None


def _unfit_text(text: str) -> str | None:
    if "\0" in text:
        return "holds a NUL character"
    try:
        text.encode()
    except UnicodeEncodeError:
        return "holds half a surrogate pair, which is no text"
    return None


def plain(value: Any) -> Any:
    """Return equal values in one spelling: CSV and YAML may say 5, and JSON 5.0."""
    match value:
        case dict():
            return {name: plain(each) for name, each in value.items()}
        case list() | tuple():
            return [plain(each) for each in value]
        case float() if value.is_integer():
            return int(value)
    return value
