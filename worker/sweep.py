"""The sweep: whatever a job's moment calls for. Any worker may run it, any number at once."""

from collections.abc import Callable
from typing import Final, assert_never

import structlog

from worker.client import AnswerLost, NeverSent, Provider
from worker.core import protocol, schedule, submission
from worker.core.errors import DeadlineExceeded, FermataError, UnknownJob
from worker.core.models import Event, JobId, JobRecord, Source
from worker.core.operations import Operation, find
from worker.core.schedule import Policy, Step
from worker.core.states import JobState, Turn
from worker.handover import Clock, Handover
from worker.jobs import unconfirmed
from worker.store import Store, StoreUnavailable

log = structlog.get_logger()

LEASE_SECONDS: Final = 60
"""How long one sweep keeps a due job to itself: longer than a poll and a publish take."""

BATCH: Final = 20


class Sweep:
    """One pass over what is due. Its cost grows with what is due, not with what is parked."""

    def __init__(
        self,
        *,
        store: Store,
        provider: Provider,
        handover: Handover,
        policy: Policy,
        clock: Clock,
        jitter: Callable[[], float],
    ) -> None:
        self._store = store
        self._provider = provider
        self._handover = handover
        self._policy = policy
        self._clock = clock
        self._jitter = jitter

    def run_once(self) -> int:
        """Do what is due now, up to a batch; returns how many jobs that were.

        One job's trouble does not stop the others: it comes due again when its lease ends.
        """
        now = self._clock()
        lease_until = now + LEASE_SECONDS
        due = self._store.due(now=now, lease_until=lease_until, limit=BATCH)
        for job_id in due:
            try:
                self._attend(job_id, lease_until)
            except StoreUnavailable:
                raise
            except Exception:
                log.exception("sweep_failed", job_id=job_id)
        return len(due)

    def forget(self) -> None:
        """Trim the index of jobs whose records are past their retention."""
        self._store.forget_index(before=self._clock() - 2 * self._policy.retention_seconds)

    def _attend(self, job_id: JobId, lease_until: float) -> None:
        try:
            job = self._store.read(job_id)
        except UnknownJob:
            self._store.drop_due(job_id)
            return
        operation, step = find(job.operation), schedule.next_step(job, now=self._clock())
        log.info("sweep_step", job_id=job_id, step=step, state=job.state)
        match step:
            case Step.SUBMIT:
                self._handover.submit_again(job_id, stale_at=lease_until)
            case Step.RECLAIM:
                self._handover.resume_again(job_id)
            case Step.DOUBT:
                self._doubt(job_id, operation)
            case Step.GIVE_UP:
                self._resume_failing(job_id, unconfirmed(operation, "no webhook came"))
            case Step.EXPIRE:
                self._resume_failing(job_id, _expired(job))
            case Step.POLL:
                self.poll(job, operation)
            case Step.NOTHING:
                self._store.drop_due(job_id)
            case _:
                assert_never(step)

    def _doubt(self, job_id: JobId, operation: Operation) -> None:
        now, why = self._clock(), "its worker went silent while it submitted"
        if operation.repeatable:
            self._store.turn(job_id, Turn.POSTPONE, now=now, due_at=now, why=why)
        elif operation.takes_webhook:
            due_at = now + self._policy.unconfirmed_grace_seconds
            self._store.turn(job_id, Turn.DOUBT, now=now, due_at=due_at, why=why)
        else:
            self._resume_failing(job_id, unconfirmed(operation, why))

    def _resume_failing(self, job_id: JobId, error: FermataError) -> None:
        self._handover.resume(job_id, Event(Source.SWEEP, error=error.to_json()))

    def poll(self, job: JobRecord, operation: Operation) -> None:
        """Ask the provider how a waiting job stands, and record what it says."""
        match self._ask(job, operation):
            case protocol.Finished(body):
                self._handover.resume(job.job_id, Event(Source.POLL, body=body))
            case protocol.Failed(error):
                self._handover.resume(job.job_id, Event(Source.POLL, error=error.to_json()))
            case protocol.Postponed(reason, retry_after):
                log.warning("poll_unanswered", job_id=job.job_id, why=reason)
                self._poll_later(job, after=retry_after or 0)
            case protocol.Running(progress):
                self._poll_later(job, progress=progress)

    def _ask(self, job: JobRecord, operation: Operation) -> protocol.PollOutcome:
        if job.provider_task_id is None:
            return protocol.Postponed("the provider task is unknown")
        try:
            answer = self._provider.send(submission.build_poll(operation, job.provider_task_id))
        except (NeverSent, AnswerLost) as error:
            return protocol.Postponed(error.message)
        return protocol.read_poll(operation, answer)

    def _poll_later(
        self, job: JobRecord, *, after: float = 0, progress: dict[str, object] | None = None
    ) -> None:
        now = self._clock()
        due_at = schedule.next_poll(job.polls, self._policy, now=now, jitter=self._jitter())
        self._store.note(
            job.job_id,
            now=now,
            sources=(JobState.WAITING,),
            due_at=min(max(due_at, now + after), job.deadline_at),
            fields={"progress": progress} if progress else {},
            count="polls",
        )


def _expired(job: JobRecord) -> DeadlineExceeded:
    lasted = round(job.deadline_at - job.created_at)
    return DeadlineExceeded(f"{job.operation} did not finish within {lasted} s (was {job.state})")
