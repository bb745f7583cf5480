"""Enqueues Fermata's jobs from a backend, and follows them."""

import os
import uuid
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from difflib import get_close_matches
from functools import cached_property
from typing import Any, Literal, cast, get_args

from celery import Celery, chain, group
from celery.canvas import Signature

from fermata_client.connections import Records, open_app, reachable, records_url
from fermata_client.contract import (
    ARCHIVE,
    JOB_ID,
    PRIORITY_HEADER,
    QUEUE,
    SLOW_QUEUE,
    TASK_PREFIX,
    TENANT,
    TENANT_HEADER,
    Priority,
    job_id_of_key,
)
from fermata_client.errors import WrongCall
from fermata_client.flows import Branch, Plan, Step, jobs_of
from fermata_client.jobs import Flow, Job, Sent
from fermata_client.operations import FLOWS, OPERATIONS, FlowName, OperationName

Then = OperationName | Literal["archive.store"] | Sequence[OperationName | Literal["archive.store"]]
"""A follow-up; or several, each on the result of the one before. The archive may be the last."""

Id = str | uuid.UUID


class Fermata:
    """Fermata as a backend sees it. The application needs one; threads and forks share it.

    ``fermata = Fermata("redis://…/0")``

    Args:
        broker: the broker's URL, or a Celery app that has it (then the app's own timeouts hold).
        result_backend: needed only for native canvas whose result you await with ``.get()``.
        redis_url: the Redis with Fermata's records, if that is not the broker.
        timeout_seconds: how long the broker or Redis may take to answer.
        begin_seconds: how long a worker may take to begin a job that this client has not sent
            itself. The client waits so long for the record of an id; then the id is unknown.

    Raises WrongCall if the records cannot be found.
    """

    def __init__(
        self,
        broker: str | Celery,
        result_backend: str | None = None,
        redis_url: str | None = None,
        *,
        timeout_seconds: float = 5,
        begin_seconds: float = 60,
    ) -> None:
        self._broker = broker
        self._result_backend = result_backend
        self._redis_url = redis_url
        self._timeout = timeout_seconds
        self._begin_seconds = begin_seconds
        self._sent = Sent()
        self._apps: dict[tuple[int, str | None], Celery] = {}
        if isinstance(broker, str) and redis_url is None:
            records_url(broker)

    @property
    def app(self) -> Celery:
        """The Celery app of this process, for native canvas."""
        return self._opened(self._result_backend)

    @property
    def _publisher(self) -> Celery:
        # With a result backend, Celery subscribes to the result of each task that it sends. The
        # client reads results from the records. So a result backend that is away does not keep a
        # job from being enqueued.
        return self._opened("disabled")

    def _opened(self, result_backend: str | None) -> Celery:
        if isinstance(self._broker, Celery):
            return self._broker
        # A forked child has connections of its own; its parent's are neither used nor closed.
        key = os.getpid(), result_backend
        return self._apps.get(key) or self._apps.setdefault(
            key, open_app(self._broker, result_backend, self._timeout)
        )

    def close(self) -> None:
        """Close this process's connections; they open again when they are needed."""
        for key in [key for key in self._apps if key[0] == os.getpid()]:
            self._apps.pop(key).close()
        if "_records" in vars(self):
            self._records.close()

    @cached_property
    def _records(self) -> Records:
        broker = self._broker.conf.broker_url if isinstance(self._broker, Celery) else self._broker
        return Records(self._redis_url or records_url(broker), self._timeout)

    # Every parameter of an operation is a keyword of these methods. None has the name of one of
    # their own parameters.

    def s(
        self,
        operation: OperationName,
        source: Any = None,
        *,
        job_id: Id | None = None,
        priority: Priority | None = None,
        tenant: Id | None = None,
        **parameters: Any,
    ) -> Signature[Any]:
        """Return the native signature of one job: for ``chain``, ``group`` and ``chord``.

        ``fermata.s("sonic.remaster", clip_id, mv="chirp-v5") | fermata.s("sonic.wav")``

        Each signature is one job: if it is enqueued twice, the second message changes nothing.

        Raises WrongCall.
        """
        lane = _headers(priority, tenant)
        step = Step(_checked(job_id or uuid.uuid4()), operation)
        return _signature(self.app, step, source, lane, parameters)

    def enqueue(
        self,
        operation: OperationName,
        source: Any = None,
        *,
        job_id: Id | None = None,
        idempotency_key: Id | None = None,
        priority: Priority | None = None,
        tenant: Id | None = None,
        **parameters: Any,
    ) -> Job:
        """Enqueue one job.

        ``fermata.enqueue("sonic.remaster", clip_id, mv="chirp-v5").wait(600)``

        Args:
            source: a clip id, a clip, the result of another job, or a list of these.
            idempotency_key: enqueue one job under this key, however often this is called, for
                as long as the job is on record. The first request counts.
            priority: ``batch`` waits behind ``interactive``, the default.
            tenant: on whose behalf the job runs, if tenants share the provider.
            **parameters: docs/operations.md has those of every operation. A worker checks them: a
                wrong one fails the job with ``InvalidRequest``, before it costs anything.

        Raises WrongCall, Unavailable.
        """
        step = Step(_minted(job_id, idempotency_key), operation)
        lane = _headers(priority, tenant)
        signature = _signature(self._publisher, step, source, lane, parameters)
        with reachable("the broker"):
            signature.apply_async()
        self._sent.add(step.job_id)
        return self._job(step)

    def enqueue_flow(
        self,
        name: OperationName | FlowName,
        source: Any = None,
        *,
        then: Sequence[Then] = (),
        job_id: Id | None = None,
        idempotency_key: Id | None = None,
        priority: Priority | None = None,
        tenant: Id | None = None,
        **parameters: Any,
    ) -> Flow:
        """Enqueue a named flow, or an operation with follow-ups.

        ``fermata.enqueue_flow("flows.master_pack", clip_id, mv="chirp-v5")``
        ``fermata.enqueue_flow("sonic.cover", clip_id, then=["sonic.wav", "sonic.midi"])``

        Args:
            then: the operations after the flow's own steps, in parallel; a list in it is a
                sequence. Each may end with `archive.store`, which is not waited for.
            job_id: the id of the first job; the ids of the others derive from it.

        Otherwise as :meth:`enqueue`.
        """
        plan = _plan(name, then)
        steps = list(plan.steps(_minted(job_id, idempotency_key)))
        lane = _headers(priority, tenant)
        app = self._publisher

        def job(step: Step, given: dict[str, Any], source: Any = None) -> Any:
            return _signature(app, step, source, lane, given)

        first, second = plan.parameters(parameters)
        canvas = job(steps[0], first, source)
        if plan.then:
            canvas |= job(steps[1], second)
        followers = [job(step, {}) for step in steps[plan.trunk :]]
        tails = plan.split(followers)
        for tail, branch in zip(tails, plan.branches, strict=True):
            if branch != jobs_of(branch):
                tail.append(app.signature(TASK_PREFIX + ARCHIVE, queue=SLOW_QUEUE))
        ends = [chain(*tail, app=app) for tail in tails]
        if ends:
            canvas |= ends[0] if len(ends) == 1 else group(ends, app=app)
        with reachable("the broker"):
            canvas.apply_async()
        self._sent.add(steps[0].job_id)
        return self._flow(steps)

    def job(self, job_id: Id) -> Job:
        """Return a job by its id. Raises WrongCall if it cannot be an id."""
        return self._job(Step(_checked(job_id), ""))

    def flow(
        self, name: OperationName | FlowName, job_id: Id, *, then: Sequence[Then] = ()
    ) -> Flow:
        """Return a flow by its name, its first job's id and its follow-ups. Raises WrongCall."""
        return self._flow(list(_plan(name, then).steps(_checked(job_id))))

    def _job(self, step: Step) -> Job:
        return Job([step], *self._parts)

    def _flow(self, steps: Sequence[Step]) -> Flow:
        return Flow(steps, *self._parts)

    @property
    def _parts(self) -> tuple[Records, Callable[[], Celery], Sent, float]:
        return self._records, lambda: self._publisher, self._sent, self._begin_seconds


def _signature(
    app: Celery,
    step: Step,
    source: Any,
    lane: dict[str, Any],
    parameters: dict[str, Any],
) -> Signature[Any]:
    _check(step.operation, OPERATIONS, "operation")
    if "then" in parameters:
        raise WrongCall("`then` is no parameter of one job: see enqueue_flow")
    signature: Signature[Any] = app.signature(
        TASK_PREFIX + step.operation,
        args=() if source is None else (source,),
        kwargs=parameters,
        queue=QUEUE,
        task_id=step.job_id,
    )
    return signature.set(headers=dict(lane)) if lane else signature


def _headers(priority: object, tenant: object) -> dict[str, Any]:
    """Check a lane as the workers would, and return the headers that name it."""
    if priority not in (None, *get_args(Priority)):
        raise WrongCall(f"the priority must be one of: {', '.join(get_args(Priority))}")
    tenant = _text(tenant)
    if tenant is not None and not (isinstance(tenant, str) and TENANT.fullmatch(tenant)):
        raise WrongCall(f"a tenant must match {TENANT.pattern}")
    given = {PRIORITY_HEADER: priority, TENANT_HEADER: tenant}
    return {name: value for name, value in given.items() if value is not None}


def _plan(name: str, then: Sequence[Then]) -> Plan:
    _check(name, OPERATIONS | FLOWS.keys(), "operation or flow")
    branches = _branches(then)
    for branch in branches:
        for operation in jobs_of(branch):
            _check(operation, OPERATIONS, "operation")
    plan = FLOWS.get(cast(FlowName, name)) or Plan(name)
    return replace(plan, branches=(*plan.branches, *branches))


def _branches(then: Sequence[Then]) -> tuple[Branch, ...]:
    wrong = WrongCall("`then` is a list of operations, and of lists of operations in sequence")
    if isinstance(then, str):
        raise wrong
    try:
        branches = tuple((each,) if isinstance(each, str) else tuple(each) for each in then)
    except TypeError:
        raise wrong from None
    if not all(branches):
        raise wrong
    return branches


def _check(name: str, known: Collection[str], what: str) -> None:
    if name not in known:
        close = get_close_matches(name, known, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise WrongCall(f"there is no {what} {name!r}{hint}")


def _minted(job_id: Id | None, idempotency_key: Id | None) -> str:
    if job_id is not None and idempotency_key is not None:
        raise WrongCall("give a job_id or an idempotency_key, not both")
    if idempotency_key is not None:
        return job_id_of_key(idempotency_key)
    return _checked(job_id or uuid.uuid4())


def _text(value: object) -> object:
    return str(value) if isinstance(value, uuid.UUID) else value


def _checked(job_id: object) -> str:
    job_id = _text(job_id)
    if not (isinstance(job_id, str) and JOB_ID.fullmatch(job_id)):
        raise WrongCall(f"a job id must match {JOB_ID.pattern}: it stands in a URL")
    return job_id
