"""Use case: do what a job needs when its due time has come.

Every job that waits has a due time, in case nothing ends its wait: a webhook is late, a message is
lost, a worker is dead, a deadline is over. A thread of every worker calls ``run_once``: it leases a
few due jobs and takes the next step of each (``core/job/timing.py``): poll, publish again, give
up, expire. Any number of sweeps may run at once.
"""

from typing import Final, assert_never

import structlog

from worker.core.errors import FermataError, UnknownJob
from worker.core.job import doubt, timing
from worker.core.job.doubt import Doubt
from worker.core.job.models import JobId, JobRecord
from worker.core.job.states import Turn
from worker.core.job.timing import Policy, Step, expired
from worker.core.ports import Agenda, Clock, Indexes, Provider, Readings, Records
from worker.core.wire import (
    Operation,
    find,
)
from worker.engine.cancel import cancelled
from worker.engine.poll import Polls, give_up
from worker.messages.press import SubmitLegs

log = structlog.get_logger()

LEASE_SECONDS: Final = 60
"""How long one sweep keeps a due job to itself. A batch takes about half of that: 20 polls, 8 at
once, each within POLL_SECONDS."""

BATCH: Final = 20


class Sweep:
    """One pass over the due jobs. Its cost grows with these, not with the parked jobs."""

    def __init__(
        self,
        *,
        records: Records,
        readings: Readings,
        agenda: Agenda,
        indexes: Indexes,
        provider: Provider,
        polls: Polls,
        submit_legs: SubmitLegs,
        policy: Policy,
        clock: Clock,
    ) -> None:
        self._records = records
        self._readings = readings
        self._agenda = agenda
        self._indexes = indexes
        self._provider = provider
        self._polls = polls
        self._submit_legs = submit_legs
        self._policy = policy
        self._clock = clock

    def run_once(self) -> int:
        """Attend to the jobs that are due now, up to a batch; returns their number.

        An error with one job does not stop the others: that job is due again when its lease ends.
        """
        now = self._clock()
        lease_until = now + LEASE_SECONDS
        due = self._agenda.due(now=now, lease_until=lease_until, limit=BATCH)
        jobs = [job for job in map(self._look, due) if job]
        # Poll last: the provider can be slow or away, and the other steps do not need it.
        self._polls.run([job for job in jobs if not self._attend_safely(job, lease_until)])
        return len(due)

    def _look(self, job_id: JobId) -> JobRecord | None:
        try:
            return self._readings.read(job_id)
        except UnknownJob:
            self._records.drop_due(job_id)
        # A damaged record stays due, so the log repeats this until somebody looks at it.
        except (KeyError, ValueError):
            log.exception("record_unreadable", job_id=job_id)
        return None

    def forget(self) -> None:
        """Trim the lists of jobs whose records are past their retention."""
        retention, now = self._policy.retention_seconds, self._clock()
        # Twice the retention: it begins when a job ends, and some lists have its time of creation.
        self._indexes.forget(recorded_before=now - 2 * retention, ended_before=now - retention)

    def _attend_safely(self, job: JobRecord, lease_until: float) -> bool:
        try:
            return self._attend(job, lease_until)
        except self._records.unavailable:
            raise
        except Exception:
            log.exception("sweep_failed", job_id=job.job_id)
            return True

    def _attend(self, job: JobRecord, lease_until: float) -> bool:
        """Take a job's next step, unless it is a poll; False if it is."""
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
                self._resume_failing(job, expired(job))
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
        # A job that backed off comes due here too. If a message was lost, its job never began.
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
        # If the leg never announced, it sent nothing: submit the job again, at no risk.
        if self._records.take_from(job.job_id, job.leg):
            why = "its worker went silent before it submitted"
            # This turn names no leg: take_from.lua has cleared it.
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
        give_up(self._records, job, error, now=self._clock())
