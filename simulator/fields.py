"""The rules of request fields: each says, in the provider's words, what is wrong with a value.

Messages in `provider-api.md` §6 are used as they stand, with the limit in force. If no message is
documented, the rule words one in the same manner.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar
from urllib.parse import urlsplit

from .settings import Settings

Body = Mapping[str, object]

# provider-api.md §3.1: both spellings of a model are accepted; the v6 ids came in September 2026.
OLD_VERSIONS = ("v3-5", "v4")
VERSIONS = (*OLD_VERSIONS, "v4-5", "v4-5-plus", "v5", "v5-5", "v6", "v6-wild", "v6-mini")


def spell(*versions: str) -> frozenset[str]:
    """Spell model ids in both ways."""
    return frozenset(f"{family}-{v}" for family in ("sonic", "chirp") for v in versions)


OLD_MODELS = tuple(spell(*OLD_VERSIONS))


def is_old(body: Body) -> bool:
    """Say whether a body asks for a model before v4-5."""
    return body.get("mv") in OLD_MODELS


def as_number(value: object) -> float | None:
    """Read a finite number; true and false are none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return value if abs(value) <= sys.float_info.max else None


@dataclass(frozen=True, slots=True)
class Case:
    """The context of a value: the rest of the body, and the settings."""

    body: Body
    settings: Settings
    when: str = ""  # which operation is meant, as messages say it


@dataclass(frozen=True, slots=True)
class Field:
    """The rule of one field; this one takes any value. `speaks` words the absence as well."""

    speaks: ClassVar[bool] = False

    def problem(self, name: str, value: object, case: Case) -> str | None:
        return None


@dataclass(frozen=True, slots=True)
class Text(Field):
    """A string of at most `most` characters; `old` with the models before v4-5."""

    most: float = math.inf
    old: float = math.inf
    narrow: float = math.inf  # another document's limit, in force with `narrow_limits`
    said: int = 0  # the number in the message, if it is not the limit
    label: str = ""

    def problem(self, name: str, value: object, case: Case) -> str | None:
        if not isinstance(value, str):
            return f"The '{name}' field should be a string."
        limit = min(self.most, self.old) if is_old(case.body) else self.most
        limit = min(limit, self.narrow) if case.settings.narrow_limits else limit
        if len(value) <= limit:
            return None
        said = self.said or f"{limit:g}"
        return f"The {self.label or name} character length should be less than {said}."


@dataclass(frozen=True, slots=True)
class Flag(Field):
    """true or false, and nothing else."""

    speaks: ClassVar[bool] = True

    def problem(self, name: str, value: object, case: Case) -> str | None:
        return None if isinstance(value, bool) else f"The '{name}' field should be boolean."


@dataclass(frozen=True, slots=True)
class Number(Field):
    """A number from `least` to `most`, or greater than `above`."""

    least: float = -math.inf
    most: float = math.inf
    above: float = -math.inf
    whole: bool = False

    def problem(self, name: str, value: object, case: Case) -> str | None:
        number = as_number(value)
        whole = isinstance(value, int) or not self.whole
        if number is not None and whole and self._has(number):
            return None
        kind = "an integer" if self.whole else "a number"
        return f"The '{name}' field should be {kind}{self._limits()}."

    def _has(self, number: float) -> bool:
        return self.least <= number <= self.most and number > self.above

    def _limits(self) -> str:
        if self.most < math.inf:
            return f" between {self.least:g} and {self.most:g}"
        if self.above > -math.inf:
            return f" greater than {self.above:g}"
        return f" of {self.least:g} or more" if self.least > -math.inf else ""


@dataclass(frozen=True, slots=True)
class Scalar(Field):
    """A string or a number."""

    def problem(self, name: str, value: object, case: Case) -> str | None:
        fits = isinstance(value, str | int | float) and not isinstance(value, bool)
        return None if fits else f"The '{name}' field should be a string or a number."


@dataclass(frozen=True, slots=True)
class Choice(Field):
    """One of a few words."""

    choices: tuple[str, ...]

    def problem(self, name: str, value: object, case: Case) -> str | None:
        if isinstance(value, str) and value in self.choices:
            return None
        return f"The '{name}' field should be {' or '.join(map(repr, self.choices))}."


@dataclass(frozen=True, slots=True)
class Model(Field):
    """A model id."""

    speaks: ClassVar[bool] = True
    models: frozenset[str] = spell(*VERSIONS)

    def problem(self, name: str, value: object, case: Case) -> str | None:
        if isinstance(value, str) and value in self.models:
            return None
        return (
            f"The '{name}' field is invalid. "
            "The model should be 'chirp-v3-5','chirp-v4' or 'chirp-v4-5'."
        )


@dataclass(frozen=True, slots=True)
class Address(Field):
    """An HTTP address: of audio, which the provider would probe (§3.3), or of a webhook (§5.1)."""

    webhook: bool = False

    def problem(self, name: str, value: object, case: Case) -> str | None:
        https_only = self.webhook and case.settings.require_https_webhooks
        fits = not self.webhook or len(str(value)) <= 1024
        if fits and _is_url(value, ("https",) if https_only else ("https", "http")):
            return None
        if self.webhook:
            return f"The '{name}' field is invalid."
        return "Audio URL is not accessible. Please provide a public direct audio file URL."


def _is_url(value: object, schemes: tuple[str, ...]) -> bool:
    try:
        parts = urlsplit(value if isinstance(value, str) else "")
    except ValueError:
        return False
    return parts.scheme in schemes and bool(parts.hostname)


@dataclass(frozen=True, slots=True)
class Many(Field):
    """A list, and the rule of its items."""

    item: Field
    least: int
    most: int

    def problem(self, name: str, value: object, case: Case) -> str | None:
        if not isinstance(value, list) or not self.least <= len(value) <= self.most:
            count = f"{self.least}" if self.least == self.most else f"{self.least} to {self.most}"
            return f"The '{name}' field should be a list of {count}."
        problems = (self.item.problem(name, each, case) for each in value)
        return next((problem for problem in problems if problem), None)


@dataclass(frozen=True, slots=True)
class Refuse(Field):
    """A field that belongs to other operations, and is an error here (`duration`: §3.1)."""

    def problem(self, name: str, value: object, case: Case) -> str | None:
        return f"The '{name}' field is not allowed{case.when}."


class Rule:
    """A rule about several fields."""

    def problem(self, body: Body) -> str | None:
        raise NotImplementedError


def present(body: Body, name: str) -> bool:
    """Say whether a field is there; null and the empty string are not."""
    return body.get(name) not in (None, "")


@dataclass(frozen=True, slots=True)
class RequiredWhen(Rule):
    """`name` must be there when the flag `condition` is `value`, unless the flag `spared` is on."""

    name: str
    condition: str
    value: bool
    spared: str = ""

    def problem(self, body: Body) -> str | None:
        if body.get(self.condition) is not self.value or present(body, self.name):
            return None
        if body.get(self.spared) is True:
            return None
        shown = str(self.value).lower()
        return f"The '{self.name}' field is required when {self.condition} = {shown}."


@dataclass(frozen=True, slots=True)
class OnlyWith(Rule):
    """The flag `name` may be true only when the flag `condition` is."""

    name: str
    condition: str

    def problem(self, body: Body) -> str | None:
        if not body.get(self.name) or body.get(self.condition):
            return None
        return f"The '{self.name}' field is only allowed when {self.condition} = true."


@dataclass(frozen=True, slots=True)
class AnyOf(Rule):
    """One of these must be there, or several unless `only_one` may."""

    names: tuple[str, ...]
    only_one: bool = False

    def problem(self, body: Body) -> str | None:
        count = sum(present(body, name) for name in self.names)
        if count == 1 or (count and not self.only_one):
            return None
        quantity = "Exactly" if self.only_one else "At least"
        return f"{quantity} one of {' and '.join(self.names)} is required."


@dataclass(frozen=True, slots=True)
class Span(Rule):
    """When both ends are given, the end comes after the start, by at most `most` seconds."""

    start: str
    end: str
    most: float = math.inf

    def problem(self, body: Body) -> str | None:
        start, end = as_number(body.get(self.start)), as_number(body.get(self.end))
        if start is None or end is None:
            return None
        if end <= start:
            return f"The '{self.end}' field should be greater than '{self.start}'."
        within = end - start <= self.most
        return None if within else f"The range should be {self.most:g} seconds or less."


@dataclass(frozen=True, slots=True)
class Segments(Rule):
    """The plan of a nuro instrumental: named segments with a length (provider-api-2.md §3.9)."""

    names: tuple[str, ...]

    def problem(self, body: Body) -> str | None:
        segments = body.get("segments")
        if segments is None:
            return None
        seconds = [self._seconds(each) for each in segments] if isinstance(segments, list) else []
        least = 30 if len(seconds) == 1 else 5
        fits = all(least <= each <= 120 for each in seconds) and 30 <= sum(seconds) <= 120
        return None if fits else "The 'segments' field is invalid."

    def _seconds(self, segment: object) -> float:
        if not isinstance(segment, dict) or segment.get("name") not in self.names:
            return 0
        return as_number(segment.get("duration")) or 0
