"""Enqueues a flow as native Celery canvas, by task name.

A flow is a first operation and branches after it: branches run in parallel, the steps of one branch
in sequence. Producers and batches call ``enqueue``. It chooses all ids before anything is sent, so
that the caller can follow every job. The ids of the follow-ups derive from the first job's id, so
that a flow that is enqueued twice has the same ids both times, and its jobs run once.
"""

import contextlib
import dataclasses
import functools
import hashlib
import json
import operator
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from celery import Celery, chain, group
from celery.canvas import Signature

from worker.core.batch.flows import ARCHIVE, Branch, Plan, jobs_of
from worker.core.contract import (
    DIGEST_HEADER,
    JOB_ID,
    NOTIFY,
    QUEUE,
    SLOW_QUEUE,
    TENANT_HEADER,
    task_name,
)
from worker.core.errors import AlreadyEnqueued, InvalidRequest
from worker.core.job.canvas import Step
from worker.core.job.models import JobId, JSONObject
from worker.core.providers import chosen, find

_IDS: Final = uuid.UUID("6c1f2b1e-5d0a-5c39-9f0e-0d3a8b6f4c11")
"""The namespace of derived ids. If it changes, an idempotency key enqueues its flow again."""


Steps = list[Signature[Any]]
"""Steps in sequence."""


@dataclass(frozen=True, slots=True)
class Flow:
    """An enqueued flow: its jobs, each after the one it follows."""

    steps: tuple[Step, ...]


def enqueue(
    app: Celery,
    plan: Plan,
    *,
    job_id: str | None = None,
    idempotency_key: str | None = None,
    headers: Mapping[str, str] | None = None,
    notify: str | None = None,
) -> Flow:
    """Check a flow's first request and enqueue the whole of it.

    Args:
        idempotency_key: enqueue the flow once under this key, however often this is called,
            for as long as its first job is on record.
        headers: of the first message; the follow-ups inherit those that name a lane or a batch.
        notify: a URL that is told when the flow has ended (tasks/notify.py).

    Raises InvalidRequest before anything is sent; kombu's OperationalError if the broker cannot be
    reached, that or StoreUnavailable if the records cannot.
    """
    chosen().check(plan.operation, plan.parameters, source=plan.source, pick=plan.own_pick)
    if job_id is not None and not JOB_ID.fullmatch(job_id):
        raise InvalidRequest(f"a job id must match {JOB_ID.pattern}")
    if job_id is None:
        job_id = _derived(f"key:{idempotency_key}") if idempotency_key else str(uuid.uuid4())
    trunk, branches = lay_out(JobId(job_id), plan)
    given = dict(headers or {})
    if idempotency_key:
        given[DIGEST_HEADER] = _digest(plan, given.get(TENANT_HEADER), notify)
    source = () if plan.source is None else (plan.source,)
    stem = [_signature(app, trunk[0], source, _with_pick(plan.parameters, plan.own_pick))]
    stem[0].set(headers=given)
    # The pick is meant for the jobs on the first result: those after them find one clip.
    picks = _with_pick({}, plan.next_pick)
    if plan.then:
        stem.append(_signature(app, trunk[1], kwargs=plan.then[1] | picks))
        picks = {}
    tails = [
        [_signature(app, step, kwargs={} if n else picks) for n, step in enumerate(branch)]
        for branch in branches
    ]
    if notify:
        _tell(app, notify, trunk[0].job_id, stem, [tail for tail in tails if tail])
    for tail, branch in zip(tails, plan.branches, strict=True):
        if branch != jobs_of(branch):
            tail.append(app.signature(task_name(ARCHIVE), queue=SLOW_QUEUE))
    canvas: Any = functools.reduce(operator.or_, stem)
    ends = [chain(*tail, app=app) for tail in tails]
    if ends:
        canvas = canvas | (ends[0] if len(ends) == 1 else group(ends, app=app))
    # The first call under this key published the flow; its ids are the same as these.
    with contextlib.suppress(AlreadyEnqueued):
        canvas.apply_async()
    return Flow((*trunk, *(step for branch in branches for step in branch)))


def lay_out(job_id: JobId, plan: Plan) -> tuple[list[Step], list[list[Step]]]:
    """Give every job of a plan its id: those in sequence, then those of each branch."""
    trunk = [Step(job_id, plan.operation)]
    if plan.then:
        trunk += _follow(trunk[0], (plan.then[0],), "then")
    tails = [_follow(trunk[-1], jobs_of(each), str(n)) for n, each in enumerate(plan.branches)]
    return trunk, tails


def _derived(name: str) -> str:
    return str(uuid.uuid5(_IDS, name))


def _digest(plan: Plan, tenant: str | None, notify: str | None) -> str:
    *asked, pick = dataclasses.astuple(plan)
    if tenant:
        asked.append(tenant)  # the same song for another tenant is another request
    # What is not asked for leaves no trace: the digest of a request is the same in all versions.
    asked += [
        {name: said} for name, said in (("pick", pick), ("notify", notify)) if said is not None
    ]
    return hashlib.sha256(json.dumps(asked, sort_keys=True, default=str).encode()).hexdigest()


def _follow(first: Step, operations: Branch, branch: str) -> list[Step]:
    steps = [first]
    for operation in operations:
        before = steps[-1].job_id
        job_id = JobId(_derived(f"after:{before}:{branch}"))
        steps.append(Step(job_id, operation, after=before))
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


def _with_pick(parameters: JSONObject, pick: Any) -> JSONObject:
    return parameters if pick is None else parameters | {"pick": pick}


def _tell(app: Celery, url: str, flow_id: JobId, stem: Steps, tails: Sequence[Steps]) -> None:
    """Let the end of each branch be told, and a failure before the branches."""
    given = {"url": url, "flow_id": flow_id}

    def told(**where: int) -> Signature[Any]:
        named: Signature[Any] = app.signature(NOTIFY, kwargs=given | where, queue=SLOW_QUEUE)
        # Monitors are shown the arguments of every task, and a URL may be a secret.
        named.options["kwargsrepr"] = repr({"flow_id": flow_id})
        return named

    # Not a chord: it would fail with its first branch, and no job of it could be retried. Each
    # branch says that it has ended, and the last one to do so tells the URL.
    for step in stem:
        step.link_error(told())
    for number, tail in enumerate(tails):
        for step in tail:
            step.link_error(told(branch=number, branches=len(tails)))
        tail[-1].link(told(branch=number, branches=len(tails)))
    if not tails:
        stem[-1].link(told())
