"""What can happen to a leg that says nothing about its job.

Celery stores a failure for whatever goes wrong around a task: a broker that is away while the
next step is published, a result backend that is full, a process that dies. For a job that was
paid for, that would be a lie: the record holds its event, so the leg is simply run again.
"""

import contextlib
import sys
from collections.abc import Iterator
from typing import Any, Final

import structlog
from billiard.exceptions import Terminated, TimeLimitExceeded, WorkerLostError
from celery.backends.redis import RedisBackend
from celery.exceptions import BackendError, Reject, SoftTimeLimitExceeded
from kombu.exceptions import KombuError
from redis.exceptions import RedisError

log = structlog.get_logger()

TRANSIENT: Final = (BackendError, SoftTimeLimitExceeded, KombuError, RedisError, OSError)
"""The broker or the result backend is away: the message goes back and is tried again."""

_CUT_OFF: Final = (TimeLimitExceeded, WorkerLostError, Terminated)
"""The process is gone; Celery gives the message to another one."""

ACCIDENTS: Final = (*TRANSIENT, *_CUT_OFF)


class PatientBackend:
    """A result backend that does not take an accident for the outcome of a job, or of a chord."""

    def __init__(self, backend: Any) -> None:
        self._backend = backend
        backend.chord_error_from_stack = self._fail_chord  # celery calls it on the backend itself

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    def mark_as_done(
        self, task_id: str, result: Any, request: Any = None, *args: Any, **kwargs: Any
    ) -> Any:
        """Store a result.

        Raises Reject where the job is left to the sweep.
        """
        with self._counting(task_id, request):
            return self._backend.mark_as_done(task_id, result, request, *args, **kwargs)

    def mark_as_failure(self, task_id: str, exc: BaseException, *args: Any, **kwargs: Any) -> Any:
        """Store a failure that is one.

        Raises Reject: requeued where broker or result backend are away, else left to the sweep.
        """
        if isinstance(exc, Reject):
            return None  # left to the sweep
        if isinstance(exc, _CUT_OFF):
            log.warning("leg_cut_off", job_id=task_id, error=repr(exc))
            return None
        if isinstance(exc, TRANSIENT):
            log.warning("leg_to_run_again", job_id=task_id, error=repr(exc))
            raise Reject(repr(exc), requeue=True)
        with self._counting(task_id, kwargs.get("request")):
            return self._backend.mark_as_failure(task_id, exc, *args, **kwargs)

    @contextlib.contextmanager
    def _counting(self, task_id: str, request: Any) -> Iterator[None]:
        """Keep a job's chord whole while celery counts the job for it."""
        if not (request and request.chord and isinstance(self._backend, RedisBackend)):
            yield
            return
        redis, key = self._backend.client, self._backend.get_key_for_group
        claim, size = redis.mget(key(request.group, ".c"), key(request.group, ".s"))
        self._leave_claimed(task_id, claim)
        try:
            yield
        except TRANSIENT:
            # Celery drops the size of a chord that it takes for failed, so that it never ends.
            if size:
                redis.set(key(request.group, ".s"), size, nx=True, ex=self.chord_expires or None)
            raise

    def _leave_claimed(self, task_id: str, claim: bytes | None) -> None:
        """Leave a leg to the sweep that runs again while its chord is being ended.

        Closes the race with celery's own claim, which the last job of a header takes to publish
        the body, or to fail it. If its worker dies there and the leg runs again at once, celery
        sees the dead one's claim and does nothing, and the chord would never end. It is free
        again after seconds, long before the sweep comes. A leg that runs for the first time is
        not yet counted, so its chord is not complete, and nobody can have claimed it.
        """
        if claim not in {None, b"done"}:
            log.warning("leg_left_to_sweep", job_id=task_id, why="its chord is claimed")
            raise Reject("its chord is claimed", requeue=False)

    def _fail_chord(self, callback: Any, exc: Any = None) -> Any:
        """Fail a chord whose header failed.

        Raises the accident, where one keeps celery from reading the header's results or from
        publishing the body: celery would call the errbacks of a chord that succeeded.
        """
        accident = sys.exc_info()[1]
        if isinstance(accident, TRANSIENT):
            raise accident
        return type(self._backend).chord_error_from_stack(self._backend, callback, exc)
