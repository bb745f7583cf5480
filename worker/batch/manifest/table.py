"""CSV: a header, then one record for each row; commas between the cells (RFC 4180).

The standard library's reader takes a stray quote for text, or for the start of a cell that holds
the rest of the file. Here a stray quote is an error, and the next line is read by itself.
"""

import re
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from worker.batch.manifest.lines import LIMIT, Line
from worker.core.batch import COLUMNS, OWN_COLUMNS, Entry, RowError, check_columns
from worker.core.batch.flows import find_flow
from worker.core.errors import InvalidRequest

_QUOTED: Final = re.compile(r'"([^"]*+(?:""[^"]*+)*+)"')
_PLAIN: Final = re.compile(r'[^",]*')
_DELIMITERS: Final = {";": "semicolons", "\t": "tabs", "|": "bars"}
_FOR_EXCEL: Final = re.compile(r'"?sep=,"?', re.IGNORECASE)
_STRAY_QUOTE: Final = "a quote inside a cell: quote the whole cell, and write its quotes twice"
_AFTER_QUOTE: Final = "text after the quote that closes the cell: write a quote inside it twice"
_MOST_LINES: Final = 2_000
"""The most lines in one row: a quote that is never closed must not swallow the file."""


class _Record(NamedTuple):
    line: int
    cells: list[str]


class _BadQuote(Exception):
    def __init__(self, at: int, reason: str) -> None:
        super().__init__(reason)
        self.at, self.reason = at, reason


def read(lines: Iterable[Line | RowError]) -> Iterator[Entry | RowError]:
    """Read the rows. An error of the header is reported once, not for every row."""
    lines = _Lines(lines)
    first = next((line for line in lines if isinstance(line, RowError) or line.text.strip()), None)
    if isinstance(first, Line) and (why := _other_table(first.text)):
        yield RowError(first.number, None, why)
        return
    lines.put_back([first] if first else [])
    records = _records(lines)
    header = next(records, None)
    if header is None or isinstance(header, RowError):
        yield from [header] if header else []
        return
    names = [name.strip() for name in header.cells]
    if why := _no_header(names):
        yield RowError(header.line, None, why)
        return
    # The rows are read in spite of these errors: a person wants to see all errors at once.
    yield from (RowError(header.line, column, why) for column, why in check_columns(names))
    if "operation" not in names:
        yield RowError(header.line, None, "there is no column 'operation'")
        return
    for record in records:
        yield record if isinstance(record, RowError) else _entry(record, names)


def _other_table(first: str) -> str | None:
    """Say which other kind of table this is, if the first line shows that."""
    for delimiter, those in _DELIMITERS.items():
        if first.count(delimiter) > first.count(","):
            return f"the cells are separated by {those}: save the manifest with commas"
    if _FOR_EXCEL.fullmatch(first):
        return "'sep=,' is a line for Excel: delete it, so that the header comes first"
    return None


def _no_header(names: list[str]) -> str | None:
    """Say so if the first line is a row and not a header."""
    if set(OWN_COLUMNS).isdisjoint(names) and any(map(_is_flow, names)):
        return "there is no header: the first line must name the columns"
    return None


def _is_flow(name: str) -> bool:
    try:
        return bool(find_flow(name))
    except InvalidRequest:
        return False


def _entry(record: _Record, names: list[str]) -> Entry | RowError:
    line, cells = record
    if len(cells) != len(names):
        return RowError(
            line, None, f"{len(cells)} cells, where the header has {len(names)} columns"
        )
    values: dict[str, str] = {}
    for name, cell in zip(names, cells, strict=True):
        if name in COLUMNS and cell.strip():
            values.setdefault(name, cell)
    return Entry(line, values, untyped=True)


class _Lines(Iterator[Line | RowError]):
    """Lines, some of which may be put back."""

    def __init__(self, lines: Iterable[Line | RowError]) -> None:
        self._coming, self._back = iter(lines), deque[Line | RowError]()

    def __next__(self) -> Line | RowError:
        return self._back.popleft() if self._back else next(self._coming)

    def put_back(self, lines: list[Line | RowError]) -> None:
        self._back.extendleft(reversed(lines))


def _records(lines: _Lines) -> Iterator[_Record | RowError]:
    for line in lines:
        record = line if isinstance(line, RowError) else _record(line, lines)
        if isinstance(record, RowError) or any(map(str.strip, record.cells)):
            yield record


def _record(line: Line, lines: _Lines) -> _Record | RowError:
    """Read the record that begins with a line; a quoted cell may go on over further lines."""
    try:
        cells, opened = _cells(line.text)
    except _BadQuote as error:
        return RowError(line.number, f"character {error.at + 1}", error.reason)
    if opened is None:
        return _Record(line.number, cells)
    found = _long_record(line, lines)
    if found is None:
        why = "a quote that is never closed, or not where its cell ends"
        return RowError(line.number, f"character {opened + 1}", why)
    return _Record(line.number, found)


def _long_record(first: Line, lines: _Lines) -> list[str] | None:
    """Read a record over several lines. If it does not end well, put the lines back."""
    text, taken = first.text, list[Line | RowError]()
    for line in lines:
        taken.append(line)
        if isinstance(line, RowError) or len(text) > LIMIT or len(taken) > _MOST_LINES:
            break
        text += f"\n{line.text}"
        # Only an odd number of quotes can close the cell, so other lines need no new look: that
        # keeps the work linear.
        if line.text.count('"') % 2 == 0:
            continue
        try:
            cells, opened = _cells(text)
        except _BadQuote:
            break
        if opened is None:
            return cells
    lines.put_back(taken)
    return None


def _cells(text: str) -> tuple[list[str], int | None]:
    """Split a record; also returns the place of a quote that the text does not close.

    Raises _BadQuote.
    """
    cells: list[str] = []
    at = 0
    while True:
        quoted = text.startswith('"', at)
        found = (_QUOTED if quoted else _PLAIN).match(text, at)
        if found is None:
            return cells, at
        cells.append(found[1].replace('""', '"') if quoted else found[0])
        at = found.end()
        if at == len(text):
            return cells, None
        if text[at] != ",":
            raise _BadQuote(at, _AFTER_QUOTE if quoted else _STRAY_QUOTE)
        at += 1
