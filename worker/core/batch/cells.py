"""From the text in a cell to the value that a request's field takes."""

import json
import re
from typing import Any, Final

from marshmallow import fields

# 18 digits always fit into 64 bits, as values.py demands.
_WHOLE: Final = re.compile(r"[+-]?\d{1,18}", re.ASCII)
_NUMBER: Final = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)
_FLAGS: Final = {"true": True, "false": False}


def read(field: Any, text: str) -> Any:
    """Read a cell as its field's type: a flag, a number, a list, or the text as it stands.

    A cell that cannot be read is returned as it is: the field's own check says what is wrong.
    """
    word = text.strip()
    match field:
        case fields.Boolean():
            return _FLAGS.get(word.lower(), text)
        case fields.Integer() if _WHOLE.fullmatch(word):
            return int(word)
        case fields.Float() if _NUMBER.fullmatch(word):
            return float(word)
        case fields.List():
            return _several(word)
    return text


def _several(word: str) -> Any:
    """Read a list: JSON, or values with commas between them."""
    if not word.startswith("["):
        return [each.strip() for each in word.split(",")]
    try:
        return json.loads(word)
    except (ValueError, RecursionError):
        return word
