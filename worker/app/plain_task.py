"""The base of every plain task: it runs for one copy of its message, and is not lost.

``worker.app`` names ``Step`` as the class of the application's tasks, a user's own included. Celery
publishes the next step before it stores a result. If a worker dies between the two, the leg is run
again and publishes the step again, and no broker can tell the copies apart. Each task of a header
can publish a chord's body. So every copy carries a key, and the first copy that begins takes the
run in Redis; the others are ignored.

A plain task that follows a job must not be lost either, so it is acknowledged late: if its process
dies, its message comes again. A task that kills its process each time would never end, so after
``DEATHS`` deaths it fails natively. A task that sets ``acks_late`` or ``reject_on_worker_lost``
itself keeps its own value.
"""

from collections.abc import Mapping
from typing import Any, Final

from celery.exceptions import Ignore, Reject
from celery.signals import task_postrun
from celery.states import IGNORED

from worker.app.accidents import StepBackend
from worker.core.contract import COPY_HEADER
from worker.core.errors import ProcessDied
from worker.core.wording import told
from worker.messages.follow_ups import FollowUp
from worker.store.connection import StoreUnavailable
from worker.wiring import worker_process

DEATHS: Final = 3
"""How many processes one run may kill before the task fails."""


class Step(FollowUp):
    """Base of every plain task of the application, a user's own included."""

    abstract = True
    acks_late = True
    reject_on_worker_lost = True

    @property
    def backend(self) -> Any:
        # A message that was acknowledged early cannot go back to be counted again.
        return StepBackend(super().backend) if self.acks_late else super().backend

    @backend.setter
    def backend(self, backend: Any) -> None:
        self._backend = backend

    def before_start(self, task_id: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """Let one copy begin.

        Raises Ignore for every other copy, and for one that has run already and only had to be
        counted for its chord; Reject (requeued) if Redis is away; ProcessDied after too many
        deaths.
        """
        try:
            self._begin_as_one(task_id)
            if self.comes_again:
                self._count_again(task_id)
                self._count_death(task_id)
        except StoreUnavailable as error:
            raise Reject(told(error), requeue=True) from None

    @property
    def comes_again(self) -> bool:
        """Say whether a worker had this message before."""
        redelivered = (self.request.delivery_info or {}).get("redelivered")
        return bool(redelivered and self.acks_late)

    def run_id(self, task_id: str) -> str:
        """Name a run of a task. A retry has the id of the first run, but is a run of its own."""
        return f"{task_id}:{self.request.retries}"

    def _begin_as_one(self, task_id: str) -> None:
        copy = self.request.get(COPY_HEADER)
        if not copy:
            return
        parts = worker_process.parts()
        # A retry carries the header of the message before it, so the run's name counts retries. A
        # replacement (Task.replace) has the id of the step, but follows another job.
        followed = copy.partition("/")[0]
        run = f"{self.run_id(task_id)}:{followed}"
        if not parts.plain_steps.take(run, copy, seconds=parts.settings.policy.retention_seconds):
            raise Ignore

    def _count_again(self, task_id: str) -> None:
        if self.request.chord and self.backend.count_again(task_id, self.request):
            raise Ignore

    def _count_death(self, task_id: str) -> None:
        """Count a message that comes again as a death; a run that ends forgets the count."""
        parts = worker_process.parts()
        seconds = parts.settings.policy.retention_seconds
        deaths = parts.plain_steps.count_death(self.run_id(task_id), seconds=seconds)
        if deaths >= DEATHS:
            # Celery's own WorkerLostError would make the message come again.
            said = f"{self.name} was begun {deaths} times, and its process died each time"
            raise ProcessDied(said)


@task_postrun.connect
def _forget_deaths(task_id: str, task: Any, state: str | None = None, **_: Any) -> None:
    """Forget the deaths of a run that has ended without ending its process.

    Another copy of its message does not count: it was ignored. A run that ends its process is one
    more death; Celery calls this without a state then.
    """
    if isinstance(task, Step) and task.comes_again and state not in {None, IGNORED}:
        worker_process.parts().plain_steps.forget_deaths(task.run_id(task_id))
