"""The schedules of a process, read from the file that FERMATA_TIMETABLE names.

A process reads its timetable on first use and once, so all that it does in one tick follows from
one version of the file. The paths of the manifests are relative to the timetable's folder.
"""

import functools
from collections.abc import Iterator, Mapping
from pathlib import Path

from worker import text
from worker.batch.timetable.manifest_file import ManifestFile
from worker.core.batch import timetable
from worker.core.batch.timetable import Schedule
from worker.core.errors import ConfigError, InvalidRequest


def read(path: Path) -> tuple[Schedule, ...]:
    """Read a timetable.

    Raises ConfigError.
    """
    try:
        return timetable.parse(text.read(path))
    except text.Unreadable as error:
        raise ConfigError(f"the timetable: {error}") from None


class Schedules(Mapping[str, Schedule]):
    """The schedules, by name.

    Every look raises ConfigError if there is no timetable, or if it is wrong.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path

    @functools.cached_property
    def _by_name(self) -> dict[str, Schedule]:
        if self._path is None:
            raise ConfigError("there is no timetable: name one in FERMATA_TIMETABLE")
        return {each.name: each for each in read(self._path)}

    def __getitem__(self, name: str) -> Schedule:
        return self._by_name[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_name)

    def __len__(self) -> int:
        return len(self._by_name)

    def find(self, name: str) -> Schedule:
        """Return the schedule of a name that a person or a message gave.

        Raises InvalidRequest, ConfigError.
        """
        if name not in self:
            known = ", ".join(self) or "none"
            raise InvalidRequest(f"there is no schedule {name!r}; there are: {known}")
        return self[name]

    def manifest(self, schedule: Schedule) -> ManifestFile:
        """Return the file that a schedule names; it is not opened yet."""
        folder = self._path.parent if self._path else Path()
        return ManifestFile(folder / schedule.manifest)
