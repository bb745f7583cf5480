"""A follow-up that can never run fails by itself, and the task before it succeeds.

Celery publishes a next step, a callback, a chord's body or an errback inside the task that it
follows, and takes an error there for that task's own. A song that was paid for would fail, or never
settle, because its next step names a parameter that does not exist. ``worker.app`` therefore calls
``install``, which wraps the method by which Celery publishes each single task.

The worker that runs a follow-up checks its arguments: with wrong ones the follow-up fails there. If
the follow-up has no message (an option that Celery refuses, a serializer that this worker lacks, a
value that JSON cannot hold), it fails here as if it had run: its own chain, chord and errbacks end.

If the broker is away, the task before the follow-up is run again. If RabbitMQ answers and refuses
the message (a queue has other arguments, an exchange does not exist, its user lacks a right), an
operator can mend that: the job before it is resumed again for a day, and then the follow-up fails
with FollowUpRefused. A plain step is not run again: if the broker refuses a message after it
because of a queue or an exchange, the follow-up fails at once.
"""

import time
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import Any, Final

import amqp
import structlog
from amqp.exceptions import AccessRefused, MessageNacked, NoConsumers, ResourceLocked
from celery import Celery, Task
from celery.app.task import Context
from celery.canvas import Signature, xmap, xstarmap
from celery.exceptions import BackendError, SoftTimeLimitExceeded, TaskPredicate
from celery.result import AsyncResult
from celery.states import FAILURE
from celery.utils import uuid
from celery.utils.functional import maybe_list
from kombu.exceptions import LimitExceeded, OperationalError
from redis.exceptions import RedisError

from worker.core.errors import FermataError, InvalidRequest
from worker.core.job.models import Event, JobId, Source
from worker.core.job.states import JobState
from worker.core.providers import operation_of
from worker.core.wording import told
from worker.store.readings import Readings
from worker.store.records import Records

log = structlog.get_logger()

AWAY: Final = (RedisError, OSError, OperationalError, LimitExceeded, amqp.ConnectionError)
"""The broker is away, or a Redis refuses to write."""

UNPUBLISHED: Final = (*AWAY, MessageNacked, NoConsumers, ResourceLocked, AccessRefused)
"""Errors that keep a message from its queue until somebody acts: the broker is away, or its user
lacks a right. kombu hands some of RabbitMQ's errors on as amqp's own."""

INTERRUPTED: Final = (BackendError, SoftTimeLimitExceeded, MemoryError, TaskPredicate)
"""Errors that interrupt the publishing of a follow-up, and say nothing about the follow-up."""


class NoMessage(Exception):
    """There is no message to publish; its cause says why.

    A class of its own, because kombu takes some of the causes for outages.
    """


by_celery: Final = ContextVar("by_celery", default=False)
"""Whether Celery itself publishes what follows a task, rather than the task's own code."""

calling_errbacks: Final = ContextVar("calling_errbacks", default=False)
"""Whether Celery calls or publishes a task's errbacks."""

counted_chord: Final[ContextVar[str | None]] = ContextVar("counted_chord", default=None)
"""The group whose chord a task is being counted for: a body published meanwhile follows it."""


def is_one(app: Celery) -> bool:
    """Say whether a publish under way is canvas that follows a task, and not a task's own code."""
    by_canvas = by_celery.get() or calling_errbacks.get() or counted_chord.get() is not None
    # Celery calls an errback as a task that no worker took from a queue, so the two tasks differ.
    # The messages that the errback's own code publishes are no follow-ups.
    return by_canvas and app.current_task is app.current_worker_task


class FollowUp(Task[..., Any]):
    """A task that may follow another one."""

    abstract = True

    @property
    def typing(self) -> bool:  # type: ignore[override]
        """Whether Celery checks the arguments before it publishes the task."""
        app: Any = self.app
        return bool(app.strict_typing) and not is_one(app)


Stored = tuple[Records, Readings]


def install(stored: Callable[[], Stored]) -> None:
    """Make Celery publish follow-ups so in this process, whatever the base of their tasks.

    Args:
        stored: opens the records: a job may have one although its message was refused.
    """
    # xmap and xstarmap have an apply_async of their own; groups and chains publish their parts by
    # these three.
    for kind in (Signature, xmap, xstarmap):
        kind.apply_async = _or_fail(kind.apply_async, stored)  # type: ignore[method-assign]


def _or_fail(publish: Callable[..., Any], stored: Callable[[], Stored]) -> Callable[..., Any]:
    """Wrap the method that publishes a single task, so that a follow-up without a message fails."""

    def apply_async(
        step: Signature[Any], args: Any = None, kwargs: Any = None, **given: Any
    ) -> Any:
        try:
            return publish(step, args, kwargs, **given)
        except (*UNPUBLISHED, *INTERRUPTED):
            raise
        except Exception as error:  # of an option, a serializer, or a user's own apply_async
            if not is_one(step.app):
                raise
            why = error.__cause__ if isinstance(error, NoMessage) and error.__cause__ else error
            return _fail(step, why, args, kwargs, given, stored=stored)

    return apply_async


def _fail(
    step: Any,
    error: BaseException,
    args: Any,
    kwargs: Any,
    given: Mapping[str, Any],
    *,
    stored: Callable[[], Stored],
) -> AsyncResult[Any]:
    """Fail a task that can never be published; through its record, if it is a job that has one."""
    app, said = step.app, {name: value for name, value in given.items() if value is not None}
    args, kwargs, options = step._merge(args, kwargs, said)
    task = app.tasks.get(step.task)
    request: Any = Context(
        id=options.get("task_id") or uuid(),
        task=step.task,
        args=args,
        kwargs=kwargs,
        group=options.get("group_id"),
        group_index=options.get("group_index"),
        chain=options.get("chain"),
        chord=options.get("chord"),
        errbacks=maybe_list(options.get("link_error")),
        root_id=options.get("root_id"),
        parent_id=options.get("parent_id"),
        ignore_result=options.get("ignore_result", getattr(task, "ignore_result", False)),
        delivery_info={},
    )
    log.warning("follow_up_failed", task_id=request.id, task=step.task, error=told(error))
    if operation_of(step.task) is None or not _end_by_record(*stored(), request.id, error):
        backend, kept = app.backend, not request.ignore_result
        # The task before this one may run again because of another follow-up. Celery called the
        # errbacks of this one when it first failed; they must not be called twice.
        is_told = kept and backend.get_state(request.id) == FAILURE
        backend.mark_as_failure(
            request.id, error, request=request, store_result=kept, call_errbacks=not is_told
        )
    result: AsyncResult[Any] = app.AsyncResult(request.id)
    if options.get("add_to_parent", True) and (parent := app.current_worker_task):
        parent.add_trail(result)
    return result


def _end_by_record(
    records: Records, readings: Readings, job_id: JobId, error: BaseException
) -> bool:
    """End a job that has a record but has not begun; says whether there is a record.

    Otherwise a sweep would publish the job as soon as the broker takes its message, although its
    errbacks were called already.
    """
    if readings.state(job_id) is None:
        return False
    why = error if isinstance(error, FermataError) else InvalidRequest(told(error))
    event = Event(Source.SWEEP, error=why.to_json())
    # A claim takes effect only in the state given. In any other state the job has begun.
    for state in (JobState.QUEUED, JobState.HELD):
        records.claim(job_id, event, now=time.time(), seen=state)
    return True
