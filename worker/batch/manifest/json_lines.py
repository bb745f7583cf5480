"""JSON Lines: one object to a line. A name that is given twice is an error here; Python's reader
would take the last."""

import json
from collections.abc import Iterable, Iterator
from typing import Any

from worker.batch.manifest.lines import Line
from worker.core.batch import Entry, RowError
from worker.core.providers.aimusic.fields import Wrong


def read(lines: Iterable[Line | RowError]) -> Iterator[Entry | RowError]:
    """Read the rows; blank lines are passed over."""
    begun = False
    for line in lines:
        if isinstance(line, RowError):
            yield line
        elif line.text.strip():
            if not begun and line.text.lstrip().startswith("["):
                yield RowError(line.number, None, "a JSON array: write one object to a line")
                return
            yield _entry(line)
            begun = True


def _entry(line: Line) -> Entry | RowError:
    wrong: list[Wrong] = []

    def read_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        read: dict[str, Any] = {}
        for name, value in pairs:
            if name in read:
                wrong.append((name, "given twice"))
            read[name] = value
        return read

    try:
        values = json.loads(line.text, object_pairs_hook=read_object)
    except json.JSONDecodeError as error:
        return RowError(line.number, f"character {error.colno}", f"is no JSON: {error.msg}")
    except RecursionError:
        return RowError(line.number, None, "nested too deeply")
    except ValueError:
        # Python reads no integer of more than 4,300 digits.
        return RowError(line.number, None, "a number with too many digits")
    if not isinstance(values, dict):
        return RowError(line.number, None, f"must be an object, not {type(values).__name__}")
    return Entry(line.number, values, wrong=tuple(wrong))
