"""Where a job stands in its flow, read from what Celery's own message says.

The message of a job names the task that published it and the first of them all, and it carries the
signatures of whatever is still to follow.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from worker.core.contract import TASK_PREFIX
from worker.core.job import kept
from worker.core.job.models import JobId

_UNNAMED: Final = "~"
"""Begins the id of what has none before it is published; no job id begins so."""


@dataclass(frozen=True, slots=True)
class Step:
    """One job of a flow, and the job it follows."""

    job_id: JobId
    operation: str
    after: JobId | None = None
    joins: bool = False
    """It follows a whole group, of which ``after`` is one."""


def place(headers: Mapping[str, Any]) -> dict[str, str]:
    """Return ``after`` and ``first``: the job that a message follows, and the first of its flow.

    Neither is there for the first itself.
    """
    said = {"after": headers.get("parent_id"), "first": headers.get("root_id")}
    return {name: other for name, other in said.items() if other and other != headers["id"]}


def still_to_come(job_id: JobId, message: str) -> tuple[Step, ...]:
    """List what is to follow a job, by its kept message (:mod:`worker.messages.press`)."""
    head, body = kept.unpack(message)
    if head.get("content-type") != "application/json":
        return ()
    _, _, embed = json.loads(body)
    return following(job_id, embed)


def following(job_id: JobId, embed: Mapping[str, Any]) -> tuple[Step, ...]:
    """List what is to follow a job: ``chain``, ``callbacks`` and ``chord`` of its message."""
    steps: list[Step] = []
    for link in embed.get("callbacks") or ():
        _add(link, job_id, steps)
    _add_chain(reversed(embed.get("chain") or ()), job_id, steps)
    if embed.get("chord"):
        _add(embed["chord"], job_id, steps, joins=True)
    return tuple(steps)


def _add(
    signature: Mapping[str, Any], after: JobId, steps: list[Step], *, joins: bool = False
) -> JobId:
    """Add what a signature stands for; returns the last of it."""
    inner = signature["kwargs"]
    match signature["task"]:
        case "celery.chain":
            return _add_chain(inner["tasks"], after, steps, joins=joins)
        case "celery.group":
            return [after, *(_add(each, after, steps) for each in inner["tasks"])][-1]
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

    A step whose predecessor is not among them stands at the margin. Steps that follow one another
    in a circle, as only a wrong record says, are shown too: the first of them at the margin.
    """
    known = {step.job_id: step for step in steps}
    below: dict[JobId | None, list[Step]] = {}
    for step in known.values():
        below.setdefault(step.after if step.after in known else None, []).append(step)
    left = set(known)
    for root in [*below.get(None, ()), *known.values()]:
        # A stack of our own: a chain may be longer than Python's.
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
