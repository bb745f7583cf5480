"""Manifests: from rows as they were written to jobs that can be enqueued, or what is wrong.

Every row is checked as a single request is, before any of them costs anything. Memory stays flat
but for one digest of 16 bytes for each row, by which rows that are equal are told apart.
"""

import hashlib
import json
import math
import re
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, TypeVar

from worker.core import cells
from worker.core.errors import InvalidRequest
from worker.core.fields import Wrong
from worker.core.flows import (
    Branch,
    NamedFlow,
    Plan,
    find_flow,
    parse_branch,
    wrong_fields,
)
from worker.core.models import JobId, JSONObject
from worker.core.operations import OPERATIONS
from worker.core.submission import RESERVED
from worker.core.wording import name as named
from worker.core.wording import suggest

T = TypeVar("T")

OWN_COLUMNS: Final = ("key", "operation", "source", "then", "priority", "tenant")
"""What a row says beside the parameters of its operation."""


COLUMNS: Final = frozenset(OWN_COLUMNS).union(*(row.schema().fields for row in OPERATIONS.values()))
"""Every column that means something to some row."""


class Priority(StrEnum):
    """Who goes first."""

    INTERACTIVE = "interactive"
    BATCH = "batch"


@dataclass(frozen=True, slots=True)
class Entry:
    """One row as it was written."""

    line: int
    values: Mapping[str, Any] = field(repr=False)
    lines: Mapping[str, int] = field(default_factory=dict, repr=False)
    """Where a value has a line of its own: name -> line."""
    untyped: bool = False
    """Every value is text, to be read as its field wants it."""
    wrong: tuple[Wrong, ...] = ()
    """What the reader found wrong."""


@dataclass(frozen=True, slots=True)
class RowError:
    """What is wrong with a row, and where: lines count from 1."""

    line: int
    column: str | None
    """The name of the value; ``character 7`` where the row cannot be read; None: the whole row."""
    reason: str
    key: str | None = None

    def to_json(self) -> JSONObject:
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class Row:
    """A row that is right."""

    line: int
    name: str
    """The operation, or the named flow."""
    plan: Plan
    identity: str
    """What its job ids follow from: its key, or else its content and its number among equals."""
    key: str | None = None
    priority: Priority = Priority.BATCH
    tenant: str | None = None


def job_ids(batch_id: str, row: Row) -> tuple[JobId, ...]:
    """Name the jobs of a row, in the order of ``row.plan.operations``; the same at every run.

    A row with a key keeps its ids whatever else is changed in it. One without keeps them wherever
    it moves in the manifest: rows that are put in, taken out or sorted change no other row's.
    Neither its priority nor how it was written (CSV or YAML, ``5`` or ``5.0``) matters.
    """
    first = uuid.uuid5(uuid.NAMESPACE_URL, f"fermata:batch:{batch_id}\n{row.identity}")
    _, *others = row.plan.operations
    after = (uuid.uuid5(first, f"{at}/{each}") for at, each in enumerate(others, start=1))
    return tuple(JobId(str(each)) for each in (first, *after))


def check_columns(names: Sequence[str]) -> Iterator[Wrong]:
    """Yield what is wrong with the header of a table."""
    for position, name in enumerate(names, start=1):
        if not name:
            yield f"column {position}", "has no name"
        elif name in names[: position - 1]:
            yield named(name), f"named twice: columns {names.index(name) + 1} and {position}"
        elif name in RESERVED:
            yield name, "Fermata sets this field itself"
        elif name not in COLUMNS:
            yield named(name), f"no operation takes it{suggest(name, COLUMNS)}"


def check(entries: Iterable[Entry | RowError]) -> Iterator[Row | RowError]:
    """Check every row; yields those that are right, and all that is wrong with the others."""
    seen = _Seen()
    entry: Entry | RowError | None = None
    for entry in entries:
        if isinstance(entry, RowError):
            yield entry
        else:
            yield from _Reading(entry, seen).result()
    if entry is None:
        yield RowError(1, None, "the manifest has no rows")


class _Seen:
    """The rows so far, by their digests."""

    def __init__(self) -> None:
        self._keys: dict[bytes, int] = {}
        self._rows: dict[bytes, int] = {}

    def key(self, key: str, line: int) -> int | None:
        """Return the line on which a key was given before."""
        digest = _digest(key)
        before = self._keys.get(digest)
        self._keys.setdefault(digest, line)
        return before

    def number(self, row: bytes) -> int:
        """Number a row among its equals, from 1."""
        self._rows[row] = self._rows.get(row, 0) + 1
        return self._rows[row]


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


class _Reading:
    """One row being read: its values, and all that was found wrong so far."""

    def __init__(self, entry: Entry, seen: _Seen) -> None:
        self._entry, self._seen = entry, seen
        self._values = {n: v for n, v in entry.values.items() if v is not None}
        self._wrong = [*entry.wrong]
        self._wrong += [(n, why) for n, v in self._values.items() if (why := _unfit(v))]

    def result(self) -> Iterator[Row | RowError]:
        """Yield the row, or everything that is wrong with it."""
        key = self._key()
        flow = self._take("operation", _flow, required=True)
        branches = self._take("then", _branches) or ()
        priority = self._take("priority", _priority) or Priority.BATCH
        tenant = self._take("tenant", _tenant)
        given = self._parameters(flow) if flow else {}
        source = self._take("source", lambda source: source)
        plan = flow.plan(given, source=source, branches=branches) if flow else None
        if plan and not self._is_wrong("source"):
            self._wrong += [each for each in wrong_fields(plan) if not self._is_wrong(each[0])]
        if flow and plan and not self._wrong:
            said = [flow.name, source, given, branches, tenant]
            identity = f"key/{key}" if key else self._identity(said)
            yield Row(self._entry.line, flow.name, plan, identity, key, priority, tenant)
        for name, why in self._wrong:
            yield RowError(self._line(name), named(name) or None, why, key)

    def _key(self) -> str | None:
        key = self._take("key", _key)
        before = self._seen.key(key, self._line("key")) if key else None
        if before:
            self._wrong.append(("key", f"the same as on line {before}"))
        return key

    def _parameters(self, flow: NamedFlow) -> JSONObject:
        given = {n: v for n, v in self._values.items() if n not in OWN_COLUMNS}
        if not self._entry.untyped:
            return given
        fields = flow.parameters
        return {name: cells.read(fields.get(name), text) for name, text in given.items()}

    def _take(self, name: str, read: Callable[[Any], T], *, required: bool = False) -> T | None:
        value = self._values.get(name)
        if self._is_wrong(name) or (value is None and not required):
            return None
        try:
            return read(value)
        except InvalidRequest as error:
            self._wrong.append((name, error.message))
            return None

    def _is_wrong(self, name: str) -> bool:
        return any(name.partition(".")[0] == each for each, _ in self._wrong)

    def _line(self, name: str) -> int:
        return self._entry.lines.get(name.partition(".")[0], self._entry.line)

    def _identity(self, said: list[Any]) -> str:
        digest = _digest(json.dumps(_plain(said), sort_keys=True))
        return f"row/{digest.hex()}/{self._seen.number(digest)}"


def _plain(value: Any) -> Any:
    """Write equal values alike: CSV and YAML say 5 where JSON says 5.0."""
    match value:
        case dict():
            return {name: _plain(each) for name, each in value.items()}
        case list() | tuple():
            return [_plain(each) for each in value]
        case float() if value.is_integer():
            return int(value)
    return value


_DEEPEST: Final = 16
_GREATEST: Final = 2**63


def _unfit(value: Any, depth: int = 0) -> str | None:
    """Say why a value cannot be sent, whatever takes it: it is no JSON, or no text."""
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
            return next(filter(None, (_unfit(each, depth + 1) for each in parts)), None)
        case list():
            return next(filter(None, (_unfit(each, depth + 1) for each in value)), None)
    return None


def _unfit_text(text: str) -> str | None:
    if "\0" in text:
        return "holds a NUL character"
    try:
        text.encode()
    except UnicodeEncodeError:
        return "holds half a surrogate pair, which is no text"
    return None


# -- the columns of a row's own: each raises InvalidRequest -----------------------------------

KEY_LIMIT: Final = 128
_TENANT: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:~-]{0,63}")


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise InvalidRequest(f"must be text, not {type(value).__name__}")
    return value.strip()


def _key(value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    key = _text(value)
    if not (key.isprintable() and 0 < len(key) <= KEY_LIMIT):
        raise InvalidRequest(f"must be 1 to {KEY_LIMIT} printable characters")
    return key


def _flow(value: Any) -> NamedFlow:
    if value is None:
        raise InvalidRequest("required: the name of an operation or of a flow")
    return find_flow(_text(value))


def _branches(value: Any) -> tuple[Branch, ...]:
    branches = value if isinstance(value, list) else _text(value).split(",")
    return tuple(parse_branch(_text(branch)) for branch in branches)


def _priority(value: Any) -> Priority:
    try:
        return Priority(_text(value))
    except ValueError:
        raise InvalidRequest(f"must be one of {', '.join(Priority)}") from None


def _tenant(value: Any) -> str:
    tenant = _text(value)
    if not _TENANT.fullmatch(tenant):
        raise InvalidRequest(f"must match {_TENANT.pattern}")
    return tenant
