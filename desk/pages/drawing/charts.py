"""The last hour as columns: jobs settled a minute by source, and how long the provider took.

Both read the counters that the scripts keep by minute (``worker/store/counters.py``).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from worker.core import overview
from worker.core.amounts import about
from worker.core.job.models import Source
from worker.core.overview import Counts

MINUTES: Final = 60
HEIGHT: Final = 100
COLUMN: Final = 10
"""The height of a chart, and the width of a column with the gap after it, in units of the SVG."""
GAP: Final = 2
BUCKET: Final = 5
"""So many minutes make one column of waits: a minute alone has too few for a quantile."""
SOURCES: Final = (Source.WEBHOOK, Source.ANSWER, Source.POLL, Source.SWEEP, Source.CANCEL)


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle, and the class that gives it its colour."""

    kind: str
    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class Column:
    """What is drawn of one stretch of time, and the sentence that a pointer finds there."""

    said: str
    boxes: Sequence[Box]


@dataclass(frozen=True, slots=True)
class Chart:
    """Columns from the oldest to the newest, the value at the top, and the sum of each kind."""

    columns: Sequence[Column]
    top: float
    sums: Sequence[tuple[str, int]] = ()

    @property
    def width(self) -> int:
        return MINUTES * COLUMN


def settled(minutes: Sequence[Counts], *, now: float) -> Chart:
    """Draw how many jobs were settled in each minute, by source, as stacked columns."""
    counted = [
        [(source, overview.total(each, "settled", source)) for source in SOURCES]
        for each in minutes
    ]
    top = max((sum(count for _, count in each) for each in counted), default=0)
    columns = [
        Column(
            f"{_clock(now, len(minutes) - 1 - place)}: {_told(counts)}",
            _stack(counts, x=place * COLUMN, scale=HEIGHT / max(top, 1)),
        )
        for place, counts in enumerate(counted)
    ]
    sums = [(str(source), sum(dict(each)[source] for each in counted)) for source in SOURCES]
    return Chart(columns, top, [(source, count) for source, count in sums if count])


def _told(counts: Sequence[tuple[Source, int]]) -> str:
    return ", ".join(f"{count} by {source}" for source, count in counts if count) or "none"


def _stack(counts: Sequence[tuple[Source, int]], *, x: float, scale: float) -> list[Box]:
    boxes, y = [], float(HEIGHT)
    for source, count in counts:
        if count:
            height = round(count * scale, 1)
            y = round(y - height, 1)
            boxes.append(Box(str(source), x, max(y, 0), COLUMN - GAP, height))
    return boxes


def waits(minutes: Sequence[Counts], *, now: float) -> Chart:
    """Draw how long the provider took: columns from the median to the 95th percentile."""
    parts = [minutes[start : start + BUCKET] for start in range(0, len(minutes), BUCKET)]
    found = [quantiles(overview.added(part)) for part in parts]
    top = max((p95 for _, p95 in filter(None, found)), default=0.0)
    scale = HEIGHT / max(top, 1e-9)
    columns = []
    for place, each in enumerate(found):
        since = _clock(now, len(minutes) - 1 - place * BUCKET)
        if each is None:
            columns.append(Column(f"from {since}: none", []))
            continue
        median, p95 = each
        said = f"from {since}: half within {about(median)}, 95 % within {about(p95)}"
        columns.append(Column(said, _range(place * COLUMN * BUCKET, median * scale, p95 * scale)))
    return Chart(columns, top)


def quantiles(counts: Counts) -> tuple[float, float] | None:
    """Say within how many seconds the provider took half, and 95 %, of the jobs; None: of none."""
    waited = overview.histogram(counts, "wait", overview.WAIT_BOUNDS)
    median, p95 = waited.quantile(0.5), waited.quantile(0.95)
    return None if median is None or p95 is None else (median, p95)


def _range(x: float, low: float, high: float) -> list[Box]:
    width = COLUMN * BUCKET - GAP * 2
    return [
        Box("p95", x, round(HEIGHT - high, 1), width, round(max(high - low, 1), 1)),
        Box("p50", x, round(min(HEIGHT - low, HEIGHT - 3), 1), width, 3),
    ]


def _clock(now: float, minutes_ago: int) -> str:
    return f"{datetime.fromtimestamp(now - 60 * minutes_ago, UTC):%H:%M} UTC"
