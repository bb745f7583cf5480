"""The use case of the submit leg at the provider: submit a job, and record what the answer means.

**This is where money is spent**: ``Submissions._send`` calls the provider, once. The task's submit
leg (``app/submit_leg.py``) calls ``Attempts.begin`` before it, which writes a record that can be
resumed. What the answer means is written through ``Attempts`` too, until Redis takes it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, assert_never
from urllib.parse import quote

import structlog

from worker.core import errors
from worker.core.job import doubt, timing
from worker.core.job.doubt import Doubt
from worker.core.job.models import Event, JobId, Source
from worker.core.job.states import JobState, Turn
from worker.core.job.timing import Policy
from worker.core.ports import Clock, Gate, Provider, Records, Transport
from worker.core.signing import derive_secret
from worker.core.wire import (
    Accepted,
    AnswerLost,
    Completed,
    NeverSent,
    Postponed,
    Refused,
    SubmitOutcome,
    Unknown,
    Webhook,
)
from worker.engine.attempts import Attempt, Attempts

log = structlog.get_logger()

MOST_REFUSALS: Final = 2
"""A job that closed the open gate so often before, and closes it again, fails."""


@dataclass(frozen=True, slots=True)
class Callbacks:
    """Where the provider reaches the receiver, and the key that job secrets are derived from."""

    address: str
    """The beginning of every callback's URL; the job id follows."""
    signing_key: str = field(repr=False)

    def webhook(self, job_id: JobId) -> Webhook:
        """Mint a job's callback: the URL carries the job id, the secret belongs to it alone."""
        url = f"{self.address}/{quote(job_id, safe='')}"
        return Webhook(url, derive_secret(self.signing_key, job_id))


class Submissions:
    """Submits jobs, each by one leg at a time."""

    def __init__(
        self,
        *,
        attempts: Attempts,
        records: Records,
        provider: Provider,
        transport: Transport,
        gate: Gate,
        callbacks: Callbacks,
        policy: Policy,
        clock: Clock,
    ) -> None:
        self._attempts = attempts
        self._records = records
        self._provider = provider
        self._transport = transport
        self._gate = gate
        self._callbacks = callbacks
        self._policy = policy
        self._clock = clock

    def submit(self, attempt: Attempt, body: Mapping[str, Any]) -> Event | None:
        """Call the provider once, and record the meaning of its answer.

        Returns the event that settles the job here and now (a synchronous result, a refusal),
        or None if the job is parked, or another event has claimed it.
        """
        outcome = self._send(attempt, body)
        was_open = self._attempts.insist(
            attempt,
            lambda: self._gate.hear(attempt.job_id, attempt.operation, outcome, now=self._clock()),
        )
        # If Redis stays away, this line of the log is the only trace of what was paid for.
        log.info(
            "job_submitted",
            outcome=type(outcome).__name__.lower(),
            provider_task_id=getattr(outcome, "provider_task_id", None),
        )
        match outcome:
            case Accepted(provider_task_id):
                self._accepted(attempt, provider_task_id)
                return None
            case Postponed() as postponed:
                self._attempts.postpone(attempt, postponed)
                return None
            case Unknown(reason):
                return self._doubt(attempt, reason)
            case Completed(answer):
                return Event(Source.ANSWER, body=answer)
            case Refused(error) if error.closes_gate:
                return self._closed(attempt, error, was_open=was_open)
            case Refused(error):
                return Event(Source.ANSWER, error=error.to_json())
        assert_never(outcome)

    def _closed(
        self, attempt: Attempt, error: errors.ProviderError, *, was_open: bool
    ) -> Event | None:
        """Put the job back until the operator adds credits or replaces the API key.

        If the gate opens for other jobs and closes again with this one, this job is the cause, and
        it fails.
        """
        job = self._attempts.read(attempt)
        if was_open and job.refusals >= MOST_REFUSALS:
            return Event(Source.ANSWER, error=error.to_json())
        count = "refusals" if was_open else ""
        self._attempts.postpone(attempt, Postponed(error.message, backoff=False), count=count)
        return None

    def _send(self, attempt: Attempt, body: Mapping[str, Any]) -> SubmitOutcome:
        operation = attempt.operation
        webhook = self._callbacks.webhook(attempt.job_id) if operation.called_back else None
        try:
            request = self._provider.build_submit(operation.name, body, webhook)
            answer = self._transport.send(request)
        except NeverSent as error:
            return Postponed(error.message, failed=True)
        except AnswerLost as error:
            return Unknown(error.message)
        return self._provider.read_submit(operation.name, answer)

    def _accepted(self, attempt: Attempt, provider_task_id: str) -> None:
        now = self._clock()
        fields = {"provider_task_id": provider_task_id}
        due_at = timing.first_poll(attempt.operation, self._policy, now=now)
        if not self._attempts.turn(attempt, Turn.ACCEPT, due_at=due_at, fields=fields):
            # An event, mostly the webhook, claimed the job before this answer came. So the turn is
            # refused: do the rest of it here, which opens the gate and notes the provider's task.
            self._gate.open(attempt.job_id, paid=attempt.operation.credits > 0, now=now)
            self._records.note(attempt.job_id, now=now, sources=JobState, fields=fields)

    def _doubt(self, attempt: Attempt, reason: str) -> Event | None:
        operation = attempt.operation
        # Where a webhook may still settle the job, the doubt is written at once: Redis may be away.
        counts = not (operation.repeatable or operation.takes_webhook)
        resubmissions = self._attempts.read(attempt).resubmissions if counts else 0
        match doubt.decide(operation, resubmissions, self._policy):
            case Doubt.ASK_AGAIN:
                self._attempts.postpone(attempt, Postponed(reason))
            case Doubt.RESUBMIT:
                self._attempts.postpone(attempt, Postponed(reason), count="resubmissions")
            case Doubt.WAIT:
                due_at = self._clock() + self._policy.unconfirmed_grace_seconds
                self._attempts.turn(attempt, Turn.DOUBT, due_at=due_at, why=reason)
            case Doubt.FAIL:
                return Event(Source.ANSWER, error=doubt.unconfirmed(operation, reason).to_json())
        return None
