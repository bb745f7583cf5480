"""Reads a manifest's bytes, as CSV, JSON Lines or YAML, into rows with their line numbers.

The readers are generators over lines: they hold one row, however long the manifest is. None of them
raises, whatever the bytes are: a line that cannot be read becomes a RowError.
"""

from collections.abc import Iterable, Iterator
from enum import StrEnum
from pathlib import PurePath
from typing import Final

from worker.batch.manifest import documents, json_lines, table
from worker.batch.manifest.lines import lines
from worker.core.batch import Row, RowError, check

__all__ = ["Format", "Row", "RowError", "format_of", "read"]


class Format(StrEnum):
    """The format of a manifest."""

    CSV = "csv"
    JSONL = "jsonl"
    YAML = "yaml"


_SUFFIXES: Final = {
    ".csv": Format.CSV,
    ".jsonl": Format.JSONL,
    ".ndjson": Format.JSONL,
    ".yaml": Format.YAML,
    ".yml": Format.YAML,
}
_READERS: Final = {
    Format.CSV: table.read,
    Format.JSONL: json_lines.read,
    Format.YAML: documents.read,
}


def format_of(filename: str) -> Format | None:
    """Tell the format by a file's suffix."""
    return _SUFFIXES.get(PurePath(filename).suffix.lower())


def read(chunks: Iterable[bytes], *, form: Format) -> Iterator[Row | RowError]:
    """Read and check a manifest, given as chunks of any length, row by row."""
    return check(_READERS[form](lines(chunks)))
