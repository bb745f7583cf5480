"""The time of one job as bars: how long it was queued, held, submitted, at the provider, resumed.

The bars come from the job's timeline. Each line of it that names a state begins a span, which ends
where the next one begins. A job that goes on has a last span that ends now.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from worker.core.job.models import JobRecord, JSONObject
from worker.core.job.states import TERMINAL, JobState

WIDTH: Final = 1000
"""The width of a track, in units of the SVG."""
_LEAST: Final = 4
"""The width of a span that would be too short to see."""

_S = JobState
PHASES: Final[Mapping[str, frozenset[JobState]]] = {
    "queued": frozenset({_S.QUEUED, _S.ADMITTED}),
    "held": frozenset({_S.HELD}),
    "submit": frozenset({_S.SUBMITTING}),
    "at the provider": frozenset({_S.WAITING, _S.UNCONFIRMED}),
    "resume": frozenset({_S.RESUMING}),
}
"""The phases, in the order in which they are drawn, and the states of each."""

_Span = tuple[JobState, float, float]


@dataclass(frozen=True, slots=True)
class Track:
    """One phase: its spans as (x, width), and its time."""

    phase: str
    spans: Sequence[tuple[float, float]]
    seconds: float
    goes_on: bool


def tracks(record: JobRecord, *, now: float) -> list[Track]:
    """Draw the phases that a job went through. ``now`` is in Unix seconds."""
    spans = list(_spans(record, now))
    if not spans:
        return []
    begin, end = spans[0][1], max(until for _, _, until in spans)
    scale = WIDTH / max(end - begin, 1e-9)
    found = []
    for phase, states in PHASES.items():
        own = [(since - begin, until - since) for state, since, until in spans if state in states]
        if own:
            placed = [_placed(start * scale, length * scale) for start, length in own]
            goes_on = record.state in states
            found.append(Track(phase, placed, sum(length for _, length in own), goes_on))
    return found


def _placed(x: float, width: float) -> tuple[float, float]:
    width = max(width, _LEAST)
    return round(min(x, WIDTH - width), 1), round(width, 1)


def _spans(record: JobRecord, now: float) -> Iterator[_Span]:
    turns = [*_turns(record.timeline)]
    if not turns or turns[0][1] > record.created_at:
        turns.insert(0, (JobState.QUEUED, record.created_at))
    ended = next((at for state, at in turns if state in TERMINAL), None)
    last = turns[-1][1] if record.state in TERMINAL else max(now, turns[-1][1])
    turns = [turn for turn in turns if ended is None or turn[1] <= ended]
    for (state, since), (_, until) in pairwise([*turns, (record.state, ended or last)]):
        if state not in TERMINAL:
            yield state, since, max(until, since)


def _turns(timeline: Iterable[JSONObject]) -> Iterator[tuple[JobState, float]]:
    """Yield each state that the timeline names, and since when the job stands in it."""
    before = None
    for entry in timeline:
        if "state" in entry and entry["state"] != before:
            before = JobState(entry["state"])
            yield before, float(entry["at"])
