"""Manifests: from written rows to jobs that can be enqueued, or to a list of errors.

Every row is checked as a single request is, before any of them costs anything. Memory grows only by
one digest of 16 bytes for each row (130 bytes with its place in a dictionary), which tells equal
rows apart.
"""

from worker.core.batch.columns import COLUMNS, OWN_COLUMNS, TEXTS, check_columns
from worker.core.batch.reading import check, check_request
from worker.core.batch.rows import Entry, Row, RowError, row_id

__all__ = [
    "COLUMNS",
    "OWN_COLUMNS",
    "TEXTS",
    "Entry",
    "Row",
    "RowError",
    "check",
    "check_columns",
    "check_request",
    "row_id",
]
