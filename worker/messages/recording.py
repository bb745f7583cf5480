"""The record before the message: a job is on record before the broker has its message.

A broker can lose a message; a producer can die before it sends one; a worker can die between taking
a message and noting it. With a record, the sweep publishes the job again if it never started.

``RecordingAMQP`` is the ``amqp`` of the application, so Celery publishes every task through it. For
a job, it presses the message, writes the record, then publishes. For any other follow-up of a job,
it adds the header by which copies of one message are told apart. It also makes Celery patient with
a broker that is away, and puts a job off whose follow-up the broker refuses.
"""

import contextlib
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from functools import cached_property
from typing import Any, Final

import structlog
from amqp.serialization import dumps as encode
from celery import Celery
from celery.app import routes
from celery.app.amqp import AMQP
from celery.utils.time import maybe_iso8601
from kombu.exceptions import OperationalError

from worker import tracing
from worker.core.contract import (
    BATCH_HEADER,
    COPY_HEADER,
    DIGEST_HEADER,
    JOB_ID,
    OURS_HEADER,
    PRIORITY_HEADER,
    TENANT_HEADER,
)
from worker.core.errors import AlreadyEnqueued, FollowUpRefused, InvalidRequest
from worker.core.job import canvas, timing
from worker.core.job.lanes import Lane, Priority, lane_of, thousandths
from worker.core.job.models import JobId, JSONObject, Leased
from worker.core.job.states import JobState, Turn
from worker.core.job.timing import Policy
from worker.core.ports import Clock
from worker.core.providers import operation_of
from worker.core.wire import Operation
from worker.core.wording import told
from worker.messages import follow_ups
from worker.messages.follow_ups import (
    AWAY,
    INTERRUPTED,
    UNPUBLISHED,
    NoMessage,
    by_celery,
    counted_chord,
)
from worker.messages.press import pack, press
from worker.messages.routing import FoundQueues, follow_up_route
from worker.store.readings import Readings
from worker.store.records import Records

log = structlog.get_logger()

PAUSES_SECONDS: Final = (0.5, 1, 2, 4, 4)
"""The pauses between attempts to publish a next step. Most restarts of a broker take less."""

REFUSED_SECONDS: Final = 86400
"""How long a broker may refuse what follows a job: an operator has a day to mend it."""

_INHERITED: Final = (PRIORITY_HEADER, TENANT_HEADER, BATCH_HEADER)


class Recorder:
    """Writes the record of a job that is about to be published."""

    def __init__(self, records: Records, readings: Readings, policy: Policy, clock: Clock) -> None:
        self._records = records
        self._readings = readings
        self._policy = policy
        self._clock = clock

    def record(
        self, operation: Operation, wire: dict[str, Any], *, instead_of: JobId | None = None
    ) -> bool:
        """Write a record with the message that starts the job; one that exists stays as it is.

        Args:
            instead_of: the job that failed, if this one is its retry.

        Returns False if the message is not to be published: a job of a batch first waits before
        the gate, so that thousands of them never stand in the broker.

        Raises InvalidRequest or StoreUnavailable; under an idempotency key also AlreadyEnqueued,
        or InvalidRequest if the key stands for another request. Then nothing may be published.
        """
        headers = wire["headers"]
        job_id, lane = JobId(str(headers["id"])), lane_of(headers, slow=operation.slow)
        if not JOB_ID.fullmatch(job_id):
            return True  # the worker that takes the message says what is wrong with its id
        # A job with an eta goes to the broker at once: Celery keeps an eta, the gate knows none.
        held = lane.priority is Priority.BATCH and not headers.get("eta")
        fields = {"operation": operation.name, "parked": pack(wire), **canvas.place(headers)}
        fields |= tracing.kept()
        if DIGEST_HEADER in headers:
            fields["digest"] = headers[DIGEST_HEADER]
        if BATCH_HEADER in headers:
            fields["batch"] = headers[BATCH_HEADER]
        if instead_of:
            fields["instead_of"] = instead_of
        new = (self._hold if held else self._enqueue)(job_id, operation, lane, headers, fields)
        if not new and DIGEST_HEADER in headers:
            self._refuse_repeated(job_id, headers[DIGEST_HEADER])
        return not held

    def _enqueue(
        self,
        job_id: JobId,
        operation: Operation,
        lane: Lane,
        headers: JSONObject,
        fields: JSONObject,
    ) -> bool:
        now = self._clock()
        starts_at = max(_unix(headers.get("eta"), now), now)
        until = _until(headers, starts_at + self._policy.queued_seconds)
        due_at = timing.backlog(0, self._policy, now=starts_at)
        asks = {"lane": str(lane), "cost": thousandths(operation.credits)}
        fields = fields | asks | {"deadline_at": until}
        return self._records.turn(job_id, Turn.ENQUEUE, now=now, due_at=due_at, fields=fields)

    def _hold(
        self,
        job_id: JobId,
        operation: Operation,
        lane: Lane,
        headers: JSONObject,
        fields: JSONObject,
    ) -> bool:
        now = self._clock()
        until = _until(headers, now + self._policy.held_seconds)
        asks = {"lane": str(lane), "cost": thousandths(operation.credits)}
        return self._records.turn(
            job_id, Turn.HOLD, now=now, due_at=until, why="its batch waits", fields=fields | asks
        )

    def note_refusal(self, job_id: JobId, why: str) -> bool:
        """Note that the broker refuses a job's follow-up; says whether it has for a day.

        Raises UnknownJob, StoreUnavailable.
        """
        now, since = self._clock(), self._readings.read(job_id).refused_at
        if since is None:
            self._records.note(job_id, now=now, what="refused", why=why, fields={"refused_at": now})
            return False
        return now - since > REFUSED_SECONDS

    def _refuse_repeated(self, job_id: JobId, digest: str) -> None:
        standing = self._readings.standing(job_id)
        if standing.digest != digest:
            raise InvalidRequest(f"this idempotency key stands for another request: job {job_id}")
        # The first producer may have died between record and publish. If it did not, this second
        # message is harmless: the submit leg that begins first wins.
        if standing.state is not JobState.QUEUED or standing.attempts:
            raise AlreadyEnqueued(f"job {job_id} was enqueued before")


def _until(headers: JSONObject, otherwise: float) -> float:
    return min(_unix(headers.get("expires"), otherwise), otherwise)


def _unix(stamp: str | None, otherwise: float) -> float:
    at = timing.moment(stamp)
    return at.timestamp() if at else otherwise


resuming: Final[ContextVar[Leased | None]] = ContextVar("resuming", default=None)
"""The job whose resumed leg a conductor runs in this thread."""


class _RecordingProducer:
    """A producer that writes a job's record before it publishes the job's message.

    Celery publishes one message through it, and after it perhaps an event that says it was sent.
    """

    def __init__(self, producer: Any, record: Callable[[dict[str, Any]], bool]) -> None:
        self._producer = producer
        self._record = record
        self._to_publish: bool | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._producer, name)

    def publish(self, body: Any, **options: Any) -> Any:
        """Publish a message, unless the job waits before the gate; then drop its event as well.

        Raises the errors of ``Recorder.record``, and then publishes nothing.
        """
        # The first call has the message, the second the event.
        if self._to_publish is None:
            # The press sends nothing: it needs no queue declared, and nothing to retry.
            quietly = options | {"declare": [], "retry": False}
            self._to_publish = self._record(press(lambda to: to.publish(body, **quietly)))
        return self._producer.publish(body, **options) if self._to_publish else None


def _require_message(build: Callable[[Any], Any], error: Exception) -> None:
    """Raise NoMessage if the message itself is why it could not be published.

    AMQP cannot encode every priority and route, Redis can. So they are encoded here as AMQP would,
    unless the broker was away: then the error says nothing about the message.
    """
    try:
        properties = press(build)["properties"]
        if not isinstance(error, AWAY):
            route = properties["delivery_info"]
            encode("sso", (route["exchange"], route["routing_key"], properties["priority"]))
    except Exception as why:  # any error of a serializer
        raise NoMessage(told(why)) from why


class RecordingAMQP(AMQP):
    """Celery's publisher, which records every operation's job before it publishes it.

    Args:
        recorder: opens what writes the records.
        follow_up_queue: names the queue for tasks that are not registered here (routing.py).
    """

    queues_cls = FoundQueues
    _rtable: list[Any] | None

    def __init__(
        self,
        app: Celery,
        recorder: Callable[[], Recorder],
        follow_up_queue: Callable[[], str],
    ) -> None:
        super().__init__(app)
        self._recorder = recorder
        self._follow_up_queue = follow_up_queue

    def flush_routes(self) -> None:
        """Read ``task_routes`` again; the user's routes come before ours."""
        theirs = routes.prepare(self.app.conf.task_routes)
        self._rtable = [*theirs, follow_up_route(self._follow_up_queue)]

    @cached_property
    def send_task_message(self) -> Callable[..., Any]:
        """Publish the message of a task: ``(producer, name, message, **options)``."""
        send: Callable[..., Any] = super().send_task_message

        def record_and_send(producer: Any, name: str, message: Any, **options: Any) -> Any:
            operation = operation_of(name)
            headers = self._inherited() | (options.get("headers") or {})
            options["headers"] = headers
            if operation is None and (followed := self._followed()):
                headers[COPY_HEADER] = f"{followed}/{uuid.uuid4().hex}"
            # With our mark, a message is of a job that is on record already.
            if operation and OURS_HEADER not in headers and self._can_be_recorded(headers):
                producer = _RecordingProducer(
                    producer, lambda wire: self._recorder().record(operation, wire)
                )

            if not follow_ups.is_one(self.app):
                return send(producer, name, message, **options)

            def build(to: Any) -> Any:
                return send(to, name, message, **options | {"declare": [], "retry": False})

            # Celery publishes any text as an eta, but a worker that cannot read it drops the
            # message, and the flow ends in silence. So read it here: a wrong one raises.
            maybe_iso8601(message.headers["eta"])
            with self._refused_for_a_day(build):
                return send(producer, name, message, **options)

        return record_and_send

    @contextlib.contextmanager
    def _refused_for_a_day(self, build: Callable[[Any], Any]) -> Iterator[None]:
        """Put a resumed job off while the broker refuses a message that can be built.

        Raises OperationalError for a day, as if the broker were away; then FollowUpRefused.
        """
        try:
            yield
        except INTERRUPTED:
            raise
        except Exception as error:  # any error of a broker
            _require_message(build, error)
            job = resuming.get()
            if job is None or isinstance(error, AWAY):
                raise
            if self._recorder().note_refusal(job.job_id, told(error)):
                raise FollowUpRefused(f"for a day the broker said: {told(error)}") from error
            raise OperationalError(told(error)) from error

    def _retry_publish(self, publish: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Publish a follow-up, and wait for a broker that is away: its ids make twice harmless.

        Without the waiting, Celery would take a chord whose body it cannot publish for one that
        failed, although its header succeeded: it calls the errbacks, and nothing would ever publish
        the body. A conductor does not wait here: it puts the job off and goes on with the others.
        """
        send: Callable[..., Any] = super()._retry_publish  # type: ignore[misc]
        token = by_celery.set(True)
        try:
            for pause in () if resuming.get() else PAUSES_SECONDS:
                try:
                    return send(publish, *args, **kwargs)
                except UNPUBLISHED as error:
                    log.warning("next_step_delayed", error=told(error), seconds=pause)
                    time.sleep(pause)
            return send(publish, *args, **kwargs)
        finally:
            by_celery.reset(token)

    def _can_be_recorded(self, headers: Mapping[str, Any]) -> bool:
        """Say whether a job's headers name a lane.

        A follow-up with a wrong lane must not fail the job before it, which was paid for. Its
        message goes out without a record, and the worker that takes it says what is wrong.

        Raises InvalidRequest if the job follows no other job.
        """
        try:
            lane_of(headers)
        except InvalidRequest:
            if not self._followed_job():
                raise
            return False
        return True

    def _followed_job(self) -> str | None:
        """Return the id of the job whose leg publishes now; None if it is no job of ours."""
        parent = self.app.current_worker_task
        return parent.request.id if parent and operation_of(parent.name) else None

    def _followed(self) -> str | None:
        """Return what a message follows: a job, a plain step behind one, or a chord's header.

        None if it follows no job, or if a plain step's own code publishes it.
        """
        parent = self.app.current_worker_task
        if parent is None:
            return None
        native = by_celery.get()
        if not (operation_of(parent.name) or (native and parent.request.get(COPY_HEADER))):
            return None
        # Every task of a header may publish the chord's body, so the copies must name the chord.
        # Celery publishes an errback in another way: it follows the one job that failed.
        return (native and counted_chord.get()) or parent.request.id

    def _inherited(self) -> dict[str, Any]:
        """Return the headers that a follow-up inherits from the task that publishes it."""
        parent = self.app.current_worker_task
        given = (parent.request.headers or {}) if parent else {}
        return {name: given[name] for name in _INHERITED if name in given}
