"""The errors that the client raises.

ClientError
├── WrongCall         the call is wrong; nothing was sent. ``str()`` says what was meant
├── Unavailable       broker, Redis or workers cannot be reached; enqueue again only under a key
├── StillRunning      not settled within the timeout; the job goes on
├── UnknownJob        there is no record of the job
└── JobFailed         the job ended without a result: ``type``, ``message``, ``details``
"""

from collections.abc import Mapping
from typing import Any


class ClientError(Exception):
    """Base of every error of the client."""


class WrongCall(ClientError, ValueError):
    """A name, an id or a value that cannot be; nothing was sent."""


class Unavailable(ClientError, ConnectionError):
    """Broker, Redis or workers cannot be reached.

    The job may have been enqueued all the same. Enqueue it again under the same
    ``idempotency_key`` or ``job_id``: without either, it is another job, and may be paid twice.
    """


class StillRunning(ClientError, TimeoutError):
    """The job has not settled within the timeout; it goes on."""


class UnknownJob(ClientError, LookupError):
    """There is no record of the job.

    Either nobody enqueued it, or its retention is over, or no worker has begun it yet: a worker
    that takes a job writes its record. Nobody can ask a queue whether a message stands in it.
    """


class JobFailed(ClientError):
    """A job ended without a result.

    ``type`` names the error: ``InvalidRequest``, ``OutOfCredits``, ``TaskFailed``,
    ``DeadlineExceeded``, ``JobCancelled`` … ``details`` holds further facts, as JSON.
    """

    def __init__(self, type: str, message: str, details: Mapping[str, Any] | None = None) -> None:  # noqa: A002
        super().__init__(type, message, dict(details or {}))
        self.type = type
        self.message = message
        self.details = dict(details or {})

    def __str__(self) -> str:
        return f"{self.type}: {self.message}"

    @classmethod
    def of(cls, error: BaseException) -> "JobFailed":
        """Read an error that ``AsyncResult.get()`` raised.

        If Celery does not have the error's class, it makes one of the same name. The arguments
        cross the result backend as they are: a message, and often details.
        """
        message, details = (*error.args, "", None)[:2]
        known = details if isinstance(details, Mapping) else None
        return cls(type(error).__name__, str(message), known)

    def to_json(self) -> dict[str, Any]:
        """Return ``{"type", "message", "details"}``."""
        return {"type": self.type, "message": self.message, "details": self.details}
