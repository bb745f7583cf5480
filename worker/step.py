"""A plain task that follows a job: it runs for one copy of its message.

Celery publishes the next step before it stores a result. A leg that dies between the two is run
again and publishes the step again, and no broker can tell the copies apart. A chord's body can be
published by each task of its header.
"""

from collections.abc import Mapping
from typing import Any

from celery import Task
from celery.exceptions import Ignore, Reject

from worker import bootstrap
from worker.accidents import StepBackend
from worker.connection import StoreUnavailable
from worker.core.contract import COPY_HEADER
from worker.core.wording import told


class Step(Task[..., Any]):
    """Base of every plain task of the application, a user's own included."""

    abstract = True

    @property
    def backend(self) -> Any:
        # What was acknowledged early cannot go back to be counted again.
        return StepBackend(super().backend) if self.acks_late else super().backend

    @backend.setter
    def backend(self, backend: Any) -> None:
        self._backend = backend

    def before_start(self, task_id: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """Let one copy begin.

        Raises Ignore for the others, and for one that has run and only had to be counted for its
        chord; Reject (requeued) where Redis is away.
        """
        self._begin_as_one(task_id)
        again = (self.request.delivery_info or {}).get("redelivered") and self.acks_late
        if again and self.request.chord and self.backend.count_again(task_id, self.request):
            raise Ignore

    def _begin_as_one(self, task_id: str) -> None:
        copy = self.request.get(COPY_HEADER)
        if not copy:
            return
        parts = bootstrap.parts()
        # A retry is a message of its own, and has the header of the one before it. What a step was
        # replaced with has its id, but follows another job.
        followed = copy.partition("/")[0]
        run = f"{task_id}:{self.request.retries}:{followed}"
        try:
            mine = parts.store.take_step(run, copy, seconds=parts.settings.policy.retention_seconds)
        except StoreUnavailable as error:
            raise Reject(told(error), requeue=True) from None
        if not mine:
            raise Ignore
