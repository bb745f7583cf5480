"""The Task base that parks a job instead of holding a worker slot.

Every operation's task has this base, and each job runs it twice. Celery calls the submit leg in a
slot: it writes the record, stores ``PARKED``, calls the provider once, and raises ``Ignore``, which
frees the slot. When the job's event has come, a conductor calls the resumed leg: the same task,
from the message on the record. That leg returns the result or raises the error, and Celery does the
rest natively: chain, chord, callbacks, errbacks, ``AsyncResult``. The engine (``Submissions`` and
``Settlements``) decides what happens to the job; this module translates that into Celery's words.
"""

import contextlib
import inspect
import secrets
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final, NoReturn

import structlog
from celery import Task
from celery.exceptions import Ignore, Reject
from celery.states import SUCCESS

from worker import tracing
from worker.app.accidents import ACCIDENTS, PatientBackend
from worker.core.contract import JOB_ID, OURS_HEADER, PARKED, QUEUE, SLOW_QUEUE, task_name
from worker.core.errors import (
    DeadlineExceeded,
    FermataError,
    InvalidRequest,
    NeedsWorker,
    UnknownJob,
)
from worker.core.job.canvas import following
from worker.core.job.lanes import lane_of
from worker.core.job.models import Event, JobId, JSONObject, Leased, Parked, Source, Standing
from worker.core.job.states import TRANSITIONS, JobState, Turn
from worker.core.job.timing import at_provider, hard_time_limit, moment, soft_time_limit
from worker.core.providers import chosen, find
from worker.core.wire import Operation
from worker.core.wording import told
from worker.engine.cancel import cancelled
from worker.engine.submit import Attempt, Submissions
from worker.messages.follow_ups import FollowUp
from worker.messages.press import park
from worker.messages.recording import resuming
from worker.store.connection import StoreUnavailable
from worker.wiring import worker_process

log = structlog.get_logger()

_OURS: Final = ("source", "pick", "extra")
"""Parameters of a task that are not fields of its request."""


_BEGINS_FROM: Final = TRANSITIONS[Turn.SUBMIT][0]


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
    Request = "worker.app.revoke:ProviderRequest"

    @property  # type: ignore[misc]
    def backend(self) -> Any:
        return PatientBackend(super().backend)

    def __call__(self, *args: Any, **kwargs: Any) -> JSONObject:
        """Run one leg of the job.

        Raises Ignore if the job is parked, or belongs to another leg; Reject (requeued) if nothing
        has happened yet because Redis is away; else the error that the job failed with.
        """
        if (leased := resuming.get()) and leased.job_id == self.request.id:
            return self._resumed_leg(leased)
        self._require_worker()
        structlog.contextvars.bind_contextvars(job_id=self._job_id, operation=self.operation.name)
        self._note_what_follows()
        jobs = worker_process.parts().submissions
        try:
            standing = jobs.standing(self._job_id)
            self._require_turn(standing)
            body = self._check(args, kwargs)
            if self.operation.slow and self._queue == QUEUE:
                return self._pass_on(jobs, body)
            return self._submit_leg(jobs, body, standing)
        except StoreUnavailable as error:
            log.warning("state_unavailable", error=told(error))
            raise Reject(told(error), requeue=True) from None
        finally:
            structlog.contextvars.clear_contextvars()

    @property
    def _job_id(self) -> JobId:
        return JobId(str(self.request.id))

    def _note_what_follows(self) -> None:
        # Before Celery publishes the next step: it then removes that step from the request's chain.
        self.request.update(coming=following(self._job_id, vars(self.request)))

    def _require_worker(self) -> None:
        request = self.request
        if request.called_directly or request.is_eager:
            raise NeedsWorker(
                f"{self.name} parks until a webhook comes, so it cannot run eagerly or as a "
                "plain function: use .delay() or .apply_async(), with a worker running"
            )
        if not JOB_ID.fullmatch(str(request.id)):
            raise InvalidRequest(f"the task id must match {JOB_ID.pattern}: it stands in a URL")

    def _require_turn(self, standing: Standing) -> None:
        """Let this message begin only if it is its turn, and the job is still wanted.

        Raises Ignore if the record goes on without this message. If there is no record yet, raises
        the error that the job ends with.
        """
        if self.request.get(OURS_HEADER):
            self._make_due()
            raise Ignore
        if standing.state not in _BEGINS_FROM:
            raise Ignore
        # After its first attempt, or after the gate, only a message that we published may begin a
        # job. Any other one is a late copy of the first message, or a request that reuses its id:
        # it would run before the job's due time, and might ask for something else.
        begun = standing.attempts or standing.state is JobState.ADMITTED
        if begun and self.request.get(OURS_HEADER) is None:
            raise Ignore
        if standing.state is None:
            self._require_wanted(standing)
        elif standing.cancelled_by:
            worker_process.parts().cancellations.cancel(self._job_id, by=standing.cancelled_by)
            raise Ignore
        elif standing.deadline_at <= time.time():
            raise Ignore  # the sweep ends it

    def _make_due(self) -> None:
        """Make a job ready that an older version of Fermata would resume by this message."""
        now, resumed = time.time(), (JobState.RESUMING,)
        worker_process.parts().records.note(self._job_id, now=now, sources=resumed, due_at=now)

    def _require_wanted(self, standing: Standing) -> None:
        if standing.cancelled_by:
            raise cancelled(self._job_id, standing.cancelled_by)
        if self._expires and self._expires < datetime.now(UTC):
            expired = f"expired in its queue, at {self._expires.isoformat()}"
            raise DeadlineExceeded(f"{self.operation.name} {expired}")

    @property
    def _expires(self) -> datetime | None:
        return moment(self.request.expires)

    @property
    def _expires_at(self) -> float | None:
        return self._expires.timestamp() if self._expires else None

    def _check(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> JSONObject:
        try:
            bound = inspect.signature(self.run).bind(*args, **kwargs)
        except TypeError as error:
            raise InvalidRequest(f"{self.operation.name}: {error}") from None
        bound.apply_defaults()
        given = dict(bound.arguments)
        ours = {name: given.pop(name) for name in _OURS if name in given}
        return chosen().check(self.operation.name, given, **ours)

    def _submit_leg(self, jobs: Submissions, body: JSONObject, standing: Standing) -> NoReturn:
        attempt = Attempt(self._job_id, self.operation, secrets.token_hex(8))
        # If there is a record, it has the message already.
        parked = None if standing.state else self._park()
        lane = lane_of(self.request.headers or {}, slow=self.operation.slow)
        # ``expires`` limits the wait in the queue. After the first attempt, the deadline counts.
        expires_at = None if standing.attempts else self._expires_at
        try:
            if not jobs.begin(attempt, body, parked, lane, expires_at=expires_at):
                raise Ignore
            current = self._announced(jobs, attempt, announced=standing.announced)
        except UnknownJob as error:
            # Redis was restarted without its last writes. Nothing was sent, and the message is
            # still in hand, so it can begin again.
            raise Reject(told(error), requeue=True) from None
        if not current:
            raise Ignore
        try:
            event = self._barred(current) or jobs.submit(attempt, body)
            if event:
                jobs.claim_here(attempt, event)
        except Exception:
            # The provider may have taken the work, so the job must not fail here. Its record lets
            # a webhook, a poll or the sweep settle it.
            log.exception("submit_interrupted")
        raise Ignore from None

    def _announced(
        self, jobs: Submissions, attempt: Attempt, *, announced: bool
    ) -> Standing | None:
        try:
            if not announced:
                self._announce_parked()
            return jobs.announce(attempt)
        except UnknownJob:
            raise
        except Exception as error:  # nothing was sent yet, so the attempt can be made again
            jobs.postpone(attempt, f"not announced: {type(error).__name__}")
            return None

    def _barred(self, job: Standing) -> Event | None:
        """Return the event of a job that was cancelled while its record was being written."""
        if not job.cancelled_by:
            return None
        error = cancelled(self._job_id, job.cancelled_by)
        return Event(Source.CANCEL, error=error.to_json())

    @property
    def _queue(self) -> str | None:
        """The queue that this message came from."""
        return (self.request.delivery_info or {}).get("routing_key")

    def _pass_on(self, jobs: Submissions, body: JSONObject) -> NoReturn:
        """Send a slow job on to its own queue: it came by the queue for quick ones.

        The record is written first, so that the deadline ends the job if no worker serves that
        queue.
        """
        parked = self._park(queue=SLOW_QUEUE, expires=self._expires)
        lane = lane_of(self.request.headers or {}, slow=self.operation.slow)
        stale_at = jobs.pass_on(
            self._job_id, self.operation, body, parked, lane, expires_at=self._expires_at
        )
        if stale_at is not None:
            worker_process.parts().submit_legs.publish(self._job_id, stale_at=stale_at)
        raise Ignore

    def _announce_parked(self) -> None:
        """Tell the result backend and monitors that the job holds no slot from here on.

        Nothing can settle the job yet: the record is this leg's, the provider has not heard of the
        job, and a cancellation waits for this leg (announce.lua). Celery's backends protect only
        SUCCESS: if ``PARKED`` were stored later, or by a copy of this message, it would overwrite
        FAILURE.
        """
        if not self.request.ignore_result:
            self.update_state(state=PARKED, meta={"operation": self.operation.name})
        if self.app.conf.worker_send_task_events:
            self.send_event("task-parked")

    def _park(self, queue: str | None = None, *, expires: datetime | None = None) -> Parked:
        """Press the message of this same task: same arguments, canvas and queue."""
        signature = self.signature_from_request(
            queue=queue,
            expires=expires,
            retries=0,
            # This leg writes the record. Without the mark, the recorder would write it as well.
            headers={**(self.request.headers or {}), OURS_HEADER: 0},
        )
        return park(signature)

    def _resumed_leg(self, leased: Leased) -> JSONObject:
        # The request is not checked again: it was paid for under the rules of its day.
        self._note_what_follows()
        _trace(leased)
        settlements = worker_process.parts().settlements
        result = settlements.result(leased, self.operation)
        if leased.claims > 1 and self._was_stored(result):
            coming = self.request.get("coming", ())
            settlements.settle(
                leased.job_id, self.operation, result, following=coming, leased=leased
            )
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
        stored = self.AsyncResult(self._job_id)
        return stored.state == SUCCESS and stored.result == result

    # Celery calls these two after it has published the next step and stored the outcome. The job is
    # settled only here: if the worker dies earlier, another conductor resumes the job.

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
            coming = self.request.get("coming", ())
            worker_process.parts().settlements.settle(
                JobId(task_id), self.operation, outcome, following=coming, leased=resuming.get()
            )
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
