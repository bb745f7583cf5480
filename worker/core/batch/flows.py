"""A plan of jobs that are enqueued together, made from the name of an operation or named flow."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, lru_cache
from itertools import pairwise
from typing import Any, Final

from worker.core.errors import InvalidRequest
from worker.core.job.models import JSONObject
from worker.core.providers.aimusic.fields import Wrong
from worker.core.providers.aimusic.operations import OPERATIONS, Operation, find
from worker.core.providers.aimusic.sources import Pick, Source
from worker.core.providers.aimusic.submission import RESERVED, check_parameters
from worker.core.wording import shown, suggest

ARCHIVE: Final = "archive.store"
"""The task that may be the last step of a branch. It is no job: it has no record and no price."""

Branch = tuple[str, ...]
"""Operations in sequence; each takes the result of the one before and nothing else."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Jobs that are enqueued together: the arguments of :func:`worker.messages.flow.enqueue`."""

    operation: str
    parameters: JSONObject = field(repr=False)
    source: Source = None
    then: tuple[str, JSONObject] | None = field(default=None, repr=False)
    """A second operation with parameters of its own, before the branches."""
    branches: tuple[Branch, ...] = ()
    pick: Pick = None
    """Which clip of the source; without a source, which one of the first job's result the jobs
    directly after it work on."""

    @property
    def own_pick(self) -> Pick:
        """What the first job picks from its source."""
        return None if self.source is None else self.pick

    @property
    def next_pick(self) -> Pick:
        """What the jobs directly after the first one pick from its result."""
        return self.pick if self.source is None else None

    @property
    def operations(self) -> Branch:
        """The operation of every job, in the order in which they are enqueued."""
        second = (self.then[0],) if self.then else ()
        return (self.operation, *second, *(op for each in self.branches for op in jobs_of(each)))

    @property
    def credits(self) -> float:
        """The cost of all its jobs, by the list prices in the table of operations."""
        return sum(OPERATIONS[operation].credits for operation in self.operations)


def jobs_of(branch: Branch) -> Branch:
    """Leave out the archive, which may follow the jobs of a branch."""
    return branch[:-1] if branch[-1:] == (ARCHIVE,) else branch


@cache
def _fields(operation: str) -> dict[str, Any]:
    return find(operation).schema().fields


@dataclass(frozen=True, slots=True)
class NamedFlow:
    """One or two operations with parameters, and the branches that follow them."""

    name: str
    operation: str
    then: str | None = None
    branches: tuple[Branch, ...] = ()
    preset: Mapping[str, Any] = field(default_factory=dict)

    @property
    def parameters(self) -> dict[str, Any]:
        """The request fields that it takes, by name."""
        second = _fields(self.then) if self.then else {}
        return {**second, **_fields(self.operation)}

    def plan(
        self,
        parameters: Mapping[str, Any],
        *,
        source: Source = None,
        branches: Sequence[Branch] = (),
        pick: Pick = None,
    ) -> Plan:
        """Plan the flow; further branches run beside its own.

        Each parameter goes to the first operation that has a field of its name. A parameter that
        no operation has goes to the last one, which will refuse it.
        """
        given = {**self.preset, **parameters}
        first, then = given, None
        if self.then:
            fields = _fields(self.operation)
            first = {name: value for name, value in given.items() if name in fields}
            then = (self.then, {name: given[name] for name in given if name not in fields})
        return Plan(self.operation, first, source, then, (*self.branches, *branches), pick)


_PACK: Final[tuple[Branch, ...]] = (("sonic.stems_full",), ("sonic.wav",), ("sonic.midi",))
_CUSTOM: Final = {"custom_mode": True}

FLOWS: Final[dict[str, NamedFlow]] = {
    flow.name: flow
    for flow in (
        NamedFlow(
            "flows.master_pack", "sonic.remaster", branches=(*_PACK, ("sonic.lyrics_timeline",))
        ),
        NamedFlow("flows.instrumental_pack", "sonic.remaster", branches=_PACK),
        NamedFlow("flows.song_from_idea", "lyrics.generate", "sonic.create_music", preset=_CUSTOM),
        NamedFlow("flows.extend_and_concat", "sonic.extend", "sonic.concat", preset=_CUSTOM),
        NamedFlow("flows.cover_and_stems", "sonic.cover", "sonic.stems_full", preset=_CUSTOM),
    )
}
"""The named flows; ``tasks.flows`` has each as a signature."""

_FOUND: Final = {name: NamedFlow(name, name) for name in OPERATIONS} | FLOWS


def find_flow(name: str) -> NamedFlow:
    """Find a named flow, or an operation, which is a flow of one job.

    Raises InvalidRequest, with the name that was probably meant.
    """
    try:
        return _FOUND[name]
    except KeyError:
        hint = suggest(name, _FOUND)
        raise InvalidRequest(f"there is no operation or flow {shown(name)}{hint}") from None


def parse_branch(text: str) -> Branch:
    """Parse a branch: ``sonic.stems_full+sonic.midi`` is one after the other.

    Its last step, or its only one, may be the archive.

    Raises InvalidRequest that tells each wrong name, with the one that was probably meant.
    """
    steps = tuple(name.strip() for name in text.split("+"))
    wrong = [
        f"{ARCHIVE} must be the last step of its branch"
        if name == ARCHIVE
        else f"there is no operation {shown(name)}{suggest(name, [*OPERATIONS, ARCHIVE])}"
        for name in jobs_of(steps)
        if name not in OPERATIONS
    ]
    if wrong:
        raise InvalidRequest("; ".join(wrong))
    return steps


def wrong_fields(plan: Plan) -> Iterator[Wrong]:
    """Yield every field of a plan that is wrong, and why; ``then`` for a step of a branch.

    A follow-up is checked with the kind of result that the operation before it brings.
    """
    last = find(plan.operation)
    yield from _wrong(last, plan.parameters, plan.source, plan.own_pick)
    if plan.next_pick is not None and (why := _wrong_next_pick(plan)):
        yield "pick", why
    if plan.then:
        before, last = last, find(plan.then[0])
        yield from _wrong(last, plan.then[1], _stand_in(before, last))
    for branch in plan.branches:
        for earlier, step in pairwise((last.name, *jobs_of(branch))):
            if why := _wrong_step(earlier, step):
                yield "then", f"{step} cannot follow {earlier}: {why}"


def _wrong_next_pick(plan: Plan) -> str:
    """Say why the jobs after the first one cannot pick so; what its result holds, nobody knows."""
    if not (plan.then or plan.branches):
        return "there is nothing to pick from: no source, and no follow-up on the result"
    # Nobody knows how many clips there will be, so an index that is too high is told by the job.
    if isinstance(plan.next_pick, str):
        return "the result is still to come: pick a clip of it by its index, from 0"
    return ""


@lru_cache(maxsize=1024)
def _wrong_step(before: str, step: str) -> str:
    """Say why a step cannot follow another one, whose result is all that it gets."""
    first, then = find(before), find(step)
    if then.clip_field and not first.makes_clips:
        return "it makes no clip"
    return "; ".join(f"{name}: {why}" for name, why in _wrong(then, {}, _stand_in(first, then)))


def _stand_in(before: Operation, after: Operation) -> JSONObject:
    """Build a result of the kind that the operation before brings: clips, or else data."""
    if before.makes_clips:
        return {"clips": [{"clip_id": "…"}], "data": {}}
    data: JSONObject = {}
    for path in after.carries.values():
        *outer, last = path.format(pick=0).split(".")
        inner = data
        for step in outer:
            inner = inner.setdefault(step, {})
        inner[last] = "…"
    return {"clips": [], "data": data}


def _wrong(
    operation: Operation, given: Mapping[str, Any], source: Source, pick: Pick = None
) -> Iterator[Wrong]:
    if operation.retired:
        yield "operation", f"the provider retired {operation.name}: use {operation.retired}"
    try:
        check_parameters(operation, given, source=source, pick=pick)
    except InvalidRequest as error:
        for name, why in error.fields.items():
            for path, reason in _leaves(name, why):
                yield path, _reword(operation, name, reason)


def _leaves(name: str, why: Any) -> Iterator[Wrong]:
    if isinstance(why, dict):
        for position, each in why.items():
            yield from _leaves(f"{name}.{position}", each)
    else:
        yield name, " ".join(why)


def _reword(operation: Operation, name: str, reason: str) -> str:
    """Reword the error of a call for a row of a manifest."""
    if name in RESERVED.union(operation.fixed, [operation.callback_field]):
        return "Fermata sets this field itself"
    if reason.startswith("Unknown field"):
        return f"{operation.name} takes no such parameter{suggest(name, operation.schema().fields)}"
    if reason.startswith("Missing data") and name == operation.clip_field:
        return "required, here or as the source"
    return reason.partition("; in a chain")[0].removesuffix(".")
