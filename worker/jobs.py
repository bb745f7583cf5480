"""Use cases of a worker: begin a job, submit it, take its event, settle it."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar, assert_never
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
from worker.store import Parked, Store, StoreUnavailable, Taker

log = structlog.get_logger()

_T = TypeVar("_T")
_OUTAGE_PAUSE_SECONDS: Final = 1


@dataclass(frozen=True, slots=True)
class Callbacks:
    """Where the provider reaches the receiver, and the key that job secrets are derived from."""

    public_url: str
    signing_key: str

    def webhook(self, job_id: JobId) -> Webhook:
        """Mint a job's callback: the URL carries the job id, the secret belongs to it alone."""
        url = f"{self.public_url.rstrip('/')}/webhooks/aimusic/{quote(job_id, safe='')}"
        return Webhook(url, derive_secret(self.signing_key, job_id))


@dataclass(frozen=True, slots=True)
class Attempt:
    """One run of a job's submit leg."""

    job_id: JobId
    operation: Operation
    leg: str
    """Unique to this run: what a run has to say is not heard once another one has begun."""


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
        self, attempt: Attempt, body: Mapping[str, Any], parked: Parked, *, first: bool
    ) -> bool:
        """Write the record that can be resumed, before the provider hears of the job.

        Args:
            first: there was no record yet, so the deadline counts from now.

        Returns False where another leg has begun: this one must not submit.
        """
        now = self._clock()
        fields = _record_fields(attempt.operation, body, parked)
        if first:
            fields["deadline_at"] = schedule.deadline(attempt.operation, self._policy, now=now)
        due_at = now + schedule.submit_lease(attempt.operation, self._policy)
        return self._turn(attempt, Turn.SUBMIT, due_at=due_at, fields=fields, count="attempts")

    def _turn(self, attempt: Attempt, turn: Turn, *, due_at: float, **options: Any) -> bool:
        now = self._clock()
        # One whose answer was lost may have been taken: only this very leg can ask again.
        return self._insist(
            self._patience(attempt),
            lambda: self._store.turn(
                attempt.job_id, turn, now=now, due_at=due_at, leg=attempt.leg, **options
            ),
        )

    def pass_on(
        self, job_id: JobId, operation: Operation, body: Mapping[str, Any], parked: Parked
    ) -> float | None:
        """Write the record of a job that the worker of another queue is to begin.

        Returns the moment at which it is published again if nobody has begun it; None where
        there is a record already.
        """
        now = self._clock()
        due_at = now + schedule.BACKLOG_SECONDS
        fields = _record_fields(operation, body, parked)
        fields["deadline_at"] = schedule.deadline(operation, self._policy, now=now)
        written = self._store.turn(job_id, Turn.REROUTE, now=now, due_at=due_at, fields=fields)
        return due_at if written else None

    def is_current(self, attempt: Attempt) -> bool:
        """Say whether the job is still being submitted by this very attempt.

        It is not where the attempt took so long that the sweep gave it up.
        """
        job = self._store.read(attempt.job_id)
        return (job.state, job.leg) == (JobState.SUBMITTING, attempt.leg)

    def submit(self, attempt: Attempt, body: Mapping[str, Any]) -> Event | None:
        """Call the provider once, and record what its answer means.

        Returns the event that settles the job here and now (a synchronous result, a refusal),
        or None: the job is parked, or something else has resumed it.
        """
        outcome = self._send(attempt, body)
        log.info("job_submitted", outcome=type(outcome).__name__.lower())
        match outcome:
            case protocol.Accepted(provider_task_id):
                self._accepted(attempt, provider_task_id)
                return None
            case protocol.Postponed() as postponed:
                self._postpone(attempt, postponed)
                return None
            case protocol.Unknown(reason):
                return self._doubt(attempt, reason)
            case protocol.Completed(answer):
                return Event(Source.ANSWER, body=answer)
            case protocol.Refused(error):
                return Event(Source.ANSWER, error=error.to_json())
        assert_never(outcome)

    def _send(self, attempt: Attempt, body: Mapping[str, Any]) -> protocol.SubmitOutcome:
        operation = attempt.operation
        webhook = self._callbacks.webhook(attempt.job_id) if operation.called_back else None
        try:
            answer = self._provider.send(submission.build_request(operation, body, webhook))
        except NeverSent as error:
            return protocol.Postponed(error.message)
        except AnswerLost as error:
            return protocol.Unknown(error.message)
        return protocol.read_submit(operation, answer)

    def _patience(self, attempt: Attempt) -> float:
        return schedule.submit_lease(attempt.operation, self._policy) / 2

    def _insist(self, seconds: float, write: Callable[[], _T]) -> _T:
        """Write what only this process knows, as soon as Redis is there again.

        Raises StoreUnavailable where that takes too long: the sweep will take the leg for dead.
        """
        until = self._clock() + seconds
        while True:
            try:
                return write()
            except StoreUnavailable as error:
                if self._clock() > until:
                    raise
                log.warning("outcome_unwritten", error=repr(error))
                time.sleep(_OUTAGE_PAUSE_SECONDS)

    def _accepted(self, attempt: Attempt, provider_task_id: str) -> None:
        now = self._clock()
        fields = {"provider_task_id": provider_task_id}
        due_at = schedule.first_poll(attempt.operation, self._policy, now=now)
        if not self._turn(attempt, Turn.ACCEPT, due_at=due_at, fields=fields):
            # The webhook was here before the answer: the job goes on without us.
            self._store.note(attempt.job_id, now=now, sources=JobState, fields=fields)

    def postpone(self, attempt: Attempt, reason: str) -> None:
        """Put a job back that has begun, before the provider heard of it."""
        self._postpone(attempt, protocol.Postponed(reason))

    def _postpone(self, attempt: Attempt, postponed: protocol.Postponed) -> None:
        now, after = self._clock(), postponed.retry_after
        due_at = now + (after or 0)
        if postponed.backoff:
            job = self._insist(self._patience(attempt), lambda: self._store.read(attempt.job_id))
            attempts = job.attempts
            due_at = schedule.backoff(attempts, after, now=now, jitter=self._jitter())
        self._turn(attempt, Turn.POSTPONE, due_at=due_at, why=postponed.reason)

    def _doubt(self, attempt: Attempt, reason: str) -> Event | None:
        operation = attempt.operation
        if operation.repeatable:
            self._postpone(attempt, protocol.Postponed(reason))
            return None
        if not operation.takes_webhook:
            return Event(Source.ANSWER, error=unconfirmed(operation, reason).to_json())
        due_at = self._clock() + self._policy.unconfirmed_grace_seconds
        self._turn(attempt, Turn.DOUBT, due_at=due_at, why=reason)
        return None

    def claim_here(self, attempt: Attempt, event: Event) -> bool:
        """Claim a job for an event that this very leg will settle, with nothing to publish."""
        now = self._clock()
        stale_at = now + schedule.take_lease(attempt.operation, self._policy)
        claim = self._insist(
            self._patience(attempt),
            lambda: self._store.claim(
                attempt.job_id,
                event,
                now=now,
                stale_at=stale_at,
                published_stale_at=stale_at,
                push=False,
                leg=attempt.leg,
            ),
        )
        if claim is None:
            return False
        taker = Taker(claim.number, attempt.leg)
        return self.take(attempt.job_id, attempt.operation, taker) is not None

    def take(self, job_id: JobId, operation: Operation, taker: Taker) -> Event | None:
        """Take the event of a resumed job; None where it is not this message's to take."""
        now = self._clock()
        stale_at = now + schedule.take_lease(operation, self._policy)
        return self._store.take(job_id, taker, now=now, stale_at=stale_at)

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
            "provider_task_id": _text(said.get("task_id")) or record.provider_task_id,
            **results.read_result(operation, said, clip_id=record.clip_id),
        }

    def settle(
        self, job_id: JobId, operation: Operation, outcome: JSONObject | BaseException
    ) -> None:
        """Record how a job ended; its parked message is no longer needed."""
        turn, fields, why = _ending(outcome)
        # The next step is published: a job that is not settled now would publish it again.
        settled = self._insist(
            schedule.RESUME_SECONDS / 2,
            lambda: self._store.turn(
                job_id,
                turn,
                now=self._clock(),
                due_at=None,
                why=why,
                fields={"operation": operation.name, **fields},
                drop=_dropped(outcome),
                retain_seconds=self._policy.retention_seconds,
            ),
        )
        name = "job_settled" if settled else "job_was_settled"
        log.info(name, job_id=job_id, outcome=turn, why=why)


def _record_fields(
    operation: Operation, body: Mapping[str, Any], parked: Parked
) -> dict[str, str | float]:
    fields: dict[str, str | float] = {"operation": operation.name, "parked": parked.message}
    if parked.list_key:
        fields["list_key"] = parked.list_key
    clip = body.get(operation.clip_field or "")
    if isinstance(clip, str):
        fields["clip_id"] = clip
    return fields


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _dropped(outcome: JSONObject | BaseException) -> list[str]:
    """Name what a settled record does without; words that we could not read are kept."""
    dropped = ["parked", "list_key", "taken_by", "taken_until", "leg"]
    unread = isinstance(outcome, errors.UnexpectedResponse | errors.InvalidPayload)
    return dropped if unread else [*dropped, "event"]


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
