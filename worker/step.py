"""A plain task that follows a job: it runs for one copy of its message.

Celery publishes the next step before it stores a result. A leg that dies between the two is run
again and publishes the step again, and no broker can tell the copies apart.
"""

from collections.abc import Mapping
from typing import Any

from celery import Task
from celery.exceptions import Ignore, Reject

from worker import bootstrap
from worker.connection import StoreUnavailable
from worker.core.contract import COPY_HEADER


class Step(Task[..., Any]):
    """Base of every plain task of the application, a user's own included."""

    abstract = True

    def before_start(self, task_id: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """Let one copy begin.

        Raises Ignore for the others; Reject (requeued) where Redis is away.
        """
        copy = self.request.get(COPY_HEADER)
        if not copy:
            return
        parts = bootstrap.parts()
        # A retry is a message of its own, and has the header of the one before it. What a step was
        # replaced with has its id, but follows another job.
        job_id = copy.partition("/")[0]
        run = f"{task_id}:{self.request.retries}:{job_id}"
        try:
            mine = parts.store.take_step(run, copy, seconds=parts.settings.policy.retention_seconds)
        except StoreUnavailable as error:
            raise Reject(repr(error), requeue=True) from None
        if not mine:
            raise Ignore
