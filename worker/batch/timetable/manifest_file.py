"""The manifest of a schedule: a file that people may change while a run reads it.

A run therefore reads it anew for each slice, and knows its version by its digest. A file that is
not there, or has no known suffix, is a wrong request: the run ends, and its schedule goes on.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from worker.batch import manifest
from worker.core.batch import Row, RowError
from worker.core.errors import InvalidRequest

_CHUNK: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class ManifestFile:
    """A manifest on this machine. All methods raise InvalidRequest if it cannot be read."""

    path: Path

    def digest(self) -> str:
        """Return the SHA-256 of the file's bytes, in hex."""
        try:
            with self.path.open("rb") as opened:
                return hashlib.file_digest(opened, "sha256").hexdigest()
        except OSError as error:
            raise InvalidRequest(f"the manifest cannot be read: {error}") from None

    def rows(self) -> Iterator[Row | RowError]:
        """Read and check the rows, one at a time."""
        form = manifest.format_of(self.path.name)
        if form is None:
            raise InvalidRequest(f"{self.path.name} must end in .csv, .jsonl or .yaml")
        try:
            with self.path.open("rb") as opened:
                yield from manifest.read(iter(lambda: opened.read(_CHUNK), b""), form=form)
        except OSError as error:
            raise InvalidRequest(f"the manifest cannot be read: {error}") from None
