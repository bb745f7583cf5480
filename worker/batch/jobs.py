"""The jobs of a batch, as their records in Redis show them."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from worker.core import keys
from worker.core.errors import FermataError
from worker.core.job.models import JobId, JSONObject
from worker.core.job.states import TERMINAL, UNSETTLED, JobState
from worker.core.providers import chosen

if TYPE_CHECKING:
    from redis import Redis

_FIELDS: Final = (
    "again", "cancelled_by", "state", "result", "error", "cost",
    "late", "operation", "clip_id", "provider_task_id",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Job:
    """A job as a batch shows it; its state is None if there is no record of it."""

    job_id: JobId
    state: JobState | None
    result: JSONObject | None = field(default=None, repr=False)
    error: JSONObject | None = None
    cost: float = 0
    late: JSONObject | None = field(default=None, repr=False)
    """A result that came after the job had ended without it. It was paid for."""
    again: JobId | None = None
    """The job that runs in its place: this one was retried."""
    cancelled_by: str | None = None

    @property
    def failed(self) -> bool:
        return self.state in TERMINAL and self.state is not JobState.SUCCEEDED

    @property
    def may_be_cancelled(self) -> bool:
        """Say whether it is under way, and neither has its event nor is to end already."""
        return self.state in UNSETTLED and self.cancelled_by is None


def read_jobs(redis: "Redis", job_ids: Sequence[JobId]) -> list[Job]:
    """Read jobs; in the place of one that was retried, the job that runs instead.

    Raises StoreUnavailable.
    """
    found = _read(redis, job_ids)
    while again := {place: job.again for place, job in enumerate(found) if job.again}:
        for place, job in zip(again, _read(redis, [*again.values()]), strict=True):
            found[place] = job
    return found


def _read(redis: "Redis", job_ids: Sequence[JobId]) -> list[Job]:
    with redis.pipeline(transaction=False) as pipe:
        for job_id in job_ids:
            pipe.hmget(keys.job(job_id), _FIELDS)
        pairs = zip(job_ids, pipe.execute(), strict=True)
        return [_job(job_id, dict(zip(_FIELDS, found, strict=True))) for job_id, found in pairs]


def _job(job_id: JobId, stored: Mapping[str, str | None]) -> Job:
    state, again = stored["state"], stored["again"]
    return Job(
        job_id=job_id,
        state=JobState(state) if state else None,
        result=_document(stored["result"]),
        error=_document(stored["error"]),
        cost=int(stored["cost"] or 0) / 1000,
        late=_read_late(job_id, stored),
        again=JobId(again) if again else None,
        cancelled_by=stored["cancelled_by"],
    )


def _document(text: str | None) -> JSONObject | None:
    found: JSONObject | None = json.loads(text) if text else None
    return found


def _read_late(job_id: JobId, stored: Mapping[str, str | None]) -> JSONObject | None:
    late, operation = stored["late"], stored["operation"]
    if not late or not operation:
        return None
    try:
        return chosen().read_result(
            job_id,
            operation,
            json.loads(late)["body"],
            clip_id=stored["clip_id"],
            provider_task_id=stored["provider_task_id"],
        )
    except FermataError:
        return None  # the late delivery says that the job failed, so nothing was paid for
