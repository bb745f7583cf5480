"""Use cases of a worker: begin a job, submit it, take its event, settle it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, assert_never
from urllib.parse import quote

import structlog

from worker.client import AnswerLost, NeverSent, Provider
from worker.core import errors, protocol, results, schedule, submission
from worker.core.errors import FermataError
from worker.core.models import Event, JobId, JSONObject, Source, Webhook
from worker.core.operations import Operation
from worker.core.schedule import Policy
from worker.core.signing import derive_secret
from worker.core.states import JobState, Turn
from worker.handover import Clock
from worker.store import Parked, Store

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Callbacks:
    """Where the provider reaches the receiver, and the key that job secrets are derived from."""

    public_url: str
    signing_key: str

    def webhook(self, job_id: JobId) -> Webhook:
        """Mint a job's callback: the URL carries the job id, the secret belongs to it alone."""
        url = f"{self.public_url.rstrip('/')}/webhooks/aimusic/{quote(job_id, safe='')}"
        return Webhook(url, derive_secret(self.signing_key, job_id))


class Jobs:
    """What a worker does with one job."""

    def __init__(
        self,
        *,
        store: Store,
        provider: Provider,
        callbacks: Callbacks,
        policy: Policy,
        clock: Clock,
        jitter: Callable[[], float],
    ) -> None:
        self._store = store
        self._provider = provider
        self._callbacks = callbacks
        self._policy = policy
        self._clock = clock
        self._jitter = jitter

    def state(self, job_id: JobId) -> JobState | None:
        """Return where the job stands; None: it has no record yet."""
        return self._store.state(job_id)

    def begin(
        self,
        job_id: JobId,
        operation: Operation,
        body: Mapping[str, Any],
        parked: Parked,
        *,
        leg: str,
        first: bool,
    ) -> bool:
        """Write the record that can be resumed, before the provider hears of the job.

        Args:
            leg: unique to this run of the submit leg.
            first: there was no record yet, so the deadline counts from now.

        Returns False where another leg has begun: this one must not submit.
        """
        now = self._clock()
        fields = {"operation": operation.name, "parked": parked.message}
        if parked.list_key:
            fields["list_key"] = parked.list_key
        if operation.clip_field:
            fields["clip_id"] = body[operation.clip_field]
        if first:
            fields["deadline_at"] = str(schedule.deadline(operation, self._policy, now=now))
        return self._store.turn(
            job_id,
            Turn.SUBMIT,
            now=now,
            due_at=now + schedule.submit_lease(operation, self._policy),
            fields=fields,
            leg=leg,
            count="attempts",
        )

    def submit(self, job_id: JobId, operation: Operation, body: Mapping[str, Any]) -> Event | None:
        """Call the provider once, and record what its answer means.

        Returns the event that settles the job here and now (a synchronous result, a refusal),
        or None: the job is parked, or something else has resumed it.
        """
        outcome = self._send(job_id, operation, body)
        log.info("job_submitted", outcome=type(outcome).__name__.lower())
        match outcome:
            case protocol.Accepted(provider_task_id):
                self._accepted(job_id, operation, provider_task_id)
                return None
            case protocol.Postponed() as postponed:
                self._postpone(job_id, postponed)
                return None
            case protocol.Unknown(reason):
                return self._doubt(job_id, operation, reason)
            case protocol.Completed(answer):
                return Event(Source.ANSWER, body=answer)
            case protocol.Refused(error):
                return Event(Source.ANSWER, error=error.to_json())
        assert_never(outcome)

    def _send(
        self, job_id: JobId, operation: Operation, body: Mapping[str, Any]
    ) -> protocol.SubmitOutcome:
        webhook = self._callbacks.webhook(job_id) if operation.takes_webhook else None
        try:
            answer = self._provider.send(submission.build_request(operation, body, webhook))
        except NeverSent as error:
            return protocol.Postponed(error.message)
        except AnswerLost as error:
            return protocol.Unknown(error.message)
        return protocol.read_submit(operation, answer)

    def _accepted(self, job_id: JobId, operation: Operation, provider_task_id: str) -> None:
        now = self._clock()
        fields = {"provider_task_id": provider_task_id}
        due_at = schedule.first_poll(operation, self._policy, now=now)
        if not self._store.turn(job_id, Turn.ACCEPT, now=now, due_at=due_at, fields=fields):
            # The webhook was here before the answer: the job goes on without us.
            self._store.note(job_id, now=now, sources=JobState, fields=fields)

    def _postpone(self, job_id: JobId, postponed: protocol.Postponed) -> None:
        now, job = self._clock(), self._store.read(job_id)
        due_at, after = now + (postponed.retry_after or 0), postponed.retry_after
        if postponed.backoff:
            due_at = schedule.backoff(job.attempts, after, now=now, jitter=self._jitter())
        due_at = min(due_at, job.deadline_at)
        self._store.turn(job_id, Turn.POSTPONE, now=now, due_at=due_at, why=postponed.reason)

    def _doubt(self, job_id: JobId, operation: Operation, reason: str) -> Event | None:
        if operation.repeatable:
            self._postpone(job_id, protocol.Postponed(reason))
            return None
        if not operation.takes_webhook:
            return Event(Source.ANSWER, error=unconfirmed(operation, reason).to_json())
        now = self._clock()
        due_at = now + self._policy.unconfirmed_grace_seconds
        self._store.turn(job_id, Turn.DOUBT, now=now, due_at=due_at, why=reason)
        return None

    def claim_here(self, job_id: JobId, event: Event) -> bool:
        """Claim a job for an event that this very leg will settle, with nothing to publish."""
        now = self._clock()
        stale_at = now + self._policy.take_lease_seconds
        claim = self._store.claim(
            job_id, event, now=now, stale_at=stale_at, published_stale_at=stale_at, push=False
        )
        return claim is not None and self.take(job_id, claim.number) is not None

    def take(self, job_id: JobId, claim: int) -> Event | None:
        """Take the event of a resumed job; None where it is not this claim's to take."""
        now = self._clock()
        stale_at = now + self._policy.take_lease_seconds
        return self._store.take(job_id, claim, now=now, stale_at=stale_at)

    def result(self, job_id: JobId, operation: Operation, event: Event) -> JSONObject:
        """Read an event into the job's result.

        Raises the error that the event carries, or that the provider's words mean.
        """
        if event.error is not None:
            raise errors.from_json(event.error)
        said, record = protocol.parse(event.body or ""), self._store.read(job_id)
        return {
            "job_id": job_id,
            "operation": operation.name,
            "provider_task_id": said.get("task_id") or record.provider_task_id,
            **results.read_result(operation, said, clip_id=record.clip_id),
        }

    def settle(
        self, job_id: JobId, operation: Operation, outcome: JSONObject | BaseException
    ) -> None:
        """Record how a job ended; its parked message is no longer needed."""
        turn, fields, why = _ending(outcome)
        settled = self._store.turn(
            job_id,
            turn,
            now=self._clock(),
            due_at=None,
            why=why,
            fields={"operation": operation.name, **fields},
            drop=("parked", "list_key", "event", "taken_by", "taken_until", "leg"),
            retain_seconds=self._policy.retention_seconds,
        )
        name = "job_settled" if settled else "job_was_settled"
        log.info(name, job_id=job_id, outcome=turn, why=why)


def _ending(outcome: JSONObject | BaseException) -> tuple[Turn, JSONObject, str]:
    match outcome:
        case errors.DeadlineExceeded():
            return Turn.EXPIRE, {"error": outcome.to_json()}, outcome.message
        case FermataError():
            return Turn.FAIL, {"error": outcome.to_json()}, type(outcome).__name__
        case BaseException():
            return Turn.FAIL, {"error": FermataError(repr(outcome)).to_json()}, repr(outcome)[:200]
        case _:
            return Turn.SUCCEED, {"result": outcome}, ""


def unconfirmed(operation: Operation, reason: str) -> errors.SubmissionUnconfirmed:
    """Say that nobody knows whether a submission was accepted."""
    return errors.SubmissionUnconfirmed(
        f"{operation.name}: the provider may or may not have accepted it ({reason}); it was not "
        "sent again, so that nothing is paid twice. Look at the provider's own list of tasks."
    )
