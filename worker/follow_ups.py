"""What follows a task fails by itself if it can never run, and the task before it succeeds.

Celery publishes a next step, a callback, a chord's body or an errback inside the task that it
follows, and takes an error there for that task's own. A song that was paid for would fail, or never
settle, because its next step names a parameter that does not exist.

So the arguments of a follow-up are checked where it runs: it fails there, as one with a wrong value
does. If its message cannot be built (a serializer or a compression that this worker lacks, a value
that JSON cannot hold), it fails here as if it had run: its own chain, chord and errbacks end.
If the broker is away, or its user lacks a right, the task before it is run again.
"""

from contextvars import ContextVar
from typing import Any, Final

import amqp
import structlog
from amqp.exceptions import AccessRefused, MessageNacked, NoConsumers, ResourceLocked
from celery import Celery, Task
from celery.app.task import Context
from celery.states import FAILURE
from kombu.exceptions import LimitExceeded, OperationalError
from redis.exceptions import RedisError

from worker.core.wording import told

log = structlog.get_logger()

UNPUBLISHED: Final = (
    *(RedisError, OSError, OperationalError, LimitExceeded),
    *(amqp.ConnectionError, MessageNacked, NoConsumers, ResourceLocked, AccessRefused),
)
"""What keeps a message from its queue until somebody sees to it: the broker is away, or its user
lacks a right. kombu leaves some of RabbitMQ's words for that as they are."""

by_celery: Final = ContextVar("by_celery", default=False)
"""Whether Celery itself publishes what follows a task, rather than the task's own code."""

calling_errbacks: Final = ContextVar("calling_errbacks", default=False)
"""Whether Celery calls or publishes a task's errbacks."""

counted_chord: Final[ContextVar[str | None]] = ContextVar("counted_chord", default=None)
"""The group whose chord a task is being counted for: the body that is published then follows it."""


def is_one() -> bool:
    """Say whether what is published now follows a task by canvas, and not by the task's code."""
    return by_celery.get() or calling_errbacks.get() or counted_chord.get() is not None


class FollowUp(Task[..., Any]):
    """A task that may follow another one."""

    abstract = True

    @property
    def typing(self) -> bool:  # type: ignore[override]
        """Whether Celery checks the arguments before it publishes the task."""
        app: Any = self.app
        return bool(app.strict_typing) and not is_one()


def fail(app: Celery, message: Any, error: Exception) -> None:
    """Let a task fail that can never be published.

    Args:
        message: Celery's own (``celery.app.amqp.task_message``), by its protocol 2.
    """
    args, kwargs, embed = message.body
    request: Any = Context(message.headers, args=args, kwargs=kwargs, delivery_info={}, **embed)
    log.warning("follow_up_failed", task_id=request.id, task=request.task, error=told(error))
    backend, stored = app.backend, not request.ignore_result
    # The task before it may be run again, for another of its follow-ups.
    is_told = stored and backend.get_state(request.id) == FAILURE
    backend.mark_as_failure(
        request.id, error, request=request, store_result=stored, call_errbacks=not is_told
    )
