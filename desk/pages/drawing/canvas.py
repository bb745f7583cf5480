"""The canvas of a flow as a picture: where each job stands, and what follows what.

A canvas is series-parallel: after a job come branches side by side, and perhaps one step that joins
them all. So the layout needs no graph library. The steps become a tree, in which a step that joins
belongs to the job before its group. A node is given a block that is as high as its branches
together; its branches stand in it one below the other, and what joins them stands behind them.

If many branches are alike, they are drawn as one: a flow of hundreds of jobs stays readable.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from worker.core.job import canvas
from worker.core.job.canvas import Step
from worker.core.job.models import JobId
from worker.core.job.states import LOST, JobState
from worker.messages.watch import Sight

MOST_ALIKE: Final = 20
"""Of more branches that are alike, one is drawn for all."""

NODE_WIDTH: Final = 176
NODE_HEIGHT: Final = 44
COLUMN: Final = 232
ROW: Final = 60
MARGIN: Final = 12

_TO_COME: Final = ("not started", "not run")
_LAST_SEEN: Final = (*_TO_COME, "no record")


@dataclass(slots=True)
class _Part:
    """A node while it is laid out: its jobs, the branches after it, and what joins them."""

    operation: str
    job_ids: list[JobId]
    branches: "list[_Part]" = field(default_factory=list)
    joins: "list[_Part]" = field(default_factory=list)
    shape: int = 0
    rows: int = 1
    length: int = 1
    column: int = 0
    row: float = 0

    @property
    def after(self) -> "list[_Part]":
        return [*self.branches, *self.joins]


@dataclass(frozen=True, slots=True)
class Node:
    """A box of the picture: one job, or many that are alike."""

    operation: str
    job_ids: Sequence[JobId]
    state: str
    """Of one job; of many: the state that deserves to be seen first."""
    said: str
    """``waiting``, or ``180 of 200``: how many have succeeded."""
    x: int
    y: int
    to_come: bool
    """It has no record yet, so it is drawn hollow. An archive never gets one: it is not."""
    job_id: JobId | None
    """The job to go to: of a retried one, that in its place. None: none to see yet, or many."""


@dataclass(frozen=True, slots=True)
class Picture:
    """All nodes and the lines between them, as SVG paths."""

    nodes: Sequence[Node]
    lines: Sequence[str]
    width: int
    height: int


def draw(sights: Sequence[Sight]) -> Picture:
    """Lay out the jobs of a flow."""
    by_id = {sight.step.job_id: sight for sight in sights}
    parts = _in_order(_plant(sight.step for sight in sights))
    nodes = {id(part): _node(part, by_id) for part in parts}
    lines = [
        _line(nodes[id(end)], nodes[id(following)])
        for part in parts
        for ends, followings in (([part], part.branches), (_ends_of(part), part.joins))
        for end in ends
        for following in followings
    ]
    return Picture(
        list(nodes.values()),
        lines,
        max((node.x for node in nodes.values()), default=0) + NODE_WIDTH + MARGIN,
        max((node.y for node in nodes.values()), default=0) + NODE_HEIGHT + MARGIN,
    )


def _plant(steps: Iterable[Step]) -> list[_Part]:
    """Make the tree of a flow, with alike branches as one; returns its roots, placed."""
    roots: list[_Part] = []
    parts: dict[JobId, _Part] = {}
    above: dict[JobId, JobId | None] = {}
    ordered = [step for _, step in canvas.branches(steps)]
    branching = Counter(step.after for step in ordered if not step.joins)
    joining = {step.job_id for step in ordered if step.joins}
    for step in ordered:
        part = parts[step.job_id] = _Part(step.operation, [step.job_id])
        before = step.after if step.after in above else None
        fork = _fork(before, above, branching, joining) if step.joins else None
        above[step.job_id] = fork or before
        if fork:
            parts[fork].joins.append(part)
        else:
            (parts[before].branches if before else roots).append(part)
    for part in reversed(_in_order(roots)):
        _measure(part)
    _place(roots)
    return roots


def _fork(
    last: JobId | None,
    above: Mapping[JobId, JobId | None],
    branching: Mapping[JobId | None, int],
    joining: Collection[JobId],
) -> JobId | None:
    """Find the job before a group, from a job of that group; None if it is not on record."""
    while last and (before := above[last]):
        # What joins an inner group stands behind it: that group is not the one that is looked for.
        if branching[before] > 1 and last not in joining:
            return before
        last = before
    return None


def _in_order(roots: Sequence[_Part]) -> list[_Part]:
    """List all parts, each before those that follow it."""
    found, left = [], [*reversed(roots)]
    while left:
        part = left.pop()
        found.append(part)
        left += reversed(part.after)
    return found


def _measure(part: _Part) -> None:
    """Fold alike branches, then say how many rows and columns a part takes with what follows."""
    part.branches = _folded(part.branches)
    shapes = tuple(each.shape for each in part.branches), tuple(each.shape for each in part.joins)
    part.shape = hash((part.operation, shapes))
    high = (sum(each.rows for each in part.branches), sum(each.rows for each in part.joins))
    part.rows = max(1, *high)
    part.length = 1 + _longest(part.branches) + _longest(part.joins)


def _longest(parts: Sequence[_Part]) -> int:
    return max((each.length for each in parts), default=0)


def _folded(branches: list[_Part]) -> list[_Part]:
    alike: dict[int, list[_Part]] = {}
    for each in branches:
        alike.setdefault(each.shape, []).append(each)
    return [
        part
        for group in alike.values()
        for part in ([_as_one(group)] if len(group) > MOST_ALIKE else group)
    ]


def _as_one(parts: Sequence[_Part]) -> _Part:
    """Fold parts of one shape, and what follows them, into one."""
    first = parts[0]
    first.job_ids = [job_id for part in parts for job_id in part.job_ids]
    first.branches = [_as_one(each) for each in zip(*(p.branches for p in parts), strict=True)]
    first.joins = [_as_one(each) for each in zip(*(p.joins for p in parts), strict=True)]
    return first


def _place(roots: Sequence[_Part]) -> None:
    """Give each part its column, and the middle of its block of rows."""
    top = 0
    left: list[tuple[_Part, int, float]] = []
    for root in roots:
        left.append((root, 0, top))
        top += root.rows
    while left:
        part, place, start = left.pop()
        part.column, part.row = place, start + (part.rows - 1) / 2
        behind = place + 1
        for parts, column in (
            (part.branches, behind),
            (part.joins, behind + _longest(part.branches)),
        ):
            at = start + (part.rows - sum(each.rows for each in parts)) / 2
            for each in parts:
                left.append((each, column, at))
                at += each.rows


def _ends_of(fork: _Part) -> list[_Part]:
    """List the last parts of the branches of a group."""
    found, left = [], [*fork.branches]
    while left:
        part = left.pop()
        following = part.joins or part.branches
        left += following
        if not following:
            found.append(part)
    return found


def _node(part: _Part, sights: Mapping[JobId, Sight]) -> Node:
    own = [sights[job_id].state for job_id in part.job_ids]
    record = sights[part.job_ids[0]].record
    state = min(own, key=_urgency)
    done = own.count(JobState.SUCCEEDED)
    return Node(
        part.operation,
        part.job_ids,
        state,
        state if len(own) == 1 else f"{done:,} of {len(own):,}",
        MARGIN + part.column * COLUMN,
        round(MARGIN + part.row * ROW),
        all(each in _TO_COME for each in own),
        record.job_id if record and len(own) == 1 else None,
    )


def _urgency(state: str) -> int:
    """Order states: what failed comes first, then what goes on, then what is still to come."""
    if state in LOST:
        return 0
    if state in _LAST_SEEN:
        return 2
    return 3 if state == JobState.SUCCEEDED else 1


def _line(start: Node, end: Node) -> str:
    x1, y1 = start.x + NODE_WIDTH, start.y + NODE_HEIGHT // 2
    x2, y2 = end.x, end.y + NODE_HEIGHT // 2
    bend = COLUMN - NODE_WIDTH
    # A long line runs level beside the nodes that it passes, and bends only at its end.
    return f"M{x1} {y1}H{x2 - bend}C{x2 - bend // 2} {y1} {x2 - bend // 2} {y2} {x2} {y2}"
