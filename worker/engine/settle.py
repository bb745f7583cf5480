"""Use cases of the resumed leg: read the event that ends a job, and settle the job.

A conductor runs the leg, in the task that parked the job. By the task's ``on_success`` or
``on_failure`` Celery says how the leg ended. When its result is stored and its next step is
published, the job is settled, many jobs in one round trip.
"""

from collections.abc import Iterable, Sequence
from dataclasses import astuple
from typing import Final

import structlog

from worker import tracing
from worker.core import errors
from worker.core.errors import FermataError
from worker.core.job.canvas import Step
from worker.core.job.models import JobId, JSONObject, Leased, Settlement
from worker.core.job.states import Turn
from worker.core.job.timing import Policy
from worker.core.ports import Clock, Provider, Records
from worker.core.wire import Operation
from worker.engine.patience import insist

log = structlog.get_logger()

SETTLE_SECONDS: Final = 150
"""How long a leg insists on settling its job. If it gives up, a conductor resumes the job again and
calls its errbacks a second time. A Redis that fails over to its replica is away for a minute at
most."""


class Settlements:
    """Ends jobs."""

    def __init__(
        self, *, records: Records, provider: Provider, policy: Policy, clock: Clock
    ) -> None:
        self._records = records
        self._provider = provider
        self._policy = policy
        self._clock = clock

    def result(self, leased: Leased, operation: Operation) -> JSONObject:
        """Read the event of a leased job into its result.

        Raises the error that the event carries, or that the provider's words mean.
        """
        event = leased.event
        if event.error is not None:
            raise errors.from_json(event.error)
        return self._provider.read_result(
            leased.job_id,
            operation.name,
            event.body or "",
            clip_id=leased.clip_id,
            provider_task_id=leased.provider_task_id,
        )

    def settlement(
        self,
        job_id: JobId,
        operation: Operation,
        outcome: JSONObject | BaseException,
        *,
        following: Iterable[Step] = (),
        leased: Leased | None = None,
    ) -> Settlement:
        """Say how a job is to end; after a success, its record drops its parked message.

        Args:
            following: the steps after the job, which that message held.
            leased: the job as a conductor has it; None if it failed before it was parked.
        """
        turn, fields, why = _ending(outcome)
        fields |= {"operation": operation.name} | _left_behind(job_id, following, turn)
        told = {"operation": operation.name} | _told_of(leased, self._clock())
        if trace_id := tracing.trace_id():
            told["trace_id"] = trace_id
        return Settlement(job_id, turn, why, fields, _dropped(outcome), told)

    def settle(self, settlements: Sequence[Settlement]) -> None:
        """Settle jobs; whatever keeps one of them from being settled now, insist.

        Celery has published the next steps already. If a job is not settled now, its leg runs again
        and publishes its next step a second time.

        Raises the error that kept a job from being settled for ``SETTLE_SECONDS``.
        """
        left = list(settlements)

        def write() -> None:
            nonlocal left
            left, error = self.try_to_settle(left)
            if error:
                raise error

        insist(
            write,
            unavailable=self._records.unavailable,
            seconds=SETTLE_SECONDS,
            clock=self._clock,
        )

    def try_to_settle(
        self, settlements: Sequence[Settlement]
    ) -> tuple[list[Settlement], Exception | None]:
        """Settle jobs in one round trip; returns those that could not be settled now, and why."""
        try:
            answers = self._records.settle(
                settlements, now=self._clock(), retain_seconds=self._policy.retention_seconds
            )
        except self._records.unavailable as error:
            return list(settlements), error
        left, why = [], None
        for each, answer in zip(settlements, answers, strict=True):
            if isinstance(answer, Exception):
                left.append(each)
                why = answer
                continue
            name = "job_settled" if answer else "job_was_settled"
            log.info(name, job_id=each.job_id, outcome=each.turn, why=each.why, **each.told)
        return left, why


def _told_of(leased: Leased | None, now: float) -> JSONObject:
    """Return what the log says of a settled job beside its outcome."""
    if leased is None:
        return {"source": "none"}
    told: JSONObject = {"source": leased.event.source, "tenant": leased.tenant}
    if leased.created_at is not None:
        told["seconds"] = round(max(now - leased.created_at, 0), 3)
    return told


def _left_behind(job_id: JobId, following: Iterable[Step], turn: Turn) -> JSONObject:
    """Keep the steps after a job on its record, unless another record will name them."""
    # After a success the next steps run, and their records name their own successors. After a
    # failure none of them runs, so this record is the only place that can name them all.
    kept = [s for s in following if s.after == job_id or turn is not Turn.SUCCEED]
    steps = [astuple(step) for step in kept]
    return {"following": {"steps": steps}} if steps else {}


def _dropped(outcome: JSONObject | BaseException) -> list[str]:
    """Name the fields that a settled record drops.

    A failed job keeps its event, as evidence, and its message, to be retried.
    """
    return ["leg"] if isinstance(outcome, BaseException) else ["parked", "leg", "event"]


def _ending(outcome: JSONObject | BaseException) -> tuple[Turn, JSONObject, str]:
    match outcome:
        case errors.JobCancelled():
            return Turn.CANCEL, {"error": outcome.to_json()}, outcome.message
        case errors.DeadlineExceeded():
            return Turn.EXPIRE, {"error": outcome.to_json()}, outcome.message
        case FermataError():
            return Turn.FAIL, {"error": outcome.to_json()}, type(outcome).__name__
        case BaseException():
            return Turn.FAIL, {"error": FermataError(repr(outcome)).to_json()}, repr(outcome)[:200]
        case _:
            return Turn.SUCCEED, {"result": outcome}, ""
