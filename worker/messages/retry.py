"""Use case: run a failed job again, and let the steps after it follow.

A job that failed keeps its message on its record, with all steps that were to follow it. A retry
publishes that message again under a new id. So nothing before the job runs again, the steps after
it run under the ids that they have always had, and an ``AsyncResult`` of such a step gets its
result after all. The new id derives from the old one, so two retries of one job enqueue it once.

A chord is over when one job of its header has failed: Celery has failed its body. So a job of a
header cannot be retried alone. The batch of a job counts the job that runs in its place instead.
"""

import json
import uuid
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import structlog

from worker.core.contract import DIGEST_HEADER
from worker.core.errors import (
    FermataError,
    InvalidRequest,
    KeyRefused,
    OperationRetired,
    OutOfCredits,
    ProviderUnavailable,
    RateLimited,
    RequestRefused,
    TaskFailed,
    UnknownJob,
)
from worker.core.job import canvas, kept
from worker.core.job.canvas import Step
from worker.core.job.models import JobId, JobRecord
from worker.core.job.states import LOST
from worker.core.ports import Clock
from worker.core.providers import chosen, find
from worker.messages.press import Publisher, pack
from worker.messages.recording import Recorder
from worker.messages.watch import flow_of, look
from worker.store.readings import Readings
from worker.store.records import Records

log = structlog.get_logger()

_NOT_CHARGED: Final = frozenset(
    error.__name__
    for error in (
        InvalidRequest,
        RateLimited,
        ProviderUnavailable,
        RequestRefused,
        KeyRefused,
        OperationRetired,
        OutOfCredits,
    )
)
"""The provider never took the work."""

_ONCE: Final = ("eta", "expires", "timestamp")
"""Headers that were meant for the first run alone."""

_DECIDE: Final = ("attempts", "cost", "error", "late", "clip_id", "provider_task_id", "batch")
"""The fields of a record, besides those that place it in its flow, that decide about a retry."""

PERHAPS_PAID: Final = (
    "the provider may have charged for it: if you accept that, retry it 'even if paid'"
)


CALLED_OFF: Final = "its batch was cancelled: retry the batch"
WRONG: Final = "its request was wrong from the start"
"""Nothing was recorded to be sent. What was refused by the provider keeps its message."""
INSTEAD_CAME_LATE: Final = "the result of the job in whose place it ran came late"


class NotRetried(InvalidRequest):
    """A job that cannot be retried, or not without consent; ``why`` is the same for all alike."""

    def __init__(self, job_id: JobId, why: str, *, again: JobId | None = None) -> None:
        super().__init__(f"{job_id} cannot be retried: {why}{f' ({again})' if again else ''}")
        self.why = why


@dataclass(slots=True)
class Retried:
    """What became of the failed jobs of a flow."""

    jobs: dict[JobId, JobId] = field(default_factory=dict)
    """Each job that was retried, and the job that runs in its place."""
    refused: dict[JobId, str] = field(default_factory=dict)
    """Each job that was not, and why."""


@dataclass(frozen=True, slots=True)
class Prospect:
    """What would become of a job that were retried."""

    job_id: JobId
    why: str
    """Why it would not be retried without further consent; empty if it would."""
    following: tuple[Step, ...] = ()
    """The steps after it, which run once it has succeeded."""


class Retries:
    """Runs failed jobs again."""

    def __init__(
        self,
        *,
        records: Records,
        readings: Readings,
        recorder: Callable[[], Recorder],
        publisher: Publisher,
        clock: Clock,
    ) -> None:
        self._records = records
        self._readings = readings
        self._recorder = recorder
        self._publisher = publisher
        self._clock = clock

    def close(self) -> None:
        """Close the connections to the broker."""
        self._publisher.close()

    def retry(self, job_id: JobId, *, by: str, even_if_paid: bool = False) -> JobId:
        """Enqueue a failed job again; returns the id of the job that runs in its place.

        Args:
            by: who asks; it stands in the timeline.
            even_if_paid: retry even if the provider may have charged for the job that failed.

        Raises UnknownJob; NotRetried; StoreUnavailable; kombu's OperationalError if the broker is
        away: then the sweep publishes the job later.
        """
        job, again = self._readings.read(job_id), _again(job_id)
        state, now = self._readings.state(again), self._clock()
        publishes, wire = False, dict[str, Any]()
        if state is None:
            if job.again:
                # This record may be kept for longer than that one (tally.lua), which may have
                # succeeded.
                why = "it was retried, and the job in its place is past its retention"
                raise NotRetried(job_id, why)
            message = self._readings.message(job_id)
            wire = self._message(job, message, even_if_paid=even_if_paid)
            if job.batch and self._readings.called_off([job.batch]):
                raise NotRetried(job_id, CALLED_OFF)
            wire["headers"] = _renamed(wire["headers"], job_id, again)
            wire["properties"] |= {"correlation_id": again}
            # The record comes first. If this process dies here, the sweep publishes the job, and
            # the next retry names it.
            publishes = self._recorder().record(find(job.operation), wire, instead_of=job_id)
            self._records.note(again, now=now, what="retried", why=f"{by}, in place of {job_id}")
        if job.again is None:
            self._records.replace(job_id, by=again, now=now, why=f"{by}, as {again}")
        if state in LOST:
            why = f"it was retried, and the job in its place is {state}: retry that"
            raise NotRetried(job_id, why, again=again)
        log.info("job_retried", job_id=job_id, again=again, by=by)
        if publishes:
            self._publisher.publish(pack(wire))
        return again

    def retry_flow(self, job_id: JobId, *, by: str, even_if_paid: bool = False) -> Retried:
        """Retry what failed of the flow that a job is part of; what succeeded is not run again.

        Raises UnknownJob, StoreUnavailable, OperationalError.
        """
        done = Retried()
        flow = flow_of(self._readings, self._readings.read(job_id))
        for sight in look(self._readings, flow, only=()):
            if sight.record and sight.record.state in LOST:
                failed = sight.record.job_id
                try:
                    done.jobs[failed] = self.retry(failed, by=by, even_if_paid=even_if_paid)
                except InvalidRequest as error:
                    done.refused[failed] = error.message
        return done

    def prospects(
        self, job_ids: Sequence[JobId], *, with_batch: str | None = None
    ) -> list[Prospect]:
        """Say of each job on record whether it would be retried, and what would follow it.

        Args:
            with_batch: the batch that is retried as a whole: it goes on if it was cancelled.

        Raises StoreUnavailable.
        """
        jobs = self._readings.read_in_part(job_ids, *_DECIDE)
        messages = self._readings.messages([job.job_id for job in jobs])
        batches = {job.batch for job in jobs if job.batch} - {with_batch}
        called_off = self._readings.called_off([*batches])
        return [
            self._prospect(job, message, called_off=job.batch in called_off)
            for job, message in zip(jobs, messages, strict=True)
        ]

    def _prospect(self, job: JobRecord, message: str | None, *, called_off: bool) -> Prospect:
        why = self._refusal(job, message)
        if message and why in {"", PERHAPS_PAID}:
            if called_off:
                return Prospect(job.job_id, CALLED_OFF)
            return Prospect(job.job_id, why, canvas.still_to_come(job.job_id, message))
        return Prospect(job.job_id, why)

    def _refusal(self, job: JobRecord, message: str | None) -> str:
        try:
            self._message(job, message, even_if_paid=False)
        except NotRetried as error:
            return error.why
        return ""

    def _message(
        self, job: JobRecord, message: str | None, *, even_if_paid: bool
    ) -> dict[str, Any]:
        """Return the message of a job that may be retried, unpacked.

        Raises NotRetried.
        """
        why = _refusal(job, message) or self._refusal_of_those_before(job)
        if why or not message:
            raise NotRetried(job.job_id, why)
        try:
            wire, body = kept.unpack(message)
            _, _, embed = json.loads(body)
        except (ValueError, zlib.error):
            raise NotRetried(job.job_id, "its message is not JSON") from None
        if _ends_in_a_chord(embed):
            raise NotRetried(job.job_id, "it is one of a chord, which failed with it")
        # The last question: only what could be retried is offered at the risk of paying twice.
        if not even_if_paid and _may_be_paid(job):
            raise NotRetried(job.job_id, PERHAPS_PAID)
        return wire | {"body": body}

    def _refusal_of_those_before(self, job: JobRecord) -> str:
        """Say why no job is to run again in the place of those that a job was run instead of."""
        while job.instead_of:
            try:
                job = self._readings.read(job.instead_of)
            except UnknownJob:
                break
            if _has_come_late(job):
                return INSTEAD_CAME_LATE
        return ""


def _refusal(job: JobRecord, message: str | None) -> str:
    """Say why the record of a job does not let it be retried; empty if it does."""
    if job.state not in LOST:
        return f"it is {job.state}"
    if _has_come_late(job):
        return "its result came late, and is on its record"
    if not message and (job.error or {}).get("type") == InvalidRequest.__name__:
        return WRONG
    return "" if message else "its message is not on record"


def _has_come_late(job: JobRecord) -> bool:
    """Say whether the whole result of a job came after it had ended without it."""
    if not (job.late and job.late["final"]):
        return False
    try:
        chosen().read_result(
            job.job_id,
            job.operation,
            job.late["body"],
            clip_id=job.clip_id,
            provider_task_id=job.provider_task_id,
        )
    except FermataError:
        return False
    return True


def _may_be_paid(job: JobRecord) -> bool:
    """Say whether the provider may have charged for a job that ended without its result.

    It may for every job that was sent, unless the error itself says that it did not.
    """
    if job.late:
        return True
    if not (job.attempts and job.cost):
        return False
    error = job.error or {}
    if error.get("type") == TaskFailed.__name__:
        return (error.get("details") or {}).get("refunded") is False
    return error.get("type") not in _NOT_CHARGED


def _ends_in_a_chord(embed: Mapping[str, Any]) -> bool:
    """Say whether a job, or the last step of the chain after it, is one of a chord's header.

    If the job fails, Celery fails that chord too (``Backend.mark_as_failure``).
    """
    steps = embed.get("chain") or ()
    return bool(embed.get("chord") or any(step["options"].get("chord") for step in steps))


def _again(job_id: JobId) -> JobId:
    """Name the job that runs in the place of a failed one."""
    return JobId(str(uuid.uuid5(uuid.NAMESPACE_URL, f"fermata:again:{job_id}")))


def _renamed(headers: dict[str, Any], before: JobId, after: JobId) -> dict[str, Any]:
    """Return the headers of a message for a new id, without what was meant for the first run."""
    kept_on = {name: value for name, value in headers.items() if name != DIGEST_HEADER}
    kept_on |= dict.fromkeys(name for name in _ONCE if name in headers)
    root = after if headers.get("root_id") == before else headers.get("root_id")
    return kept_on | {"id": after, "root_id": root, "retries": 0}
