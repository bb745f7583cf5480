"""Where a job stands in its flow, read from Celery's own message.

A job's message names the task that published it and the first task of the flow. It also carries the
signatures of all steps that are still to follow.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from worker.core import contract
from worker.core.contract import TASK_PREFIX
from worker.core.job import kept
from worker.core.job.models import JobId

_UNNAMED: Final = "~"
"""Begins a made-up id for a step that gets its id when it is published. No job id begins so."""


@dataclass(frozen=True, slots=True)
class Step:
    """One job of a flow, and the job it follows."""

    job_id: JobId
    operation: str
    after: JobId | None = None
    joins: bool = False
    """The step follows a whole group; ``after`` is one job of it."""


def place(headers: Mapping[str, Any]) -> dict[str, str]:
    """Return ``after`` and ``first``: the job that a message follows, and the first of its flow.

    The first job of a flow has neither.
    """
    said = {"after": headers.get("parent_id"), "first": headers.get("root_id")}
    return {name: other for name, other in said.items() if other and other != headers["id"]}


def still_to_come(job_id: JobId, message: str) -> tuple[Step, ...]:
    """List the steps after a job, by its kept message (:mod:`worker.messages.press`)."""
    head, body = kept.unpack(message)
    if head.get("content-type") != "application/json":
        return ()
    _, _, embed = json.loads(body)
    return following(job_id, embed)


def following(job_id: JobId, embed: Mapping[str, Any]) -> tuple[Step, ...]:
    """List the steps after a job: ``chain``, ``callbacks`` and ``chord`` of its message."""
    steps: list[Step] = []
    for link in embed.get("callbacks") or ():
        _add(link, job_id, steps)
    # Celery keeps a message's chain in reverse, so that the next step can be popped off its end.
    _add_chain(reversed(embed.get("chain") or ()), job_id, steps)
    if embed.get("chord"):
        _add(embed["chord"], job_id, steps, joins=True)
    return tuple(steps)


def _add(
    signature: Mapping[str, Any], after: JobId, steps: list[Step], *, joins: bool = False
) -> JobId:
    """Add the steps of a signature; returns the last of them."""
    inner = signature["kwargs"]
    match signature["task"]:
        case "celery.chain":
            return _add_chain(inner["tasks"], after, steps, joins=joins)
        case "celery.group":
            return [after, *(_add(each, after, steps) for each in inner["tasks"])][-1]
        case contract.NOTIFY:
            return after  # it tells of the flow's end, and is no part of it
        case "celery.chord":
            return _add(inner["body"], _add(inner["header"], after, steps), steps, joins=True)
    options = signature["options"]
    job_id = JobId(options.get("task_id") or f"{_UNNAMED}{after}/{len(steps)}")
    steps.append(Step(job_id, signature["task"].removeprefix(TASK_PREFIX), after, joins))
    for link in options.get("link") or ():
        _add(link, job_id, steps)
    if options.get("chord"):
        _add(options["chord"], job_id, steps, joins=True)
    return job_id


def _add_chain(
    signatures: Iterable[Mapping[str, Any]],
    after: JobId,
    steps: list[Step],
    *,
    joins: bool = False,
) -> JobId:
    for each in signatures:
        after, joins = _add(each, after, steps, joins=joins), False
    return after


def branches(steps: Iterable[Step]) -> Iterator[tuple[str, Step]]:
    """Yield steps as a tree: each once, below the one it follows, with the lines that lead to it.

    A step whose predecessor is not among them is at the margin. A damaged record may name steps
    that follow one another in a circle: they are shown too, the first of them at the margin.
    """
    known = {step.job_id: step for step in steps}
    below: dict[JobId | None, list[Step]] = {}
    for step in known.values():
        below.setdefault(step.after if step.after in known else None, []).append(step)
    left = set(known)
    for root in [*below.get(None, ()), *known.values()]:
        # Not recursion: a chain may be longer than Python's stack is deep.
        stack = [("", "", root)]
        while stack:
            lines, margin, step = stack.pop()
            if step.job_id not in left:
                continue
            left.remove(step.job_id)
            yield lines, step
            stack += _below(margin, below.get(step.job_id, []))


def _below(margin: str, children: Sequence[Step]) -> Iterator[tuple[str, str, Step]]:
    """Yield the last child first, each with its lines and with the margin of what follows it."""
    for child in reversed(children):
        last = child is children[-1]
        yield f"{margin}{'└' if last else '├'} ", margin + ("  " if last else "│ "), child
