"""The columns that a row has beside its parameters. Each reader raises InvalidRequest."""

import re
from collections.abc import Iterator, Sequence
from typing import Any, Final

from marshmallow import fields

from worker.core.batch.flows import Branch, NamedFlow, find_flow, parse_branch
from worker.core.errors import InvalidRequest
from worker.core.job.lanes import TENANT, TENANT_FORM, Priority
from worker.core.providers.aimusic.fields import Wrong
from worker.core.providers.aimusic.operations import OPERATIONS
from worker.core.providers.aimusic.sources import Pick
from worker.core.providers.aimusic.submission import RESERVED
from worker.core.wording import name as named
from worker.core.wording import suggest

OWN_COLUMNS: Final = ("key", "operation", "source", "pick", "then", "priority", "tenant")
"""The columns beside the parameters of the row's operation."""


COLUMNS: Final = frozenset(OWN_COLUMNS).union(*(row.schema().fields for row in OPERATIONS.values()))
"""Every column that some row can use."""

_TYPED: Final = (fields.Boolean, fields.Integer, fields.Float)
TEXTS: Final = COLUMNS.difference(
    name
    for row in OPERATIONS.values()
    for name, each in row.schema().fields.items()
    if isinstance(each, _TYPED)
)
"""The columns that take a text, or texts, in every operation: no flag and no number."""

KEY_LIMIT: Final = 128
_INDEX: Final = re.compile(r"-?\d{1,9}", re.ASCII)


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


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise InvalidRequest(f"must be text, not {type(value).__name__}")
    return value.strip()


def read_key(value: Any) -> str:
    """Read the row's key: 1 to 128 printable characters, or a whole number."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, float):
        raise InvalidRequest("must be text or a whole number: write it in quotes, as it stands")
    key = _text(value)
    if not (key.isprintable() and 0 < len(key) <= KEY_LIMIT):
        raise InvalidRequest(f"must be 1 to {KEY_LIMIT} printable characters")
    return key


def read_flow(value: Any) -> NamedFlow:
    """Read the operation or the named flow to run."""
    if value is None:
        raise InvalidRequest("required: the name of an operation or of a flow")
    return find_flow(_text(value))


def read_branches(value: Any) -> tuple[Branch, ...]:
    """Read the branches that follow: a list, or one text with commas between them."""
    branches: list[Branch] = []
    wrong: list[str] = []
    for branch in value if isinstance(value, list) else _text(value).split(","):
        try:
            branches.append(parse_branch(_text(branch)))
        except InvalidRequest as error:
            wrong.append(error.message)
    if wrong:
        raise InvalidRequest("; ".join(wrong))
    return tuple(branches)


def read_pick(value: Any, *, untyped: bool = False) -> Pick:
    """Read which clip is meant: its index from 0, or its id."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str) and (text := value.strip()):
        return int(text) if untyped and _INDEX.fullmatch(text) else text
    raise InvalidRequest("must be a clip's index, from 0, or its id")


def read_priority(value: Any) -> Priority:
    """Read the row's priority."""
    try:
        return Priority(_text(value))
    except ValueError:
        raise InvalidRequest(f"must be one of {', '.join(Priority)}") from None


def read_tenant(value: Any) -> str:
    """Read the tenant on whose behalf the row runs."""
    tenant = _text(value)
    if not TENANT.fullmatch(tenant):
        raise InvalidRequest(f"must be {TENANT_FORM}")
    return tenant
