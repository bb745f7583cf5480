"""Use case: ask the provider how a waiting job stands.

A poll stands in for a webhook that is late, or that the provider does not send. The sweep calls
this module with the waiting jobs that are due. All workers together keep to so many polls a second:
a job reserves a time for its poll, and is due again at that time.
"""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import structlog

from worker import tracing
from worker.core.errors import FermataError, InvalidRequest, JobCancelled
from worker.core.job import timing
from worker.core.job.models import Event, JobRecord, Source
from worker.core.job.states import JobState
from worker.core.job.timing import Policy, expired
from worker.core.ports import Agenda, Clock, Provider, Records, Transport
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

log = structlog.get_logger()

POLLS_AT_ONCE: Final = 8
_SAID: Final = 60
"""The characters of an answer that a record keeps. A longer field would make the whole hash leave
Redis's compact form."""


class Polls:
    """Polls waiting jobs."""

    def __init__(
        self,
        *,
        records: Records,
        agenda: Agenda,
        provider: Provider,
        transport: Transport,
        policy: Policy,
        clock: Clock,
        jitter: Callable[[], float],
    ) -> None:
        self._records = records
        self._agenda = agenda
        self._provider = provider
        self._transport = transport
        self._policy = policy
        self._clock = clock
        self._jitter = jitter

    def run(self, jobs: Iterable[JobRecord]) -> None:
        """Poll the jobs whose time has come, side by side, because the provider can be slow."""
        ready = [job for job in jobs if self._may_poll(job)]
        with ThreadPoolExecutor(POLLS_AT_ONCE, "fermata-poll") as pool:
            list(pool.map(self._poll_safely, ready))

    def _may_poll(self, job: JobRecord) -> bool:
        """Reserve a time for the job's poll, among all polls; False if it is still to come."""
        now = self._clock()
        if job.poll_at is not None:
            return True  # the job is due because its reserved time has come
        wait = self._agenda.reserve_poll(spacing_seconds=1 / self._policy.polls_per_second)
        if wait <= 0:
            return True
        poll_at = now + wait
        fields = {"poll_at": poll_at}
        waiting = (JobState.WAITING,)
        self._records.note(job.job_id, now=now, sources=waiting, due_at=poll_at, fields=fields)
        return False

    def _poll_safely(self, job: JobRecord) -> None:
        try:
            # A thread of the pool does not have the context of the sweep's thread.
            with tracing.suppressed():
                self.poll(job, find(self._provider.operations, job.operation))
        except Exception:
            log.exception("poll_failed", job_id=job.job_id)

    def poll_now(self, job: JobRecord) -> None:
        """Ask how a job stands before its due time, because a person wants to know.

        Raises InvalidRequest if it does not wait for the provider.
        """
        if job.state is not JobState.WAITING:
            raise InvalidRequest(f"{job.job_id} is {job.state}: only a waiting job can be polled")
        self.poll(job, find(self._provider.operations, job.operation))

    def poll(self, job: JobRecord, operation: Operation) -> None:
        """Ask the provider how a waiting job stands, and record its answer.

        A job that is past its deadline ends with the clips that have succeeded, or expires.
        """
        asked_at = self._clock()
        outcome = self._ask(job, operation)
        match outcome:
            case Finished(body):
                self._resume(job, Event(Source.POLL, body=body), asked_at)
            case Failed(error):
                self._resume(job, Event(Source.POLL, error=error.to_json()), asked_at)
            # At the deadline, one song of two that succeeded is better than an error.
            case Running(_, str(usable)) if self._clock() >= job.deadline_at:
                self._resume(job, Event(Source.POLL, body=usable), asked_at)
            # The deadline comes after the poll: a song that has ended meanwhile is still delivered.
            case _ if self._clock() >= job.deadline_at:
                give_up(self._records, job, expired(job), now=self._clock())
            case Postponed(reason, retry_after):
                log.warning("poll_unanswered", job_id=job.job_id, why=reason)
                self._poll_later(job, reason, after=retry_after or 0)
            case Running(progress, _):
                self._poll_later(job, "running", progress=progress)

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
        self,
        job: JobRecord,
        said: str,
        *,
        after: float = 0,
        progress: dict[str, object] | None = None,
    ) -> None:
        now = self._clock()
        # The event says what a poll brought that ends a job; only the others need a place for it.
        told = {"polled": said[:_SAID], "polled_at": round(now, 3)}
        due_at = timing.next_poll(job.polls, self._policy, now=now, jitter=self._jitter())
        self._records.note(
            job.job_id,
            now=now,
            sources=(JobState.WAITING,),
            due_at=min(max(due_at, now + after), job.deadline_at),
            fields={"poll_at": "", **told, **({"progress": progress} if progress else {})},
            count="polls",
        )

    def _resume(self, job: JobRecord, event: Event, asked_at: float) -> None:
        # Most polls find that the job still runs. Only one that ends it is worth a span.
        with tracing.root("poll", link=job.traceparent, since=asked_at, job_id=job.job_id):
            self._records.claim(job.job_id, event, now=self._clock())


def give_up(records: Records, job: JobRecord, error: FermataError, *, now: float) -> None:
    """End a job with an error of ours, if nothing has happened to it since it was read.

    The claim is refused if the job's leg or state has changed: the provider may have accepted it.
    """
    source = Source.CANCEL if isinstance(error, JobCancelled) else Source.SWEEP
    event = Event(source, error=error.to_json())
    records.claim(job.job_id, event, now=now, leg=job.leg, seen=job.state)
