"""What can happen to a leg that says nothing about its job.

Celery stores a failure for whatever goes wrong around a task: a broker that is away while the
next step is published, a result backend that is full, a process that dies. For a job that was
paid for, that would be a lie: the record holds its event, so the leg is simply run again.
"""

from typing import Any, Final

import structlog
from billiard.exceptions import Terminated, TimeLimitExceeded, WorkerLostError
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
    """A result backend that does not take an accident for the outcome of a job."""

    def __init__(self, backend: Any) -> None:
        self._backend = backend

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    def mark_as_failure(self, task_id: str, exc: BaseException, *args: Any, **kwargs: Any) -> Any:
        """Store a failure that is one.

        Raises Reject (requeued) where broker or result backend are away.
        """
        if isinstance(exc, _CUT_OFF):
            log.warning("leg_cut_off", job_id=task_id, error=repr(exc))
            return None
        if isinstance(exc, TRANSIENT):
            log.warning("leg_to_run_again", job_id=task_id, error=repr(exc))
            raise Reject(repr(exc), requeue=True)
        return self._backend.mark_as_failure(task_id, exc, *args, **kwargs)
