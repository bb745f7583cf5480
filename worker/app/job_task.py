"""The Task base that parks a job instead of holding a worker slot.

Every operation's task has this base, and each job runs it twice. Celery calls the submit leg in a
slot (``submit_leg.py``): it parks the job and raises ``Ignore``, which frees the slot. When the
job's event has come, a conductor calls the resumed leg: the same task, from the message on the
record. That leg returns the result or raises the error, and Celery does the rest natively: chain,
chord, callbacks, errbacks, ``AsyncResult``. The engine (``Attempts``, ``Submissions``,
``Settlements``) decides what happens to the job; both legs translate that into Celery's words.
"""

import contextlib
from collections.abc import Callable
from typing import Any

import structlog
from celery import Task
from celery.exceptions import Ignore
from celery.states import SUCCESS

from worker import tracing
from worker.app.accidents import ACCIDENTS, PatientBackend
from worker.app.settler import in_hand
from worker.app.submit_leg import Message, SubmitLeg
from worker.core.contract import JOB_ID, SLOW_QUEUE, task_name
from worker.core.errors import (
    FermataError,
    InvalidRequest,
    NeedsWorker,
)
from worker.core.job.canvas import following
from worker.core.job.models import JobId, JSONObject, Leased
from worker.core.job.timing import at_provider, hard_time_limit, soft_time_limit
from worker.core.providers import chosen, find
from worker.core.wire import Operation
from worker.messages.follow_ups import FollowUp
from worker.messages.recording import resuming
from worker.store.connection import StoreUnavailable
from worker.wiring import worker_process

log = structlog.get_logger()


class ProviderTask(FollowUp):
    """Base of every operation's task. The declared function is its signature; it never runs."""

    abstract = True
    operation: Operation
    # Our own errors are outcomes of a job, so Celery logs them without a traceback.
    throws = (FermataError,)
    # A second run of either leg is harmless, because it finds in the record what is left to do. A
    # lost leg is not: so Celery acknowledges late, and a leg that was cut off is run again.
    acks_late = True
    reject_on_worker_lost = True
    acks_on_timeout = False
    # Not ``task_time_limit``: an application's limit for all of its tasks must not cut off a
    # request to the provider.
    from_config = (
        ("soft_time_limit", "fermata_soft_time_limit"),
        ("time_limit", "fermata_time_limit"),
        *Task.from_config,
    )
    # So much of a result is told to monitors. More would be lyrics and links, and cost CPU.
    resultrepr_maxsize = 128
    Request = "worker.app.revoke:ProviderRequest"

    @property  # type: ignore[misc]
    def backend(self) -> Any:
        return PatientBackend(super().backend)

    def __call__(self, *args: Any, **kwargs: Any) -> JSONObject:
        """Run one leg of the job: return its result, or raise.

        Raises Ignore or Reject if the job goes on; else the error that it ends with.
        """
        if (leased := resuming.get()) and leased.job_id == self.request.id:
            return self._resumed_leg(leased)
        self._require_worker()
        self._note_what_follows()
        message = Message(self.request, self.operation, args, kwargs)
        return SubmitLeg(self, message, worker_process.parts()).run()

    def _note_what_follows(self) -> None:
        # Before Celery publishes the next step: it then removes that step from the request's chain.
        self.request.update(coming=following(JobId(str(self.request.id)), vars(self.request)))

    def _require_worker(self) -> None:
        request = self.request
        if request.called_directly or request.is_eager:
            raise NeedsWorker(
                f"{self.name} parks until a webhook comes, so it cannot run eagerly or as a "
                "plain function: use .delay() or .apply_async(), with a worker running"
            )
        if not JOB_ID.fullmatch(str(request.id)):
            raise InvalidRequest(f"the task id must match {JOB_ID.pattern}: it stands in a URL")

    def _resumed_leg(self, leased: Leased) -> JSONObject:
        # The request is not checked again: it was paid for under the rules of its day.
        self._note_what_follows()
        _trace(leased)
        settlements = worker_process.parts().settlements
        result = settlements.result(leased, self.operation)
        if leased.claims > 1 and self._was_stored(result):
            self._settle(leased.job_id, result)
            raise Ignore
        return result

    def _was_stored(self, result: JSONObject) -> bool:
        """Say whether an earlier leg died after Celery had stored the result, before it settled.

        Celery publishes the next step before it stores the result. So with a stored result the step
        is out, and a second publish could run a user's task twice. Celery counts a chord's part
        after the result: the count may be missing and is safe to repeat, so such a leg runs again.
        """
        if self.request.chord or self.request.ignore_result:
            return False
        stored = self.AsyncResult(str(self.request.id))
        return stored.state == SUCCESS and stored.result == result

    # Celery calls these two after it has published the next step and stored the outcome, or left
    # that to the settler. The job is settled only then: if the worker dies earlier, another
    # conductor resumes the job.

    def on_success(self, retval: Any, task_id: str, args: Any, kwargs: Any) -> None:
        self._settle(task_id, retval)

    def on_failure(
        self, exc: BaseException, task_id: str, args: Any, kwargs: Any, einfo: Any
    ) -> None:
        if not isinstance(exc, (NeedsWorker, *ACCIDENTS)):
            self._settle(task_id, exc)

    def _settle(self, task_id: str, outcome: JSONObject | BaseException) -> None:
        # Celery would take an error here for the task's own, and call its errbacks again.
        try:
            settlements, leased = worker_process.parts().settlements, resuming.get()
            coming = self.request.get("coming", ())
            settlement = settlements.settlement(
                JobId(task_id), self.operation, outcome, following=coming, leased=leased
            )
            if ended := in_hand.get():
                ended.settlement = ended.settlement or settlement
            else:
                settlements.settle([settlement])
        except Exception:
            # The lease ends by itself, and the next run of the leg settles the job.
            log.exception("settle_postponed", job_id=task_id)


def _trace(leased: Leased) -> None:
    """Link the leg to where its event came from, and write the job's time at the provider."""
    if leased.event_traceparent != leased.traceparent:  # the submit leg may have its event at once
        tracing.link(leased.event_traceparent)
    if not (leased.traceparent and leased.claims == 1 and tracing.is_on()):
        return
    with contextlib.suppress(StoreUnavailable):  # a span is not worth a leg
        timeline = worker_process.parts().readings.timeline(leased.job_id)
        if times := at_provider(timeline, leased.event.source):
            tracing.write(
                "at the provider",
                leased.traceparent,
                *times,
                job_id=leased.job_id,
                operation=leased.operation,
                provider_task_id=leased.provider_task_id or "",
                source=leased.event.source.value,
            )


def provider_task(app: Any, operation: str) -> Callable[[Callable[..., JSONObject]], ProviderTask]:
    """Declare the Celery task of an operation; the function is its signature and docstring."""
    row = find(operation)

    def declare(function: Callable[..., JSONObject]) -> ProviderTask:
        # shared=False: Celery would add a shared task to every other application of the process.
        task: ProviderTask = app.task(
            function,
            base=ProviderTask,
            name=task_name(operation),
            operation=row,
            shared=False,
            **_slow_options(row),
        )
        return task

    return declare


def _slow_options(row: Operation) -> dict[str, Any]:
    if row.submit_seconds is None:
        return {}
    return {
        "queue": SLOW_QUEUE,
        "soft_time_limit": soft_time_limit(row.submit_seconds),
        "time_limit": hard_time_limit(row.submit_seconds),
    }


def declare_undeclared(app: Any) -> None:
    """Declare a task for every row of the table that ``tasks/`` does not declare."""
    for row in chosen().operations.values():
        if task_name(row.name) not in app.tasks:
            provider_task(app, row.name)(_stand_in(row))


def _stand_in(row: Operation) -> Callable[..., JSONObject]:
    def stand_in() -> JSONObject:
        raise NeedsWorker(f"{row.name} runs in a worker")

    stand_in.__doc__ = row.summary
    stand_in.__signature__ = chosen().signature(row.name)  # type: ignore[attr-defined]
    return stand_in
