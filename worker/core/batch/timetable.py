"""The timetable: which batch runs when, read from TOML."""

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Final
from zoneinfo import ZoneInfo

from worker.core.batch import cron
from worker.core.errors import ConfigError
from worker.core.wording import suggest

NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,40}")
_MINUTE: Final = timedelta(minutes=1)
_YEAR: Final = timedelta(days=366)


class Overlap(StrEnum):
    """What happens to a run that is due while the one before it has not ended."""

    SKIP = "skip"
    QUEUE = "queue"


@dataclass(frozen=True, slots=True)
class Schedule:
    """One line of the timetable."""

    name: str
    cron: str
    """Minute, hour, day, month, weekday: see :mod:`worker.core.batch.cron`."""
    manifest: str
    """A path, relative to the timetable's own."""
    timezone: str = "UTC"
    overlap: Overlap = Overlap.SKIP
    missed_after_seconds: int = 3600
    """How late a run may begin. A later one does not begin, and is reported as missed."""


_KEYS: Final = Schedule.__slots__


def parse(text: str) -> tuple[Schedule, ...]:
    """Read a timetable.

    Raises ConfigError that names every error, with the schedule it is in.
    """
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"the timetable is not TOML: {error}") from None
    tables = document.pop("schedule", [])
    wrong = [f"{key}: unknown; a timetable has [[schedule]] tables only" for key in document]
    if not isinstance(tables, list) or not all(isinstance(each, dict) for each in tables):
        raise ConfigError("the timetable: write each schedule as a [[schedule]] table")
    names = [table.get("name") for table in tables]
    for position, table in enumerate(tables, start=1):
        where = f"schedule {position} ({table.get('name', 'without a name')})"
        wrong += (f"{where}: {why}" for why in _wrong(table, names))
    if wrong:
        raise ConfigError("wrong timetable:\n" + "\n".join(f"  {line}" for line in wrong))
    return tuple(Schedule(**_typed(table)) for table in tables)


def _typed(table: Mapping[str, Any]) -> dict[str, Any]:
    return {**table, "overlap": Overlap(table.get("overlap", Overlap.SKIP))}


def _wrong(table: Mapping[str, Any], names: list[Any]) -> Iterator[str]:
    for key in table:
        if key not in _KEYS:
            yield f"{key}: unknown{suggest(key, _KEYS)}"
    for key in ("name", "cron", "manifest", "timezone", "overlap"):
        if key in table and not isinstance(table[key], str):
            yield f"{key}: must be a text"
            return  # the checks below read texts
    for key in ("name", "cron", "manifest"):
        if not table.get(key):
            yield f"{key}: required"
    yield from _wrong_values(table, names)


def _wrong_values(table: Mapping[str, Any], names: list[Any]) -> Iterator[str]:
    name = table.get("name")
    if name and not NAME.fullmatch(name):
        yield f"name: must match {NAME.pattern}"
    if name and names.count(name) > 1:
        yield "name: there are two of it"
    if table.get("overlap", Overlap.SKIP) not in set(Overlap):
        yield f"overlap: must be one of {', '.join(Overlap)}"
    seconds = table.get("missed_after_seconds", 3600)
    if isinstance(seconds, bool) or not isinstance(seconds, int) or not 60 <= seconds <= 86400:
        yield "missed_after_seconds: must be a number from 60 to 86400"
    try:
        ZoneInfo(table.get("timezone", "UTC"))
    except (LookupError, OSError, ValueError):
        yield f"timezone: there is no {table['timezone']!r}; it is named as in Europe/Berlin"
    try:
        cron.read(table.get("cron", "* * * * *"))  # a missing line is reported as missing already
    except ValueError as error:
        yield f"cron: {error}"


def due_minutes(schedule: Schedule, *, after: float, now: float) -> list[datetime]:
    """List the minutes (UTC) at which a schedule was due, later than ``after``, up to now.

    It looks at each minute of UTC once. So a local time that a clock change repeats is due twice,
    and one that a clock change leaves out is not due. It looks back a day at most.
    """
    zone, due = ZoneInfo(schedule.timezone), cron.read(schedule.cron)
    minute = datetime.fromtimestamp(now, UTC).replace(second=0, microsecond=0)
    earliest = max(datetime.fromtimestamp(after, UTC), minute - timedelta(days=1))
    found: list[datetime] = []
    # Backwards in UTC, at most 1,440 steps: local time may repeat or leave out an hour.
    while minute > earliest:
        if due.matches(minute.astimezone(zone)):
            found.append(minute)
        minute -= _MINUTE
    return found[::-1]


def next_minutes(schedule: Schedule, *, after: float, count: int) -> list[datetime]:
    """List the next minutes (UTC) at which a schedule is due, within a year."""
    zone, due = ZoneInfo(schedule.timezone), cron.read(schedule.cron)
    now = datetime.fromtimestamp(after, UTC)
    quarter = now.replace(minute=now.minute // 15 * 15, second=0, microsecond=0)
    found: list[datetime] = []
    # A zone is some quarters of an hour from UTC: all minutes of a quarter are in one local hour.
    while len(found) < count and quarter < now + _YEAR:
        if due.matches_hour(quarter.astimezone(zone)):
            minutes = (quarter + each * _MINUTE for each in range(15))
            found += (m for m in minutes if m > now and due.matches(m.astimezone(zone)))
        quarter += 15 * _MINUTE
    return found[:count]


def batch_id(schedule: Schedule, due: datetime) -> str:
    """Name the batch of a run; every process finds the same name: ``nightly-20261123T0200Z``."""
    return f"{schedule.name}-{due:%Y%m%dT%H%MZ}"
