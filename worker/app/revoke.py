"""``AsyncResult.revoke()`` of a provider task, and a command for clients: both cancel the job.

Celery's revoke discards the message of the task and leaves the tail of its chain, its chord and
its errbacks PENDING for ever. Here the task still runs, and fails with JobCancelled. Two places are
replaced: the worker's ``revoke`` commands (``RevokeStep``), for jobs on record, and the task's
``Request`` (``ProviderRequest``), for a message that a worker has in hand.

``revoke_by_stamped_headers`` does the same for every job that has one of the stamps, whether its
message is still to come or the job is on record. Every worker looks through all records, so that
the death of one worker leaves no job out. To cancel a job twice does no harm.
"""

import threading
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, Final

import structlog
from celery import bootsteps
from celery.utils.functional import maybe_list
from celery.worker.control import Panel
from celery.worker.request import Request
from celery.worker.state import revoked as revoked_tasks
from celery.worker.state import revoked_stamps

from worker.app.monitors import IsParked, tell_parked
from worker.core.job import kept
from worker.core.job.models import JobId
from worker.core.wording import told
from worker.engine.cancel import Cancellation
from worker.store.connection import StoreUnavailable
from worker.wiring import worker_process

log = structlog.get_logger()

BY: Final = "revoke"

CANCEL_COMMAND: Final = "fermata_cancel"
"""The command that a client sends instead of ``revoke``. Workers of other applications share the
broker: they would carry out ``revoke``, and report that it is done."""

_UNENDING: Final = (
    "a task that runs in a thread cannot be terminated: it goes on to its end. One that has not "
    "begun is revoked. Tasks that must be ended need a worker with --pool prefork"
)


class ProviderRequest(Request):
    """The message of a provider task in a worker's hands: never discarded before it runs."""

    def revoked(self) -> bool:
        """Let a revoked or expired job run, so that it ends natively; the task itself looks."""
        # Celery's own method answers True for an expired message too, and drops it.
        if self.id in revoked_tasks or _has_one(self.stamps, revoked_stamps):
            try:
                worker_process.parts().cancellations.cancel(JobId(self.id), by=BY)
            except StoreUnavailable as error:
                log.warning("revoke_postponed", job_id=self.id, error=told(error))
        return False

    def on_failure(self, exc_info: Any, *args: Any, **options: Any) -> None:
        """End the leg; if it has parked its job, tell monitors that the slot is free."""
        super().on_failure(exc_info, *args, **options)
        if isinstance(exc_info.exception, IsParked):
            tell_parked(self.id)

    def terminate(self, pool: Any, signal: Any = None) -> None:
        """Do not kill the job's process: it may be in the middle of a request that is paid for."""


class RevokeStep(bootsteps.Step):
    """Makes the worker's ``revoke`` commands cancel jobs; other tasks they revoke as before.

    It also adds the clients' command, which no other application's worker has.
    """

    def __init__(self, parent: Any, **options: Any) -> None:
        super().__init__(parent, **options)
        celery_revoke = Panel.data["revoke"]
        if getattr(celery_revoke, "is_fermata", False):
            return  # Panel belongs to the process: replaced once, it stays so

        def revoke(state: Any, task_id: Any, *args: Any, **options: Any) -> Any:
            ids = [task_id] if isinstance(task_id, str) else list(task_id or ())
            try:
                # WAITING: there is no record, so the id may be that of any task.
                others = [each for each in ids if _cancel(each, BY) is Cancellation.WAITING]
            except StoreUnavailable as error:
                return {"error": f"Redis cannot be reached: {error}"}
            try:
                return celery_revoke(state, others, *args, **options)
            except NotImplementedError:
                return {"error": _UNENDING}

        revoke.is_fermata = True  # type: ignore[attr-defined]
        Panel.data["revoke"] = revoke
        celery_revoke_stamped = Panel.data["revoke_by_stamped_headers"]

        def revoke_stamped(state: Any, headers: Any, *args: Any, **options: Any) -> Any:
            # Celery also takes a list of texts "name=stamp".
            wanted = dict(
                headers if isinstance(headers, dict) else (h.split("=")[:2] for h in headers)
            )
            # In a thread: the worker's main loop runs this command, and there may be many records.
            threading.Thread(target=_cancel_stamped, args=[wanted], daemon=True).start()
            try:
                return celery_revoke_stamped(state, headers, *args, **options)
            except NotImplementedError:
                # Celery's client knows no error for this command.
                return {"ok": f"revoked: {wanted}; {_UNENDING}"}

        Panel.data["revoke_by_stamped_headers"] = revoke_stamped
        Panel.data[CANCEL_COMMAND] = _cancel_all


def _cancel_stamped(wanted: Mapping[str, Any]) -> None:
    """Cancel the jobs on record that have one of the stamps; runs in a thread of its own."""
    parts = worker_process.parts()
    try:
        for job_id, message in parts.readings.unsettled():
            if _has_one(_stamps(job_id, message), wanted):
                outcome = parts.cancellations.cancel_in_turn(job_id, by=BY)
                log.info("job_revoked", job_id=job_id, by=BY, outcome=outcome)
    except StoreUnavailable as error:
        log.warning("revoke_unfinished", stamps=dict(wanted), error=told(error))


def _stamps(job_id: JobId, message: str) -> Mapping[str, Any]:
    try:
        head, _ = kept.unpack(message)
    except (ValueError, zlib.error) as error:
        log.warning("message_unreadable", job_id=job_id, error=told(error))
        return {}
    return head["headers"].get("stamps") or {}


def _has_one(stamps: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Say whether a task has one of the stamps; each may be one value, or a list."""
    return any(
        stamp in (maybe_list(wanted[name]) or ())
        for name in stamps.keys() & wanted.keys()
        for stamp in maybe_list(stamps[name]) or ()
    )


def _cancel_all(_: Any, job_ids: Sequence[str], by: str) -> dict[str, Any]:
    try:
        return {"ok": {job_id: _cancel(job_id, by) for job_id in job_ids}}
    except StoreUnavailable as error:
        return {"error": f"Redis cannot be reached: {error}"}


def _cancel(job_id: str, by: str) -> Cancellation:
    outcome = worker_process.parts().cancellations.cancel(JobId(job_id), by=by)
    log.info("job_revoked", job_id=job_id, by=by, outcome=outcome)
    return outcome
