"""Use case: read what ``archive.store`` has stored.

A file is there if the manifest of its job names it, and it has the size that the manifest says. No
other name is looked up, whatever it is. A file is read in chunks, however long it is.
"""

import io
import zipfile
from collections.abc import Iterable, Iterator
from datetime import datetime
from functools import cached_property
from typing import BinaryIO, Final

from worker.archive.targets import Folder, Target, open_target
from worker.core.archive import links
from worker.core.archive.links import StoredFile
from worker.core.job.models import JobId

CHUNK_BYTES: Final = 64 * 1024


class Stored:
    """Reads the archive at an fsspec URL, which is opened when somebody first asks for a file.

    Each method raises ArchiveFailed if the archive cannot be read, and ConfigError if it cannot be
    opened.
    """

    def __init__(self, url: str) -> None:
        self._url = url

    @cached_property
    def _target(self) -> Target:
        return open_target(self._url)

    def is_near(self) -> bool:
        """Whether it is a folder of this machine, so that a manifest is read in no time."""
        return isinstance(self._target, Folder)

    def files(self, job_id: JobId) -> list[StoredFile]:
        """List the files of a job's manifest; there are none before it is archived."""
        # Read anew each time: a run of the archive may have stored more since.
        content = self._target.read(links.manifest_name(job_id))
        return [] if content is None else links.stored_files(links.read_manifest(content))

    def find(self, job_id: JobId, name: str) -> StoredFile | None:
        """Find a file that a job's manifest names, and that is there whole."""
        found = next((file for file in self.files(job_id) if file.name == name), None)
        return found if found and self._target.size(name) == found.bytes else None

    def open(self, file: StoredFile) -> BinaryIO:
        """Open a file to read from any place in it."""
        return self._target.open(file.name)

    def zipped(self, files: Iterable[tuple[str, StoredFile]]) -> Iterator[bytes]:
        """Yield a ZIP file of those that are there, as they are: sound is compressed already.

        Args:
            files: each with its name in the ZIP.
        """
        sink = _Sink()
        with zipfile.ZipFile(sink, "w") as archive:
            for name, file in files:
                if self._target.size(file.name) != file.bytes:
                    continue
                info = zipfile.ZipInfo(name, datetime.fromisoformat(file.at).timetuple()[:6])
                # From 2 GiB on, the entry begins with a longer head: it is sent before the file.
                info.file_size = file.bytes
                with self.open(file) as source, archive.open(info, mode="w") as entry:
                    while chunk := source.read(CHUNK_BYTES):
                        entry.write(chunk)
                        yield sink.take()
        yield sink.take()


class _Sink(io.RawIOBase):
    """Holds what was written until it is taken; it cannot seek, for what has left is gone."""

    def __init__(self) -> None:
        super().__init__()
        self._written = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: bytes) -> int:  # type: ignore[override]
        self._written += data
        return len(data)

    def take(self) -> bytes:
        """Return what was written since the last time."""
        taken = bytes(self._written)
        self._written.clear()
        return taken
