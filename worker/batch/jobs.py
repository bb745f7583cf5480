"""The jobs of a batch, as their records in Redis show them."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from worker.core import keys
from worker.core.errors import FermataError
from worker.core.job.models import JobId, JSONObject
from worker.core.job.states import TERMINAL, JobState
from worker.core.providers import chosen

if TYPE_CHECKING:
    from redis import Redis

_SHOWN: Final = ("state", "result", "error", "cost")
_READ_LATE: Final = ("late", "operation", "clip_id", "provider_task_id")


@dataclass(frozen=True, slots=True)
class Job:
    """A job as a batch shows it; its state is None if there is no record of it."""

    state: JobState | None
    result: JSONObject | None = field(default=None, repr=False)
    error: JSONObject | None = None
    cost: float = 0
    late: JSONObject | None = field(default=None, repr=False)
    """A result that came after the job had ended without it. It was paid for."""

    @property
    def failed(self) -> bool:
        return self.state in TERMINAL and self.state is not JobState.SUCCEEDED

    @property
    def live(self) -> bool:
        return self.state is not None and self.state not in TERMINAL


def read_jobs(redis: "Redis", job_ids: Sequence[JobId]) -> list[Job]:
    """Read jobs, in one round trip.

    Raises StoreUnavailable.
    """
    with redis.pipeline(transaction=False) as pipe:
        for job_id in job_ids:
            pipe.hmget(keys.job(job_id), [*_SHOWN, *_READ_LATE])
        pairs = zip(job_ids, pipe.execute(), strict=True)
        return [_job(job_id, *found) for job_id, found in pairs]


def _job(
    job_id: JobId,
    state: str | None,
    result: str | None,
    error: str | None,
    cost: str | None,
    *late: str | None,
) -> Job:
    return Job(
        state=JobState(state) if state else None,
        result=json.loads(result) if result else None,
        error=json.loads(error) if error else None,
        cost=int(cost or 0) / 1000,
        late=_read_late(job_id, *late),
    )


def _read_late(
    job_id: JobId,
    late: str | None,
    operation: str | None,
    clip_id: str | None,
    provider_task_id: str | None,
) -> JSONObject | None:
    if not late or not operation:
        return None
    try:
        return chosen().read_result(
            job_id,
            operation,
            json.loads(late)["body"],
            clip_id=clip_id,
            provider_task_id=provider_task_id,
        )
    except FermataError:
        return None  # the late delivery says that the job failed, so nothing was paid for
