"""Fermata's errors, split by who must act.

    FermataError
    ├── ConfigError                operator: a setting is wrong
    ├── Unwritable                 operator: a file or folder cannot be written to
    ├── NeedsWorker                caller: the task was called eagerly or directly
    ├── InvalidRequest             caller: the parameters are wrong; the provider was not called
    ├── AlreadyEnqueued            nobody: an idempotency key was used again, for the same request
    ├── InvalidSignature           nobody: the delivery is not the provider's
    ├── InvalidPayload             us: an authentic delivery that cannot be read
    ├── UnknownBatch               caller: no such batch, or it is past its retention
    ├── UnknownJob                 caller: no such job, or it is past its retention
    ├── SubmissionUnconfirmed      operator: nobody knows whether the provider accepted
    ├── DeadlineExceeded           operator: the provider never finished
    ├── JobCancelled               nobody: someone asked for it
    ├── ProcessDied                caller: a plain task took its process along, each time it ran
    ├── FollowUpRefused            operator: for a day, the broker refused a job's follow-up
    ├── CallFailed                 operator: a host may not be called, or did not answer well
    │   └── ArchiveFailed          operator: files of a result could not be stored
    └── ProviderError              (retryable, retry_after)
        ├── RateLimited            wait
        ├── ProviderUnavailable    wait
        ├── RequestRefused         caller: validation, moderation, unknown clip
        ├── KeyRefused             operator: the API key is wrong
        ├── OperationRetired       caller: use the operation that it names
        ├── OutOfCredits           operator: top up
        ├── TaskFailed             caller: the provider gave up (refunded says whether it paid back)
        └── UnexpectedResponse     us: the provider said something new

An error crosses the result backend as its positional arguments (Celery rebuilds ``cls(*args)``).
So all of its data is in ``args``: the message, then a JSON object.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

Details = Mapping[str, Any]


class FermataError(Exception):
    """Base of every error Fermata raises; ``str()`` is the message alone."""

    def __init__(self, message: str, details: Details | None = None) -> None:
        super().__init__(*([message, dict(details)] if details else [message]))
        self.message = message
        self.details: Details = dict(details or {})

    def __str__(self) -> str:
        return self.message

    def to_json(self) -> dict[str, Any]:
        """Return ``{"type", "message", "details"}``, the form kept on a job's record."""
        return {"type": type(self).__name__, "message": self.message, "details": self.details}


class ConfigError(FermataError):
    """A setting is missing or wrong."""


class Unwritable(FermataError):
    """A file or folder cannot be written to: its rights, or the disk is full."""


class NeedsWorker(FermataError):
    """A provider task was called without a worker (eagerly, or as a plain function)."""


class InvalidRequest(FermataError):
    """The parameters are wrong; ``fields`` maps each field to its messages."""

    @property
    def fields(self) -> dict[str, Any]:
        return dict(self.details.get("fields", {}))


class AlreadyEnqueued(FermataError):
    """The job of this idempotency key is under way, or has ended."""


class InvalidSignature(FermataError):
    """A delivery that was not signed with this job's secret."""


class InvalidPayload(FermataError):
    """An authentic delivery that cannot be read."""


class UnknownBatch(FermataError):
    """There is no such batch."""


class UnknownJob(FermataError):
    """There is no record of the job."""


class SubmissionUnconfirmed(FermataError):
    """The outcome of the submit is unknown, and no webhook came within the grace period."""


class DeadlineExceeded(FermataError):
    """The provider did not finish before the job's deadline."""


class JobCancelled(FermataError):
    """The job was cancelled."""


class ProcessDied(FermataError):
    """A plain task in a Fermata worker was begun several times, and its process died each time."""


class FollowUpRefused(FermataError):
    """For a day, the broker refused the message of a task that follows a job."""


class CallFailed(FermataError):
    """A URL that somebody named may not be called, or was not answered well.

    ``details["retryable"]`` says that the same URL may work later.
    """

    @property
    def retryable(self) -> bool:
        return bool(self.details.get("retryable"))


class ArchiveFailed(CallFailed):
    """Files could not be stored; ``details["missing"]`` lists ``{name, source, why}`` of each."""


class ProviderError(FermataError):
    """The provider answered with an error.

    ``details`` may hold ``http_status``, ``retry_after`` (seconds), ``refunded`` and
    ``provider_type`` (the provider's own machine code).
    """

    retryable: ClassVar[bool] = False
    closes_gate: ClassVar[bool] = False
    """Every other job would fail with this error too, so the gate closes."""

    @property
    def retry_after(self) -> float | None:
        return self.details.get("retry_after")

    @property
    def http_status(self) -> int | None:
        return self.details.get("http_status")

    @property
    def refunded(self) -> bool | None:
        return self.details.get("refunded")


class RateLimited(ProviderError):
    """HTTP 429: certainly not accepted."""

    retryable = True


class ProviderUnavailable(ProviderError):
    """The provider could not be reached, or answered that it is unavailable."""

    retryable = True


class RequestRefused(ProviderError):
    """The provider refused the request for good: validation, moderation, unknown clip."""


class OperationRetired(ProviderError):
    """HTTP 410: the provider no longer offers the operation; ``details["instead"]`` names one."""


class KeyRefused(ProviderError):
    """HTTP 401: the provider does not take the API key."""

    closes_gate = True


class OutOfCredits(ProviderError):
    """No credits, or no active subscription."""

    closes_gate = True


class TaskFailed(ProviderError):
    """The provider accepted the work and failed it."""


class UnexpectedResponse(ProviderError):
    """The provider answered in a way that its documentation does not describe."""


def _by_name(root: type[FermataError]) -> dict[str, type[FermataError]]:
    found = {root.__name__: root}
    for child in root.__subclasses__():
        found |= _by_name(child)
    return found


_ERRORS = _by_name(FermataError)


def from_json(recorded: Mapping[str, Any]) -> FermataError:
    """Rebuild an error from :meth:`FermataError.to_json`."""
    # Another version of Fermata may have recorded an error that this one does not have.
    error = _ERRORS.get(recorded["type"], FermataError)
    return error(recorded["message"], recorded.get("details"))
