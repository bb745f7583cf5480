"""Enqueue Fermata's jobs from a backend, and follow them."""

import os
import uuid
from collections.abc import Collection, Sequence
from dataclasses import replace
from difflib import get_close_matches
from functools import cached_property
from typing import Any, Literal, cast

from celery import Celery, chain, group
from celery.canvas import Signature

from fermata_client.connections import Records, open_app, reachable, records_url
from fermata_client.contract import (
    JOB_ID,
    PRIORITY_HEADER,
    QUEUE,
    TASK_PREFIX,
    TENANT_HEADER,
    job_id_of_key,
)
from fermata_client.errors import WrongCall
from fermata_client.flows import Plan, Step
from fermata_client.jobs import Flow, Job
from fermata_client.operations import FLOWS, OPERATIONS, FlowName, OperationName

Priority = Literal["interactive", "batch"]
Then = OperationName | Sequence[OperationName]
"""A follow-up; or several, each on the result of the one before."""


class Fermata:
    """Fermata, seen from a backend. One for the whole application; threads and forks share it.

    ``fermata = Fermata("redis://…/0")``

    Args:
        broker: the broker's URL, or a Celery app that has it (whose own timeouts then hold).
        result_backend: only for native canvas whose result is awaited with ``.get()``.
        redis_url: where Fermata keeps its records, if that is not the broker.
        timeout_seconds: how long the broker or Redis may take to answer.

    Raises WrongCall where the records cannot be found.
    """

    def __init__(
        self,
        broker: str | Celery,
        result_backend: str | None = None,
        redis_url: str | None = None,
        *,
        timeout_seconds: float = 5,
    ) -> None:
        self._broker = broker
        self._result_backend = result_backend
        self._redis_url = redis_url
        self._timeout = timeout_seconds
        self._apps: dict[int, Celery] = {}
        if isinstance(broker, str) and redis_url is None:
            records_url(broker)

    @property
    def app(self) -> Celery:
        """The Celery app of this process, for native canvas."""
        if isinstance(self._broker, Celery):
            return self._broker
        # A forked child has connections of its own; its parent's are neither used nor closed.
        pid = os.getpid()
        if pid not in self._apps:
            self._apps[pid] = open_app(self._broker, self._result_backend, self._timeout)
        return self._apps[pid]

    def close(self) -> None:
        """Close this process's connections; they open again when they are needed."""
        app = self._apps.pop(os.getpid(), None)
        if app:
            app.close()
        if "_records" in vars(self):
            self._records.close()

    @cached_property
    def _records(self) -> Records:
        url = self._redis_url or records_url(self.app.conf.broker_url)
        return Records(url, self._timeout)

    # Every parameter of an operation is a keyword here; none has the name of one of ours.

    def s(
        self,
        operation: OperationName,
        source: Any = None,
        *,
        job_id: str | None = None,
        priority: Priority | None = None,
        tenant: str | None = None,
        **parameters: Any,
    ) -> Signature[Any]:
        """Return the native signature of one job: for ``chain``, ``group`` and ``chord``.

        ``fermata.s("sonic.remaster", clip_id, mv="chirp-v5") | fermata.s("sonic.wav")``

        Each signature is one job: enqueued twice, its second message changes nothing.

        Raises WrongCall.
        """
        _check(operation, OPERATIONS, "operation")
        given = {PRIORITY_HEADER: priority, TENANT_HEADER: tenant}
        headers = {name: value for name, value in given.items() if value is not None}
        signature: Signature[Any] = self.app.signature(
            TASK_PREFIX + operation,
            args=() if source is None else (source,),
            kwargs=parameters,
            queue=QUEUE,
            task_id=_checked(job_id or str(uuid.uuid4())),
        )
        return signature.set(headers=headers) if headers else signature

    def enqueue(
        self,
        operation: OperationName,
        source: Any = None,
        *,
        job_id: str | None = None,
        idempotency_key: str | None = None,
        priority: Priority | None = None,
        tenant: str | None = None,
        **parameters: Any,
    ) -> Job:
        """Enqueue one job.

        ``fermata.enqueue("sonic.remaster", clip_id, mv="chirp-v5").wait(600)``

        Args:
            source: a clip id, a clip, the result of another job, or a list of these.
            idempotency_key: enqueue one job under this key, however often this is called, for
                as long as the job is on record. The first request counts.
            priority: ``batch`` waits behind ``interactive``, the default.
            tenant: on whose behalf, where tenants share the provider.
            **parameters: docs/operations.md has those of every operation. A worker checks them,
                so that a wrong one fails the job with ``InvalidRequest``, before it costs anything.

        Raises WrongCall, Unavailable.
        """
        _check(operation, OPERATIONS, "operation")
        job_id = _minted(job_id, idempotency_key)
        signature = self.s(
            operation, source, job_id=job_id, priority=priority, tenant=tenant, **parameters
        )
        with reachable("the broker"):
            signature.apply_async()
        return Job([Step(job_id, operation)], self._records, lambda: self.app)

    def enqueue_flow(
        self,
        name: OperationName | FlowName,
        source: Any = None,
        *,
        then: Sequence[Then] = (),
        job_id: str | None = None,
        idempotency_key: str | None = None,
        priority: Priority | None = None,
        tenant: str | None = None,
        **parameters: Any,
    ) -> Flow:
        """Enqueue a named flow, or an operation with follow-ups.

        ``fermata.enqueue_flow("flows.master_pack", clip_id, mv="chirp-v5")``
        ``fermata.enqueue_flow("sonic.cover", clip_id, then=["sonic.wav", "sonic.midi"])``

        Args:
            then: what follows the flow's own steps, in parallel; a list in it is a sequence.
            job_id: of the first job; those of the others derive from it.

        Otherwise as :meth:`enqueue`.
        """
        plan = _plan(name, then)
        steps = list(plan.steps(_minted(job_id, idempotency_key)))
        lane = {"priority": priority, "tenant": tenant}
        first, second = plan.parameters(parameters)
        signatures = [self._step(step, lane) for step in steps[plan.trunk :]]
        canvas = self._step(steps[0], lane | first, source)
        if plan.then:
            canvas |= self._step(steps[1], lane | second)
        tails = [chain(*branch, app=self.app) for branch in plan.split(signatures)]
        if tails:
            canvas |= tails[0] if len(tails) == 1 else group(tails, app=self.app)
        with reachable("the broker"):
            canvas.apply_async()
        return Flow(steps, self._records, lambda: self.app)

    def _step(self, step: Step, given: dict[str, Any], source: Any = None) -> Any:
        operation = cast(OperationName, step.operation)
        return self.s(operation, source, job_id=step.job_id, **given)

    def job(self, job_id: str) -> Job:
        """Return a job by its id. Raises WrongCall where that cannot be one."""
        return Job([Step(_checked(job_id), "")], self._records, lambda: self.app)

    def flow(
        self, name: OperationName | FlowName, job_id: str, *, then: Sequence[Then] = ()
    ) -> Flow:
        """Return a flow by its name, its first job's id and its follow-ups. Raises WrongCall."""
        steps = _plan(name, then).steps(_checked(job_id))
        return Flow(list(steps), self._records, lambda: self.app)


def _plan(name: str, then: Sequence[Then]) -> Plan:
    _check(name, OPERATIONS | FLOWS.keys(), "operation or flow")
    branches = tuple((each,) if isinstance(each, str) else tuple(each) for each in then)
    for branch in branches:
        for operation in branch:
            _check(operation, OPERATIONS, "operation")
    plan = FLOWS.get(cast(FlowName, name)) or Plan(name)
    return replace(plan, branches=(*plan.branches, *branches))


def _check(name: str, known: Collection[str], what: str) -> None:
    if name not in known:
        close = get_close_matches(name, known, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise WrongCall(f"there is no {what} {name!r}{hint}")


def _minted(job_id: str | None, idempotency_key: str | None) -> str:
    if job_id is not None and idempotency_key is not None:
        raise WrongCall("give a job_id or an idempotency_key, not both")
    if idempotency_key is not None:
        return job_id_of_key(idempotency_key)
    return _checked(job_id or str(uuid.uuid4()))


def _checked(job_id: str) -> str:
    if not JOB_ID.fullmatch(job_id):
        raise WrongCall(f"a job id must match {JOB_ID.pattern}: it stands in a URL")
    return job_id
