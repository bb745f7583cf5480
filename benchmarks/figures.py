"""Figures: what was measured of Fermata, and of what it is compared with, round by round."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from statistics import median
from typing import Any


@dataclass(frozen=True, slots=True)
class Subject:
    """What is measured, in which unit, and against what."""

    group: str
    name: str
    unit: str
    against: str


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured figure; ``ratios`` holds ours over the other's, one for each round."""

    subject: Subject
    ours: float
    other: float
    ratio: float
    ratios: tuple[float, ...]

    def to_json(self) -> dict[str, Any]:
        fields = asdict(self)
        subject: dict[str, Any] = fields.pop("subject")
        return subject | fields


def compare(subject: Subject, ours: Sequence[float], other: Sequence[float]) -> Figure:
    """Compare round by round: medians of the values, and the median of the rounds' ratios."""
    ratios = tuple(a / b for a, b in zip(ours, other, strict=True))
    return Figure(subject, median(ours), median(other), median(ratios), ratios)


Statistic = Callable[[Sequence[float]], float]
Rounds = Sequence[Sequence[float]]


def compare_pooled(subject: Subject, statistic: Statistic, ours: Rounds, other: Rounds) -> Figure:
    """Compare a statistic of all rounds' values together; the spread is that of single rounds."""
    ratios = tuple(statistic(a) / statistic(b) for a, b in zip(ours, other, strict=True))
    of_ours, of_other = (statistic(list(chain(*rounds))) for rounds in (ours, other))
    return Figure(subject, of_ours, of_other, of_ours / of_other, ratios)


def quantile(share: float) -> Statistic:
    """Return the statistic that a ``share`` (0 to 1) of the values does not exceed."""

    def of(values: Sequence[float]) -> float:
        ordered = sorted(values)
        return ordered[min(int(len(ordered) * share), len(ordered) - 1)]

    return of
