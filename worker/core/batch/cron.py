"""A cron line: five fields, each a set of numbers. A minute that is in all of them is due.

Celery's reader is not used: it takes ``MON`` in the fourth field for January and ``*/70`` for the
full hour, and ignores any text after the part that it has understood.
"""

import calendar
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from worker.core.wording import shown, suggest

_PART: Final = re.compile(r"(?:(\*)|(\w+)(?:-(\w+))?)(?:/(\d+))?", re.ASCII)
_LEAP_YEAR: Final = 2028  # any one: 29 February does come


@dataclass(frozen=True, slots=True)
class Cron:
    """A line that was read."""

    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    """Sunday is 0."""

    def matches(self, local: datetime) -> bool:
        """Say whether the line is due at a local minute."""
        return local.minute in self.minutes and self.matches_hour(local)

    def matches_hour(self, local: datetime) -> bool:
        """Say whether the line may be due at a minute of a local hour."""
        return (
            local.hour in self.hours
            and local.day in self.days
            and local.month in self.months
            and local.isoweekday() % 7 in self.weekdays
        )


@dataclass(frozen=True, slots=True)
class _Field:
    place: str
    what: str
    first: int
    last: int
    names: Mapping[str, int] = field(default_factory=dict)

    @property
    def takes(self) -> str:
        named = [name for name in self.names if len(name) == 3]
        return f"{self.first} to {self.last}" + (f", or {named[0]} to {named[-1]}" if named else "")


def _names(names: str, first: int) -> dict[str, int]:
    whole = {name: number for number, name in enumerate(names.split(), first)}
    return {name[:3]: number for name, number in whole.items()} | whole


_MONTHS: Final = (
    "january february march april may june july august september october november december"
)
_WEEKDAYS: Final = "sunday monday tuesday wednesday thursday friday saturday"
_WEEKDAY: Final = _Field("fifth", "day of the week", 0, 7, _names(_WEEKDAYS, 0))
_FIELDS: Final = (
    _Field("first", "minute", 0, 59),
    _Field("second", "hour", 0, 23),
    _Field("third", "day of the month", 1, 31),
    _Field("fourth", "month", 1, 12, _names(_MONTHS, 1)),
    _WEEKDAY,
)


def read(line: str) -> Cron:
    """Read a line.

    Raises ValueError that says what is wrong and, if it can, what was meant. A line that would
    never be due is wrong too.
    """
    texts = line.split()
    if len(texts) != len(_FIELDS):
        example = "as in '0 2 * * *': minute hour day month weekday"
        raise ValueError(f"a cron line is five fields, {example}")
    minutes, hours, days, months, weekdays = (
        frozenset(number for part in text.split(",") for number in _numbers(each, part))
        for each, text in zip(_FIELDS, texts, strict=True)
    )
    if all(min(days) > calendar.monthrange(_LEAP_YEAR, month)[1] for month in months):
        raise ValueError(f"it is never due: none of its months has a day {min(days)}")
    return Cron(minutes, hours, days, months, frozenset(day % 7 for day in weekdays))


def _numbers(each: _Field, part: str) -> range:
    """Read one number, name, range or star of a field."""
    found = _PART.fullmatch(part)
    if found is None:
        raise ValueError(f"{shown(part)} is no {each.what}: {each.takes}")
    star, low, high, step = found.groups()
    first = each.first if star else _number(each, low)
    last = each.last if star else _number(each, high or low)
    if last < first and each is _WEEKDAY:
        last += 7  # a week may begin on any day: sat-mon
    if last < first:
        instead = f"{low}-{each.last},{each.first}-{high}"
        raise ValueError(f"{shown(part)} runs backwards; write {instead}")
    if step and not (star or high):
        raise ValueError(f"{shown(part)}: a step needs a range; write {low}-{each.last}/{step}")
    if step and not 1 <= int(step) <= max(last - first, 1):
        raise ValueError(f"{shown(part)}: no step of {step} fits into {first} to {last}")
    return range(first, last + 1, int(step or 1))


def _number(each: _Field, word: str) -> int:
    if word.isdigit() and each.first <= int(word) <= each.last:
        return int(word)
    name = word.lower()
    if name in each.names:
        return each.names[name]
    for other in _FIELDS:
        if name in other.names:
            belongs = f"it belongs in the {other.place} field"
            raise ValueError(f"{shown(word)} is a {other.what}: {belongs}")
    hint = "" if word.isdigit() else suggest(word, each.names)
    raise ValueError(f"{shown(word)} is no {each.what}: {each.takes}{hint}")
