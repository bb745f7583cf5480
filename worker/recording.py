"""The record before the message: whatever Fermata publishes exists before the broker has it.

A broker can lose a message, a producer can die before it has sent it, and a worker between
taking it and noting that it has. The sweep publishes again what never started.
"""

from collections.abc import Callable
from datetime import datetime
from functools import cached_property
from typing import Any

from celery import Celery
from celery.app.amqp import AMQP
from kombu.utils.json import dumps

from worker.core import schedule
from worker.core.contract import CLAIM_HEADER, DIGEST_HEADER, JOB_ID, TASK_PREFIX
from worker.core.errors import AlreadyEnqueued, InvalidRequest
from worker.core.models import JobId
from worker.core.operations import OPERATIONS
from worker.core.schedule import Policy
from worker.core.states import JobState, Turn
from worker.handover import Clock, press
from worker.store import Store


class Recorder:
    """Writes the record of a job that is about to be published."""

    def __init__(self, store: Store, policy: Policy, clock: Clock) -> None:
        self._store = store
        self._policy = policy
        self._clock = clock

    def record(self, operation: str, wire: dict[str, Any]) -> None:
        """Write a record with the message that starts the job; one that exists stays as it is.

        Raises, where nothing may be published: StoreUnavailable; under an idempotency key also
        AlreadyEnqueued, and InvalidRequest where the key stands for another request.
        """
        now, headers = self._clock(), wire["headers"]
        job_id = str(headers["id"])
        if not JOB_ID.fullmatch(job_id):
            return  # the worker says what is wrong with it
        starts_at = max(_moment(headers.get("eta")) or now, now)
        expires_at = starts_at + self._policy.queued_seconds
        fields = {
            "operation": operation,
            "parked": dumps(wire),
            "deadline_at": min(_moment(headers.get("expires")) or expires_at, expires_at),
        }
        if DIGEST_HEADER in headers:
            fields["digest"] = headers[DIGEST_HEADER]
        due_at = schedule.backlog(0, self._policy, now=starts_at)
        new = self._store.turn(JobId(job_id), Turn.ENQUEUE, now=now, due_at=due_at, fields=fields)
        if not new and DIGEST_HEADER in headers:
            self._refuse_repeated(JobId(job_id), headers[DIGEST_HEADER])

    def _refuse_repeated(self, job_id: JobId, digest: str) -> None:
        standing = self._store.standing(job_id)
        if standing.digest != digest:
            raise InvalidRequest(f"this idempotency key stands for another request: job {job_id}")
        # Recorded but perhaps never published: a second message does no harm.
        if standing.state is not JobState.QUEUED or standing.attempts:
            raise AlreadyEnqueued(f"job {job_id} was enqueued before")


def _moment(iso: str | None) -> float | None:
    return datetime.fromisoformat(iso).timestamp() if iso else None


class RecordingAMQP(AMQP):
    """Celery's publisher, which records every operation's job before it publishes it."""

    def __init__(self, app: Celery, recorder: Callable[[], Recorder]) -> None:
        super().__init__(app)
        self._recorder = recorder

    @cached_property
    def send_task_message(self) -> Callable[..., Any]:
        """Publish the message of a task: ``(producer, name, message, **options)``."""
        send: Callable[..., Any] = super().send_task_message

        def record_and_send(producer: Any, name: str, message: Any, **options: Any) -> Any:
            operation = name.removeprefix(TASK_PREFIX)
            begins = CLAIM_HEADER not in (options.get("headers") or {})
            if begins and name.startswith(TASK_PREFIX) and operation in OPERATIONS:
                quietly = options | {"declare": [], "retry": False}
                wire = press(lambda presser: send(presser, name, message, **quietly))
                self._recorder().record(operation, wire)
            return send(producer, name, message, **options)

        return record_and_send
