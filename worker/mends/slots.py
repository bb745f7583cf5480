"""A mend of Celery's pools of threads: a task that ends its thread gives its slot back.

With processes, a task that ends its process (``sys.exit()``) is a death that Celery notices: its
message goes back. With threads, and in a worker without a pool, Celery hands what the task raised
to a callback that takes nothing but an outcome. The callback breaks, and nobody acknowledges the
message. After as many of them as there are threads, a worker takes no message any more and says
nothing; one without a pool ends. Seen with Celery 5.7.0.
"""

from collections.abc import Callable
from typing import Any, Final

import structlog
from billiard.einfo import ExceptionInfo
from celery.concurrency import base, solo, thread

from worker.core.wording import told

log = structlog.get_logger()

_SECONDS: Final = 0.0
"""How long a run took that has no outcome: nobody asks."""


def _apply_target(
    target: Any, args: Any = (), kwargs: Any = None, callback: Any = None, *rest: Any, **more: Any
) -> Any:
    """Run a task as Celery does, and tell of its death as of a process's."""
    return base.apply_target(target, args, kwargs, _outcome_for(callback), *rest, **more)


def _outcome_for(callback: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def tell(outcome: Any) -> Any:
        if isinstance(outcome, ExceptionInfo):
            error: Any = outcome.exception
            log.error("task_ended_its_thread", error=told(getattr(error, "exc", error)))
            outcome = True, outcome, _SECONDS
        return callback(outcome)

    return tell


def install() -> None:
    """Let every pool of this process that runs tasks in itself be mended."""
    for pool in (thread, solo):
        vars(pool)["apply_target"] = _apply_target
