"""Adapter: enqueue a flow as native Celery canvas, by task name.

A flow is a first operation and branches after it: branches run in parallel, the steps of one
branch in sequence. All ids are minted here, so that every job can be followed.
"""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from celery import Celery, chain, group
from celery.canvas import Signature

from worker.core import submission
from worker.core.contract import JOB_ID, QUEUE, SLOW_QUEUE, task_name
from worker.core.errors import InvalidRequest
from worker.core.models import JobId, JSONObject
from worker.core.operations import find


@dataclass(frozen=True, slots=True)
class Step:
    """One job of a flow, and the job it follows."""

    job_id: JobId
    operation: str
    after: JobId | None = None


@dataclass(frozen=True, slots=True)
class Flow:
    """An enqueued flow: its jobs, each after the one it follows."""

    steps: tuple[Step, ...]


def enqueue(
    app: Celery,
    operation: str,
    parameters: Mapping[str, Any],
    *,
    source: str | None = None,
    then: tuple[str, Mapping[str, Any]] | None = None,
    branches: Sequence[Sequence[str]] = (),
    job_id: str | None = None,
) -> Flow:
    """Check a flow's first request and enqueue the whole of it.

    Args:
        then: a second operation with parameters of its own, before the branches.

    Raises InvalidRequest before anything is sent; kombu's OperationalError where the broker
    cannot be reached.
    """
    submission.check_parameters(find(operation), parameters, source=source)
    if job_id is not None and not JOB_ID.fullmatch(job_id):
        raise InvalidRequest(f"a job id must match {JOB_ID.pattern}")
    first = Step(JobId(job_id or str(uuid.uuid4())), operation)
    head = _signature(app, first, args=(source,) if source else (), kwargs=dict(parameters))
    steps: list[Step] = [first]
    canvas: Signature[Any] = head
    if then:
        steps += _follow(first, [then[0]])
        canvas = canvas | _signature(app, steps[-1], kwargs=dict(then[1]))
    fork = steps[-1]
    tails: list[Signature[Any]] = []
    for branch in branches:
        branch_steps = _follow(fork, branch)
        steps += branch_steps
        tails.append(chain(*(_signature(app, step) for step in branch_steps), app=app))
    if tails:
        canvas = canvas | (tails[0] if len(tails) == 1 else group(tails, app=app))
    canvas.apply_async()
    return Flow(tuple(steps))


def _follow(first: Step, operations: Sequence[str]) -> list[Step]:
    steps = [first]
    for operation in operations:
        steps.append(Step(JobId(str(uuid.uuid4())), operation, after=steps[-1].job_id))
    return steps[1:]


def _queue(step: Step) -> str:
    return SLOW_QUEUE if find(step.operation).slow else QUEUE


def _signature(
    app: Celery, step: Step, args: tuple[Any, ...] = (), kwargs: JSONObject | None = None
) -> Signature[Any]:
    signature: Signature[Any] = app.signature(
        task_name(step.operation), args=args, kwargs=kwargs or {}, queue=_queue(step)
    )
    return signature.set(task_id=step.job_id)
