"""From written rows to rows that can be run, or to all errors in them."""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from worker.core.batch import cells, columns
from worker.core.batch.flows import NamedFlow, wrong_fields
from worker.core.batch.rows import Entry, Row, RowError
from worker.core.batch.values import plain, unfit
from worker.core.errors import InvalidRequest
from worker.core.job.lanes import DEFAULT_TENANT, Priority
from worker.core.job.models import JSONObject
from worker.core.providers.aimusic.fields import Wrong
from worker.core.wording import name as named

T = TypeVar("T")


def check(entries: Iterable[Entry | RowError]) -> Iterator[Row | RowError]:
    """Check every row; yields the rows that are right, and every error of the others."""
    seen = _Seen()
    entry: Entry | RowError | None = None
    for entry in entries:
        if isinstance(entry, RowError):
            yield entry
        else:
            yield from _Reading(entry, seen).result()
    if entry is None:
        yield RowError(1, None, "the manifest has no rows")


def check_request(operation: str, parameters: JSONObject, **own: Any) -> Row | list[Wrong]:
    """Check one request as a row is checked; returns every mistake in it if there is any.

    Args:
        own: the row's own columns; a mistake in another field is named ``parameters.<field>``.
    """
    wrong = [
        (f"parameters.{name}", "no operation takes it")
        for name in sorted(parameters.keys() & set(columns.OWN_COLUMNS))
    ]
    values = {n: value for n, value in parameters.items() if n not in columns.OWN_COLUMNS}
    # A request is a manifest of one row: nothing is decided twice.
    row: Row | None = None
    for each in check([Entry(1, values | own | {"operation": operation})]):
        if isinstance(each, Row):
            row = each
        else:
            wrong.append((_field(each.column), each.reason))
    return wrong if wrong or row is None else row


def _field(column: str | None) -> str:
    """Name the field of a request in which a row's value stood."""
    if column in columns.OWN_COLUMNS:
        return column
    return f"parameters.{column}" if column else "parameters"


class _Seen:
    """The rows so far, by their digests."""

    def __init__(self) -> None:
        # Digests and not texts: a row may hold a song's words, and there may be a million rows.
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
    """One row that is being read: its values, and the errors found so far."""

    def __init__(self, entry: Entry, seen: _Seen) -> None:
        self._entry, self._seen = entry, seen
        self._values = {n: v for n, v in entry.values.items() if v is not None}
        self._wrong = [*entry.wrong]
        self._wrong += [(n, why) for n, v in self._values.items() if (why := unfit(v))]

    def result(self) -> Iterator[Row | RowError]:
        """Yield the row, or each of its errors."""
        key = self._key()
        flow = self._take("operation", columns.read_flow, required=True)
        branches = self._take("then", columns.read_branches) or ()
        priority = self._take("priority", columns.read_priority) or Priority.BATCH
        tenant = self._take("tenant", columns.read_tenant) or DEFAULT_TENANT
        given = self._parameters(flow) if flow else {}
        source = self._take("source", lambda source: source)
        pick = self._take("pick", lambda v: columns.read_pick(v, untyped=self._entry.untyped))
        plan = flow.plan(given, source=source, branches=branches, pick=pick) if flow else None
        # One error for each column: a value that is wrong already is not checked further.
        if plan and not self._is_wrong("source"):
            self._wrong += [each for each in wrong_fields(plan) if not self._is_wrong(each[0])]
        if flow and plan and not self._wrong:
            said = [flow.name, source, given, branches, tenant, *([] if pick is None else [pick])]
            identity = f"key/{key}" if key else self._identity(said)
            yield Row(self._entry.line, flow.name, plan, identity, key, priority, tenant)
        # A document's row has many lines: its errors come in their order, as a person reads it.
        for name, why in sorted(self._wrong, key=lambda each: self._line(each[0])):
            yield RowError(self._line(name), named(name) or None, why, key)

    def _key(self) -> str | None:
        key = self._take("key", columns.read_key)
        before = self._seen.key(key, self._line("key")) if key else None
        if before:
            self._wrong.append(("key", f"the same as on line {before}"))
        return key

    def _parameters(self, flow: NamedFlow) -> JSONObject:
        given = {n: v for n, v in self._values.items() if n not in columns.OWN_COLUMNS}
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
        # Sorted: the order of columns, or of names in a JSON object, must not change a row's id.
        digest = _digest(json.dumps(plain(said), sort_keys=True))
        return f"row/{digest.hex()}/{self._seen.number(digest)}"
