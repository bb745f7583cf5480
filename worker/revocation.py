"""``AsyncResult.revoke()`` of a provider task: it cancels the job.

A bare revoke discards the message of the task and leaves the tail of its chain, its chord and
its errbacks PENDING for ever. Here the task runs all the same, and fails with JobCancelled.
"""

from typing import Any

import structlog
from celery import bootsteps
from celery.worker.control import Panel
from celery.worker.request import Request
from celery.worker.state import revoked as revoked_tasks

from worker import bootstrap
from worker.cancellation import Cancellation
from worker.core.models import JobId
from worker.store import StoreUnavailable

log = structlog.get_logger()

BY = "revoke"


class ProviderRequest(Request):
    """The message of a provider task, as the worker sees it: never discarded unseen."""

    def revoked(self) -> bool:
        """Let a revoked job run, so that it ends natively; an expired one says so itself."""
        if self.id in revoked_tasks:
            try:
                bootstrap.parts().cancellations.cancel(JobId(self.id), by=BY)
            except StoreUnavailable as error:
                log.warning("revoke_postponed", job_id=self.id, error=repr(error))
        return False

    def _success_was_stored(self) -> bool:
        """Let Celery redeliver a leg whose process died after it had stored its result.

        Celery would call that the end. But the part of a chord may not have been counted yet,
        and the job is not settled: both would wait until the sweep finds the leg stale.
        """
        return False


class RevokeStep(bootsteps.Step):
    """Makes the worker's ``revoke`` command cancel jobs, and revoke whatever else it is given."""

    def __init__(self, parent: Any, **options: Any) -> None:
        super().__init__(parent, **options)
        celery_revoke = Panel.data["revoke"]
        if getattr(celery_revoke, "is_fermata", False):
            return

        def revoke(state: Any, task_id: Any, *args: Any, **options: Any) -> Any:
            ids = [task_id] if isinstance(task_id, str) else list(task_id or ())
            try:
                others = [each for each in ids if not _cancel(each)]
            except StoreUnavailable as error:
                return {"error": f"Redis cannot be reached: {error}"}
            return celery_revoke(state, others, *args, **options)

        revoke.is_fermata = True  # type: ignore[attr-defined]
        Panel.data["revoke"] = revoke


def _cancel(job_id: str) -> bool:
    """Cancel a job; False where there is no record, so that it may be any task."""
    outcome = bootstrap.parts().cancellations.cancel(JobId(job_id), by=BY)
    log.info("job_revoked", job_id=job_id, outcome=outcome)
    return outcome is not Cancellation.WAITING
