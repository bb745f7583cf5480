"""The sweep: whatever a job's moment calls for. Any worker may run it, any number at once."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, assert_never

import structlog

from worker.core.errors import DeadlineExceeded, FermataError, UnknownJob
from worker.core.job import doubt, timing
from worker.core.job.doubt import Doubt
from worker.core.job.models import Event, JobId, JobRecord, Source
from worker.core.job.states import JobState, Turn
from worker.core.job.timing import Policy, Step
from worker.core.ports import Agenda, Clock, Provider, Readings, Records, Transport
from worker.core.wire import (
    AnswerLost,
    Failed,
    Finished,
    NeverSent,
    Operation,
    PollOutcome,
    Postponed,
    Running,
    find,
)
from worker.engine.cancel import cancelled
from worker.messages.press import SubmitLegs

log = structlog.get_logger()

LEASE_SECONDS: Final = 60
"""How long one sweep keeps a due job to itself: longer than a batch takes, every poll of which
ends within POLL_SECONDS."""

BATCH: Final = 20
POLLS_AT_ONCE: Final = 8


class Sweep:
    """One pass over what is due. Its cost grows with what is due, not with what is parked."""

    def __init__(
        self,
        *,
        records: Records,
        readings: Readings,
        agenda: Agenda,
        provider: Provider,
        transport: Transport,
        submit_legs: SubmitLegs,
        policy: Policy,
        clock: Clock,
        jitter: Callable[[], float],
    ) -> None:
        self._records = records
        self._readings = readings
        self._agenda = agenda
        self._provider = provider
        self._transport = transport
        self._submit_legs = submit_legs
        self._policy = policy
        self._clock = clock
        self._jitter = jitter

    def run_once(self) -> int:
        """Do what is due now, up to a batch; returns how many jobs that were.

        One job's trouble does not stop the others: it comes due again when its lease ends.
        """
        now = self._clock()
        lease_until = now + LEASE_SECONDS
        due = self._agenda.due(now=now, lease_until=lease_until, limit=BATCH)
        jobs = [job for job in map(self._look, due) if job]
        polls = [job for job in jobs if not self._attend_safely(job, lease_until)]
        polls = [job for job in polls if self._may_poll(job)]
        # What needs the provider comes last and side by side: it can be slow, or away.
        with ThreadPoolExecutor(POLLS_AT_ONCE, "fermata-poll") as pool:
            list(pool.map(self._poll_safely, polls))
        return len(due)

    def _look(self, job_id: JobId) -> JobRecord | None:
        try:
            return self._readings.read(job_id)
        except UnknownJob:
            self._records.drop_due(job_id)
        except (KeyError, ValueError):
            log.exception("record_unreadable", job_id=job_id)
        return None

    def forget(self) -> None:
        """Trim the index of jobs whose records are past their retention."""
        self._readings.forget_index(before=self._clock() - 2 * self._policy.retention_seconds)

    def _may_poll(self, job: JobRecord) -> bool:
        """Reserve the job's moment among all the polls there are; False where it is to come."""
        now = self._clock()
        if job.poll_at is not None:
            return True  # it has waited for the moment that it had reserved
        wait = self._agenda.reserve_poll(spacing_seconds=1 / self._policy.polls_per_second)
        if wait <= 0:
            return True
        poll_at = now + wait
        fields = {"poll_at": poll_at}
        waiting = (JobState.WAITING,)
        self._records.note(job.job_id, now=now, sources=waiting, due_at=poll_at, fields=fields)
        return False

    def _attend_safely(self, job: JobRecord, lease_until: float) -> bool:
        try:
            return self._attend(job, lease_until)
        except self._records.unavailable:
            raise
        except Exception:
            log.exception("sweep_failed", job_id=job.job_id)
            return True

    def _attend(self, job: JobRecord, lease_until: float) -> bool:
        """Do what a job needs of us alone; False where the provider must be asked."""
        step = timing.next_step(job, self._policy, now=self._clock())
        log.info("sweep_step", job_id=job.job_id, step=step, state=job.state)
        match step:
            case Step.POLL:
                return False
            case Step.SUBMIT:
                self._submit_again(job, lease_until)
            case Step.DOUBT:
                self._doubt(job, self._operation(job))
            case Step.RESUBMIT:
                self._resubmit(job)
            case Step.GIVE_UP:
                why = "no webhook came"
                self._resume_failing(job, doubt.unconfirmed(self._operation(job), why))
            case Step.EXPIRE:
                self._resume_failing(job, _expired(job))
            case Step.CANCEL:
                self._resume_failing(job, cancelled(job.job_id, job.cancelled_by or ""))
            case Step.NOTHING:
                self._records.drop_due(job.job_id)
            case _:
                assert_never(step)
        return True

    def _operation(self, job: JobRecord) -> Operation:
        return find(self._provider.operations, job.operation)

    def _submit_again(self, job: JobRecord, lease_until: float) -> None:
        # A job that backed off comes due here too; what is counted is a message that was lost.
        lost = job.attempts == 0
        if lost:
            why = "no worker took its message"
            self._records.note(
                job.job_id, now=self._clock(), what="republish", why=why, count="republished"
            )
        self._submit_legs.publish(
            job.job_id, stale_at=lease_until, republished=job.republished + lost
        )

    def _resubmit(self, job: JobRecord) -> None:
        now, why = self._clock(), "still unconfirmed: FERMATA_ON_UNCONFIRMED=resubmit"
        turn, count = Turn.RESUBMIT, "resubmissions"
        self._records.turn(job.job_id, turn, now=now, due_at=now, why=why, leg=job.leg, count=count)

    def _doubt(self, job: JobRecord, operation: Operation) -> None:
        now, why = self._clock(), "its worker went silent while it submitted"
        if self._records.take_from(job.job_id, job.leg):
            why = "its worker went silent before it submitted"
            self._records.turn(job.job_id, Turn.POSTPONE, now=now, due_at=now, why=why)
            return
        turn, due_at, count = Turn.POSTPONE, now, ""
        match doubt.decide(operation, job.resubmissions, self._policy):
            case Doubt.WAIT:
                turn, due_at = Turn.DOUBT, now + self._policy.unconfirmed_grace_seconds
            case Doubt.RESUBMIT:
                count = "resubmissions"
            case Doubt.FAIL:
                self._resume_failing(job, doubt.unconfirmed(operation, why))
                return
        self._records.turn(
            job.job_id, turn, now=now, due_at=due_at, why=why, leg=job.leg, count=count
        )

    def _resume_failing(self, job: JobRecord, error: FermataError) -> None:
        event = Event(Source.SWEEP, error=error.to_json())
        # What has happened since it was read is news to us, and may be that it was accepted.
        now = self._clock()
        self._records.claim(job.job_id, event, now=now, leg=job.leg, seen=job.state)

    def _resume(self, job: JobRecord, event: Event) -> None:
        self._records.claim(job.job_id, event, now=self._clock())

    def _poll_safely(self, job: JobRecord) -> None:
        try:
            self.poll(job, self._operation(job))
        except Exception:
            log.exception("poll_failed", job_id=job.job_id)

    def poll(self, job: JobRecord, operation: Operation) -> None:
        """Ask the provider how a waiting job stands, and record what it says.

        A job that is past its deadline ends with what succeeded so far, or expires.
        """
        outcome = self._ask(job, operation)
        match outcome:
            case Finished(body):
                self._resume(job, Event(Source.POLL, body=body))
            case Failed(error):
                self._resume(job, Event(Source.POLL, error=error.to_json()))
            case Running(_, str(usable)) if self._clock() >= job.deadline_at:
                self._resume(job, Event(Source.POLL, body=usable))
            case _ if self._clock() >= job.deadline_at:
                self._resume_failing(job, _expired(job))
            case Postponed(reason, retry_after):
                log.warning("poll_unanswered", job_id=job.job_id, why=reason)
                self._poll_later(job, after=retry_after or 0)
            case Running(progress, _):
                self._poll_later(job, progress=progress)

    def _ask(self, job: JobRecord, operation: Operation) -> PollOutcome:
        if job.provider_task_id is None:
            return Postponed("the provider task is unknown")
        try:
            request = self._provider.build_poll(operation.name, job.provider_task_id)
            answer = self._transport.send(request)
        except (NeverSent, AnswerLost) as error:
            return Postponed(error.message)
        return self._provider.read_poll(operation.name, answer)

    def _poll_later(
        self, job: JobRecord, *, after: float = 0, progress: dict[str, object] | None = None
    ) -> None:
        now = self._clock()
        due_at = timing.next_poll(job.polls, self._policy, now=now, jitter=self._jitter())
        self._records.note(
            job.job_id,
            now=now,
            sources=(JobState.WAITING,),
            due_at=min(max(due_at, now + after), job.deadline_at),
            fields={"poll_at": "", **({"progress": progress} if progress else {})},
            count="polls",
        )


def _expired(job: JobRecord) -> DeadlineExceeded:
    lasted = round(job.deadline_at - job.created_at)
    if job.state is JobState.HELD:
        why = job.timeline[-1].get("why", "") if job.timeline else ""
        return DeadlineExceeded(f"{job.operation} was not admitted within {lasted} s: {why}")
    return DeadlineExceeded(f"{job.operation} did not finish within {lasted} s (was {job.state})")
