"""The ports by which the engine reaches the world around it.

The engine decides what becomes of a job. It reads and writes the state through the classes here, so
it can be tested without a server: ``worker/store`` implements them on Redis, ``tests/fakes.py`` in
memory. A port of the state has only the methods that the engine calls.
"""

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

from worker.core.job.lanes import Bid, Lane, Limits, Released
from worker.core.job.models import (
    Event,
    Heard,
    JobId,
    JobRecord,
    JSONObject,
    Kind,
    ProviderTaskId,
    Settlement,
    Shown,
    Standing,
)
from worker.core.job.states import LIVE, LOST, JobState, Turn
from worker.core.signing import Scheme
from worker.core.wire import (
    Answer,
    Delivery,
    Operation,
    PollOutcome,
    Request,
    SubmitOutcome,
    Webhook,
)

Clock = Callable[[], float]
"""Returns the time now, in Unix seconds."""


class Records(Protocol):
    """Changes records; each change happens in one step, or not at all. Times are Unix seconds."""

    @property
    def unavailable(self) -> type[Exception]:
        """The error that the methods of all ports of the state raise while it is away."""

    def turn(
        self,
        job_id: JobId,
        turn: Turn,
        *,
        now: float,
        due_at: float | None,
        why: str = "",
        fields: Mapping[str, Any] | None = None,
        drop: Sequence[str] = (),
        leg: str = "",
        count: str = "",
        retain_seconds: int | None = None,
    ) -> bool:
        """Take a turn if the job's state allows it; says whether it did.

        Args:
            due_at: when the job is due next; None: never again.
            leg: the run of the submit leg that this turn belongs to. The turn is safe to send
                twice, and is refused once another leg has begun.
            count: a counter to increment.
        """

    def begin(
        self,
        job_id: JobId,
        bid: Bid,
        *,
        now: float,
        due_at: float,
        deadline_at: float,
        fields: Mapping[str, Any],
        leg: str,
        unseen: bool = False,
    ) -> JobState | None:
        """Begin a submit leg if the gate is open; returns SUBMITTING, HELD, or None: not begun.

        Args:
            due_at: when the leg is dead, if it says nothing.
            deadline_at: when the job expires, if it is submitted for the first time now.
            fields: of the record; without ``parked``, the job has a record already.
            unseen: the leg has not looked at the record. Begin only a job that nobody has begun
                and that is still wanted.
        """

    def settle(
        self, settlements: Sequence[Settlement], *, now: float, retain_seconds: int
    ) -> list[bool | Exception]:
        """Settle jobs, in one round trip.

        Returns for each whether it was settled now, or the error by which it cannot be.
        """

    def note(
        self,
        job_id: JobId,
        *,
        now: float,
        what: str = "",
        why: str = "",
        sources: Iterable[JobState | None] = LIVE,
        due_at: float | None = None,
        fields: Mapping[str, Any] | None = None,
        count: str = "",
        receipt: str = "",
        retain_seconds: int | None = None,
    ) -> JobState | None:
        """Write on a record without a turn; returns its state, None if there is no record.

        Args:
            sources: the states in which it is written; in others nothing changes.
            due_at: when the job is due next; None keeps the due time that it has.
            receipt: what became of the delivery that is noted; it is counted.
        """

    def drop_due(self, job_id: JobId) -> None:
        """Forget the due time of a job that needs none: it has settled, or its record is gone."""

    def claim(
        self,
        job_id: JobId,
        event: Event,
        *,
        now: float,
        leg: str = "",
        seen: JobState | None = None,
    ) -> bool:
        """Claim a parked job for an event, and make it ready; False if another event has won.

        Args:
            leg: claim only while this run of the submit leg is the last one. The claim is then safe
                to send twice.
            seen: claim only while the job is in this state.
        """

    def hear(
        self,
        job_id: JobId,
        event: Event,
        *,
        now: float,
        digest: str,
        again_in: Iterable[JobState],
        again: str,
    ) -> Heard:
        """Claim a parked job for a delivery, unless the same delivery has won before.

        Args:
            digest: of the delivery's body.
            again_in: the states in which the same delivery again is a duplicate.
            again: what the timeline then says of it.
        """

    def announce(self, job_id: JobId, leg: str, shown: Shown | None = None) -> Standing | None:
        """Note that the job's PARKED state is stored; returns None if the leg is not its last.

        Args:
            shown: the state, if it is to be stored in the same step.

        Raises UnknownJob.
        """

    def take_from(self, job_id: JobId, leg: str) -> bool:
        """Take a job away from a leg that has sent nothing; False if it may have."""

    def keep_late(
        self,
        job_id: JobId,
        late: JSONObject,
        *,
        now: float,
        why: str,
        retain_seconds: int,
        sources: Iterable[JobState] = LOST,
    ) -> bool:
        """Keep a delivery that came too late to end its job; says whether it was kept.

        Args:
            late: the delivery. The first is kept; if it is not ``final``, until one comes that is.
            sources: the job's states in which the delivery is kept.
        """


class Readings(Protocol):
    """Reads records."""

    def standing(self, job_id: JobId) -> Standing:
        """Read where a job stands; its state is None if it has no record yet."""

    def state(self, job_id: JobId) -> JobState | None:
        """Read a job's state; None if it has no record."""

    def traceparent(self, job_id: JobId) -> str | None:
        """Read the context of the span that a job belongs to; None if it is not traced."""

    def event(self, job_id: JobId) -> Event | None:
        """Read the event that ends a resumed job."""

    def read(self, job_id: JobId) -> JobRecord:
        """Read a job's record.

        Raises UnknownJob.
        """


class Indexes(Protocol):
    """The lists of jobs that people look at."""

    def forget(self, *, recorded_before: float, ended_before: float) -> None:
        """Drop the jobs that have expired, if that was not done a short while ago."""


class Agenda(Protocol):
    """Hands out what there is to do."""

    def due(self, *, now: float, lease_until: float, limit: int) -> list[JobId]:
        """Lease up to ``limit`` jobs that are due, and as many that only end."""

    def reserve_poll(self, *, spacing_seconds: float) -> float:
        """Reserve the time of the next poll, among all sweeps; returns the seconds until then."""


class Gate(Protocol):
    """Keeps all workers together within the operator's limits."""

    @property
    def limits(self) -> Limits:
        """The operator's limits."""

    def bid(self, operation: Operation, lane: Lane, *, now: float, expires_at: float | None) -> Bid:
        """Say what a job asks of the gate."""

    def hear(
        self, job_id: JobId, operation: Operation, outcome: SubmitOutcome, *, now: float
    ) -> bool:
        """Learn from a submission; returns True if it closes a gate that was open."""

    def open(self, job_id: JobId, *, paid: bool, now: float) -> None:
        """Let jobs pass again after a job that the provider answered."""

    def release(self, *, now: float, stale_at: float) -> Released:
        """Admit held jobs as far as the limits allow; each is due for the sweep at ``stale_at``."""

    def may_ask_balance(self, every_seconds: float) -> bool:
        """Say whether it is time to ask again, to one worker of all."""

    def spent(self) -> int:
        """Return the credits spent since the gate exists, in thousandths."""

    def learn_balance(self, left: float, *, spent_before: int) -> None:
        """Keep a balance that was asked for after ``spent_before`` had been spent."""


class Quarantine(Protocol):
    """Keeps authentic deliveries that cannot be used, until someone looks."""

    def keep(
        self,
        kind: Kind,
        job_id: JobId,
        headers: Mapping[str, str],
        body: bytes,
        why: str,
        *,
        now: float,
    ) -> str:
        """Keep a delivery whose signature was verified; returns its entry's id.

        The same bytes for the same job are kept once.
        """


class Transport(Protocol):
    """Carries requests to the provider."""

    def send(self, request: Request) -> Answer:
        """Send one request, once.

        Raises NeverSent, AnswerLost.
        """


class Provider(Protocol):
    """One provider: its operations, what we send to it, and what it sends. It opens nothing.

    An operation is given by its name. If a method does not understand what the provider says, it
    raises InvalidPayload, or returns an outcome that says so.
    """

    @property
    def name(self) -> str:
        """Stands in the address of its webhooks: ``/webhooks/<name>/<job_id>``."""

    @property
    def operations(self) -> Mapping[str, Operation]:
        """Its operations, by their names."""

    @property
    def task_modules(self) -> Sequence[str]:
        """The modules that declare tasks of its operations; the other operations need none."""

    @property
    def scheme(self) -> Scheme:
        """How it signs its webhooks."""

    def check(
        self,
        operation: str,
        parameters: Mapping[str, Any],
        *,
        source: Any = None,
        pick: Any = None,
        extra: Mapping[str, Any] | None = None,
    ) -> JSONObject:
        """Check a request before it costs anything; returns its body, without the webhook.

        Args:
            source, pick: what the step before brings, and which part of it to use.
            extra: fields that are passed through unchecked.

        Raises InvalidRequest.
        """

    def signature(self, operation: str) -> inspect.Signature:
        """Return the parameters of an operation's task."""

    def build_submit(
        self, operation: str, body: Mapping[str, Any], webhook: Webhook | None
    ) -> Request:
        """Build the request that submits."""

    def read_submit(self, operation: str, answer: Answer) -> SubmitOutcome:
        """Read the answer to a submit into its outcome."""

    def build_poll(self, operation: str, provider_task_id: ProviderTaskId) -> Request:
        """Build the request that asks how a provider task stands."""

    def read_poll(self, operation: str, answer: Answer) -> PollOutcome:
        """Read the answer to a poll into its outcome."""

    def build_balance(self) -> Request:
        """Build the request that asks for the credits that are left."""

    def read_balance(self, answer: Answer) -> float:
        """Read how many credits are left.

        Raises ProviderError, InvalidPayload.
        """

    def read_delivery(self, raw: bytes) -> Delivery:
        """Read an authentic webhook as far as the receiver needs.

        Raises InvalidPayload.
        """

    def read_result(
        self,
        job_id: JobId,
        operation: str,
        body: str,
        *,
        clip_id: str | None = None,
        provider_task_id: str | None = None,
    ) -> JSONObject:
        """Read a final body into a job's result: ``clips``, ``data``, ``partial``, and the ids.

        Args:
            clip_id: the source clip, which a derivative without clips of its own passes on.
            provider_task_id: the provider's task, if the body does not name it.

        Raises InvalidPayload, TaskFailed, UnexpectedResponse.
        """
