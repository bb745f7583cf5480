"""The submit leg: it runs in a worker's slot, submits the job once, parks it, and frees the slot.

A message may begin its job only in its turn, and only while the job is still wanted. The leg then
writes the record, stores ``PARKED``, calls the provider, and raises ``Ignore``, by which Celery
stores nothing and publishes nothing. From the announcement on, anybody may end the job: a webhook,
a poll, a cancellation, the sweep.
"""

import functools
import inspect
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, NoReturn

import structlog
from celery import Task
from celery.exceptions import Ignore, Reject

from worker.app.monitors import IsParked
from worker.app.parked_state import show
from worker.core.contract import OURS_HEADER, QUEUE, SLOW_QUEUE
from worker.core.errors import DeadlineExceeded, InvalidRequest, UnknownJob
from worker.core.job.lanes import Lane, lane_of
from worker.core.job.models import Event, JobId, JSONObject, Parked, Shown, Source, Standing
from worker.core.job.states import TRANSITIONS, JobState, Turn
from worker.core.job.timing import moment
from worker.core.providers import chosen
from worker.core.wire import Operation, Postponed
from worker.core.wording import told
from worker.engine.attempts import Attempt
from worker.engine.cancel import cancelled
from worker.messages.press import park
from worker.store.connection import StoreUnavailable
from worker.wiring.worker_process import Parts

log = structlog.get_logger()

_OURS: Final = ("source", "pick", "extra")
"""Parameters of a task that are not fields of its request."""

_BEGINS_FROM: Final = TRANSITIONS[Turn.SUBMIT][0]


@dataclass(frozen=True, slots=True)
class Message:
    """What a leg reads from its message. Each part is read, and may raise, when it is needed."""

    request: Any
    operation: Operation
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]

    @property
    def job_id(self) -> JobId:
        return JobId(str(self.request.id))

    @property
    def mark(self) -> int | None:
        """0 if Fermata has published it for a job on record; None if a producer has."""
        mark: int | None = self.request.get(OURS_HEADER)
        return mark

    @property
    def is_astray(self) -> bool:
        """Whether this is a slow job that came by the queue for quick ones."""
        queue = (self.request.delivery_info or {}).get("routing_key")
        return self.operation.slow and queue == QUEUE

    @property
    def lane(self) -> Lane:
        return lane_of(self.request.headers or {}, slow=self.operation.slow)

    @property
    def expires(self) -> datetime | None:
        return moment(self.request.expires)

    @property
    def expires_at(self) -> float | None:
        return self.expires.timestamp() if self.expires else None

    def body(self, parameters: inspect.Signature) -> JSONObject:
        """Return the checked body of the request; raises InvalidRequest."""
        try:
            bound = parameters.bind(*self.args, **self.kwargs)
        except TypeError as error:
            raise InvalidRequest(f"{self.operation.name}: {error}") from None
        bound.apply_defaults()
        given = dict(bound.arguments)
        ours = {name: given.pop(name) for name in _OURS if name in given}
        return chosen().check(self.operation.name, given, **ours)


@dataclass(frozen=True, slots=True)
class Asked:
    """What a leg asks for when it begins its job."""

    body: JSONObject
    lane: Lane
    parked: Parked | None
    expires_at: float | None = None


@functools.cache
def _parameters(task: Task[..., Any]) -> inspect.Signature:
    return inspect.signature(task.run)


class SubmitLeg:
    """One run of a job's task in a slot."""

    def __init__(self, task: Task[..., Any], message: Message, parts: Parts) -> None:
        self._task = task
        self._message = message
        self._parts = parts
        self._job_id = message.job_id
        self._operation = message.operation
        self._is_parked = False

    def run(self) -> NoReturn:
        """Submit and park the job, or leave it to whoever goes on with it.

        Raises Ignore if the job is parked, or belongs to another leg; Reject (requeued) if nothing
        has happened yet because Redis is away; else the error that the job failed with.
        """
        structlog.contextvars.bind_contextvars(job_id=self._job_id, operation=self._operation.name)
        try:
            if not self._submitted_unseen():
                self._submit_in_turn()
        except StoreUnavailable as error:
            log.warning("state_unavailable", error=told(error))
            raise Reject(told(error), requeue=True) from None
        finally:
            structlog.contextvars.clear_contextvars()
        raise IsParked if self._is_parked else Ignore

    def _submitted_unseen(self) -> bool:
        """Submit a job without a look at its record, if nobody has begun it; says whether it did.

        The script that begins the job looks, which spares most legs a round trip.
        """
        message = self._message
        if message.mark is not None or message.is_astray or message.expires:
            return False
        try:
            asked = Asked(self._body(), message.lane, park(self._task))
        except Exception:  # it ends the job only if it is this message's turn
            return False
        return self._submit(asked, unseen=True)

    def _submit_in_turn(self) -> None:
        standing, body, message = self._in_turn(), self._body(), self._message
        if message.is_astray:
            self._pass_on(body)
            return
        asked = Asked(
            body,
            message.lane,
            # If there is a record, it has the message already.
            parked=None if standing.state else park(self._task),
            # ``expires`` limits the wait in the queue. After the first attempt, the deadline does.
            expires_at=None if standing.attempts else message.expires_at,
        )
        self._submit(asked, announced=standing.announced)

    def _body(self) -> JSONObject:
        return self._message.body(_parameters(self._task))

    def _in_turn(self) -> Standing:
        """Return where the job stands, if it is this message's turn and the job is still wanted.

        Raises Ignore if the record goes on without this message. If there is no record yet, raises
        the error that the job ends with.
        """
        standing = self._parts.readings.standing(self._job_id)
        if self._message.mark:
            self._make_due()
            raise Ignore
        if standing.state not in _BEGINS_FROM:
            raise Ignore
        # After its first attempt, or after the gate, only a message that we published may begin a
        # job. Any other one is a late copy of the first message, or a request that reuses its id:
        # it would run before the job's due time, and might ask for something else.
        begun = standing.attempts or standing.state is JobState.ADMITTED
        if begun and self._message.mark is None:
            raise Ignore
        if standing.state is None:
            self._require_wanted(standing)
        elif standing.cancelled_by:
            self._parts.cancellations.cancel(self._job_id, by=standing.cancelled_by)
            raise Ignore
        elif standing.deadline_at <= time.time():
            raise Ignore  # the sweep ends it
        return standing

    def _make_due(self) -> None:
        """Make a job ready that an older version of Fermata would resume by this message."""
        now, resumed = time.time(), (JobState.RESUMING,)
        self._parts.records.note(self._job_id, now=now, sources=resumed, due_at=now)

    def _require_wanted(self, standing: Standing) -> None:
        if standing.cancelled_by:
            raise cancelled(self._job_id, standing.cancelled_by)
        expires = self._message.expires
        if expires and expires < datetime.now(UTC):
            expired = f"expired in its queue, at {expires.isoformat()}"
            raise DeadlineExceeded(f"{self._operation.name} {expired}")

    def _pass_on(self, body: JSONObject) -> None:
        """Send a slow job on to its own queue: it came by the queue for quick ones."""
        message = self._message
        # The record comes first, so that the deadline ends the job if no worker serves that queue.
        parked = park(self._task, queue=SLOW_QUEUE, expires=message.expires)
        stale_at = self._parts.attempts.pass_on(
            self._job_id, self._operation, body, parked, message.lane, expires_at=message.expires_at
        )
        if stale_at is not None:
            self._parts.submit_legs.publish(self._job_id, stale_at=stale_at)

    def _submit(self, asked: Asked, *, announced: bool = False, unseen: bool = False) -> bool:
        """Submit and park the job; says whether this leg has begun it.

        Args:
            announced: its PARKED state is stored.
            unseen: nobody has looked whether the job may begin.
        """
        attempt = Attempt(self._job_id, self._operation, secrets.token_hex(8))
        attempts = self._parts.attempts
        try:
            if not attempts.begin(
                attempt,
                asked.body,
                asked.parked,
                asked.lane,
                expires_at=asked.expires_at,
                unseen=unseen,
            ):
                return False
            current = self._announced(attempt, announced=announced)
        except UnknownJob as error:
            # Redis was restarted without its last writes. Nothing was sent, and the message is
            # still in hand, so it can begin again.
            raise Reject(told(error), requeue=True) from None
        if not current:
            return True
        try:
            event = self._barred(current) or self._parts.submissions.submit(attempt, asked.body)
            if event:
                attempts.claim(attempt, event)
        except Exception:
            # The provider may have taken the work, so the job must not fail here. Its record lets
            # a webhook, a poll or the sweep settle it.
            log.exception("submit_interrupted")
        return True

    def _announced(self, attempt: Attempt, *, announced: bool) -> Standing | None:
        """Announce that the job is parked; returns None if this leg must not submit it."""
        try:
            shown = None if announced else self._show_parked()
            current = self._parts.attempts.announce(attempt, shown)
            self._is_parked = bool(current and not announced)
            return current
        except UnknownJob:
            raise
        except Exception as error:  # nothing was sent yet, so the attempt can be made again
            why = f"not announced: {type(error).__name__}"
            self._parts.attempts.postpone(attempt, Postponed(why))
            return None

    def _show_parked(self) -> Shown | None:
        """Store the state PARKED, or return what the announcement is to store."""
        # Nothing can settle the job yet: the record is this leg's, the provider has not heard of
        # the job, and a cancellation waits for this leg (announce.lua). Celery's backends protect
        # only SUCCESS: if ``PARKED`` were stored later, or by a copy of this message, it would
        # overwrite FAILURE.
        if self._task.request.ignore_result:
            return None
        return show(self._task, {"operation": self._operation.name}, self._parts.settings)

    def _barred(self, job: Standing) -> Event | None:
        """Return the event of a job that was cancelled while its record was being written."""
        if not job.cancelled_by:
            return None
        error = cancelled(self._job_id, job.cancelled_by)
        return Event(Source.CANCEL, error=error.to_json())
