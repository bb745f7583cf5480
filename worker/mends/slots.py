"""A mend of Celery's pools of threads: a task that ends its thread gives its slot back.

In a pool of processes, Celery notices a task that ends its process (``sys.exit()``): the message
goes back. In a pool of threads, and in a worker without a pool, Celery hands the exception to a
callback that expects an outcome. The callback breaks, and nobody acknowledges the message. Once
that has happened as often as there are threads, the worker takes no more messages and says nothing;
a worker without a pool ends. ``install`` puts a function into both pools that makes an outcome of
the exception. Seen with Celery 5.7.0.
"""

from collections.abc import Callable
from typing import Any, Final

import structlog
from billiard.einfo import ExceptionInfo
from celery.concurrency import base, solo, thread

from worker.core.wording import told

log = structlog.get_logger()

_SECONDS: Final = 0.0
"""The run time in the outcome of a task that ended its thread: nobody reads it."""


def _apply_target(
    target: Any, args: Any = (), kwargs: Any = None, callback: Any = None, *rest: Any, **more: Any
) -> Any:
    """Run a task as Celery does, but report the end of its thread as the death of a process."""
    return base.apply_target(target, args, kwargs, _outcome_for(callback), *rest, **more)


def _outcome_for(callback: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def tell(outcome: Any) -> Any:
        # Celery's callback unpacks (failed, value, seconds); a bare ExceptionInfo breaks it.
        if isinstance(outcome, ExceptionInfo):
            error: Any = outcome.exception
            log.error("task_ended_its_thread", error=told(getattr(error, "exc", error)))
            outcome = True, outcome, _SECONDS
        return callback(outcome)

    return tell


def install() -> None:
    """Mend both pools that run tasks in this process itself: threads and solo."""
    for pool in (thread, solo):
        vars(pool)["apply_target"] = _apply_target
