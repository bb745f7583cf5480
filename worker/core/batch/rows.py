"""A manifest's rows: as they were written, as they are run, and their errors."""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from worker.core.batch.flows import Plan
from worker.core.job.lanes import DEFAULT_TENANT, Priority
from worker.core.job.models import JobId, JSONObject
from worker.core.providers.aimusic.fields import Wrong


@dataclass(frozen=True, slots=True)
class Entry:
    """One row as it was written."""

    line: int
    values: Mapping[str, Any] = field(repr=False)
    lines: Mapping[str, int] = field(default_factory=dict, repr=False)
    """The lines of values that have a line of their own: name -> line."""
    untyped: bool = False
    """Every value is text, to be read as its field's type."""
    wrong: tuple[Wrong, ...] = ()
    """The errors that the reader found."""


@dataclass(frozen=True, slots=True)
class RowError:
    """An error of a row, with its place: lines count from 1."""

    line: int
    column: str | None
    """The name of the value; ``character 7`` if the row cannot be read; None: the whole row."""
    reason: str
    key: str | None = None

    def to_json(self) -> JSONObject:
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class Row:
    """A row that was checked and is right."""

    line: int
    name: str
    """The operation, or the named flow."""
    plan: Plan
    identity: str
    """The text from which its id follows: its key, else its content and number among equals."""
    key: str | None = None
    priority: Priority = Priority.BATCH
    tenant: str = DEFAULT_TENANT


def row_id(batch_id: str, row: Row) -> JobId:
    """Name the first job of a row, the same at every run; those after it follow from its id.

    A row with a key keeps its id whatever else changes in it. A row without a key keeps its id
    wherever it stands in the manifest: adding, removing or sorting rows changes no other row's id.
    Neither its priority nor its spelling (CSV or YAML, ``5`` or ``5.0``) matters.
    """
    name = f"fermata:batch:{batch_id}\n{row.identity}"
    return JobId(str(uuid.uuid5(uuid.NAMESPACE_URL, name)))
