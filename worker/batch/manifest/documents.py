"""YAML: a mapping to a document, or a list of mappings; read by its events, a row at a time.

It reads only what JSON has too. It refuses anchors, aliases and tags, so that a few lines cannot
grow into a million. If a parameter takes a text, a plain word is that text, as in a CSV: the key
``007`` is not 7. For other parameters it is a boolean or a number as in YAML 1.2. null is always
null.
"""

import math
import re
from collections.abc import Iterable, Iterator
from typing import Any, Final

import yaml
from yaml import events as seen

from worker.batch.manifest.lines import LIMIT, Line
from worker.core.batch import TEXTS, Entry, RowError
from worker.core.providers.aimusic.fields import Wrong
from worker.core.wording import name as named

# libyaml's loader is several times faster, but not every build of PyYAML has it.
_LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_DEEPEST: Final = 8
_MOST_VALUES: Final = 1_000
"""Values in one row."""

_BREAK: Final = re.compile(r"[\r\x85\u2028\u2029]")
"""Characters that end a line for PyYAML, but not for an editor that counts lines."""

_NULLS: Final = frozenset({"", "~", "null"})
_FLAGS: Final = {"true": True, "false": False}
_WHOLE: Final = re.compile(r"[-+]?\d{1,18}", re.ASCII)
_NUMBER: Final = re.compile(r"[-+]?(\.\d+|\d+\.?\d*)(e[-+]?\d+)?", re.ASCII | re.IGNORECASE)
_NO_NUMBER: Final = re.compile(r"[-+]?\.(inf|nan)", re.IGNORECASE)


class _Stream:
    """The lines as a file that PyYAML can read; it ends at a line that is not text."""

    def __init__(self, lines: Iterable[Line | RowError]) -> None:
        self._lines = iter(lines)
        self.broken: RowError | None = None
        self.line = 0
        self.begin_row(1)

    def begin_row(self, line: int) -> None:
        self._row, self._given = line, 0

    def read(self, _: int = -1) -> str:
        line = None if self.broken else self._next()
        self.line += 1
        if isinstance(line, RowError):
            self.broken = line
        return f"{line.text}\n" if isinstance(line, Line) else ""

    def _next(self) -> Line | RowError | None:
        # PyYAML reads on only when it lacks text for the next event, so this row is longer still.
        if self._given > LIMIT:
            return RowError(self._row, None, f"the row is longer than {LIMIT:,} characters")
        line = next(self._lines, None)
        if not isinstance(line, Line):
            return line
        self._given += len(line.text) + 1
        if found := _BREAK.search(line.text):
            code = f"{ord(found[0]):04X}"
            why = f"U+{code} is a line break to YAML: write \\u{code} in double quotes"
            return RowError(line.number, f"character {found.start() + 1}", why)
        return line


def read(lines: Iterable[Line | RowError]) -> Iterator[Entry | RowError]:
    """Read the rows up to the first place that is no YAML; nothing after it can be read."""
    stream = _Stream(lines)
    try:
        yield from _rows(yaml.parse(stream, Loader=_LOADER), stream)
    except yaml.YAMLError as error:
        if not stream.broken:
            yield _no_yaml(error, stream.line)
    if stream.broken:
        yield stream.broken


def _no_yaml(error: yaml.YAMLError, line: int) -> RowError:
    mark = getattr(error, "problem_mark", None)
    if mark is None:
        return RowError(line, None, "a character that YAML does not allow")
    why = f"is no YAML: {getattr(error, 'problem', '')}"
    return RowError(mark.line + 1, f"character {mark.column + 1}", why)


def _rows(events: Iterator[Any], stream: _Stream) -> Iterator[Entry | RowError]:
    listed = False
    for event in events:
        match event:
            case seen.SequenceStartEvent() if not listed:
                listed = True
            case seen.SequenceEndEvent():
                listed = False
            case seen.NodeEvent():
                stream.begin_row(_line(event))
                row = _Row(events)
                value = row.value(event)
                if stream.broken:
                    return  # the row may have been meant to go on after the broken line
                if isinstance(value, dict):
                    yield Entry(_line(event), value, row.lines, wrong=tuple(row.wrong))
                elif listed or value is not None or row.wrong:
                    why = row.wrong[0][1] if row.wrong else "must be a mapping: name: value"
                    yield RowError(_line(event), None, why)


def _line(event: Any) -> int:
    return int(event.start_mark.line) + 1


class _Row:
    """One row, put together from its events."""

    def __init__(self, events: Iterator[Any]) -> None:
        self._events = events
        self._column = ""
        self._values = 0
        self.lines: dict[str, int] = {}
        self.wrong: list[Wrong] = []

    def value(self, event: Any, depth: int = 0, *, text: bool = False) -> Any:
        """Read the value that begins with an event; None if it is refused.

        Args:
            text: a plain word is a text as it stands.
        """
        self._values += 1
        # Of all values beyond the limit, only the first is reported.
        if why := self._refused(event, depth):
            if not self._full or self._values == _MOST_VALUES + 1:
                self.wrong.append((self._column, why))
            self._pass_over(event)
            return None
        match event:
            case seen.MappingStartEvent():
                return self._mapping(depth)
            case seen.SequenceStartEvent():
                return self._sequence(depth, text=text)
        return event.value if event.style else _plain(event.value, text=text)

    @property
    def _full(self) -> bool:
        return self._values > _MOST_VALUES

    def _refused(self, event: Any, depth: int) -> str | None:
        if self._full:
            return f"more than {_MOST_VALUES:,} values in one row"
        if event.anchor:
            return "anchors and aliases are not read: write the value out"
        if event.tag:
            return f"tags are not read: {named(event.tag)}"
        if depth > _DEEPEST:
            return "nested too deeply"
        return None

    def _sequence(self, depth: int, *, text: bool) -> list[Any]:
        read = []
        while not isinstance(event := next(self._events), seen.SequenceEndEvent):
            value = self.value(event, depth + 1, text=text)
            if not self._full:
                read.append(value)
        return read

    def _mapping(self, depth: int) -> dict[str, Any]:
        read: dict[str, Any] = {}
        while not isinstance(event := next(self._events), seen.MappingEndEvent):
            name = self._name(event, depth, read)
            text = depth == 0 and name in TEXTS
            value = self.value(next(self._events), depth + 1, text=text)
            if name is not None and not self._full:
                read[name] = value
        return read

    def _name(self, event: Any, depth: int, read: dict[str, Any]) -> str | None:
        if not isinstance(event, seen.ScalarEvent):
            self.value(event, depth + 1)
            self.wrong.append((self._column, "a name must be a word"))
            return None
        name = event.value
        if depth == 0:
            self._column = name
        if not self._full and (why := self._refused(event, depth)):
            self.wrong.append((self._column, why))
        elif name in read:
            first = f": first on line {self.lines[name]}" if depth == 0 else ""
            self.wrong.append((self._column, f"{named(name)} is given twice{first}"))
        if depth == 0 and not self._full:
            self.lines[name] = _line(event)
        return str(name)

    def _pass_over(self, event: Any) -> None:
        open_ends = int(isinstance(event, seen.CollectionStartEvent))
        while open_ends:
            event = next(self._events)
            open_ends += isinstance(event, seen.CollectionStartEvent)
            open_ends -= isinstance(event, seen.CollectionEndEvent)


def _plain(written: str, *, text: bool) -> Any:
    """Read a plain word by YAML 1.2's core schema, without octal and hexadecimal numbers."""
    word = written.lower()
    if word in _NULLS:
        return None
    if text:
        return written
    if word in _FLAGS:
        return _FLAGS[word]
    if _WHOLE.fullmatch(word):
        return int(word)
    if _NO_NUMBER.fullmatch(word):
        return math.nan  # the check of the values refuses it, with a reason
    return float(word) if _NUMBER.fullmatch(word) else written
