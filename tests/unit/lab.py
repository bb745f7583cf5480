"""The engine on the ports in memory, for unit tests without a server.

A test brings a job into a state, gives the transport the provider's answers, moves the clock, and
looks at the record.
"""

import base64
import zlib
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, Final, cast

from tests import fakes
from worker.core.errors import FermataError, JobCancelled
from worker.core.job.lanes import Lane
from worker.core.job.models import Entry, Event, JobId, Kind, Leased, Parked, Settlement, Source
from worker.core.job.states import JobState, Turn
from worker.core.job.timing import Policy
from worker.core.providers import find
from worker.core.providers.aimusic.provider import AIMusic
from worker.core.signing import derive_secret
from worker.core.wire import Answer, Request
from worker.engine.adopt import Adoption
from worker.engine.attempts import Attempt, Attempts
from worker.engine.cancel import Cancellations
from worker.engine.poll import Polls
from worker.engine.receive import Deliveries
from worker.engine.settle import Settlements
from worker.engine.submit import Callbacks, Submissions
from worker.engine.sweep import Sweep

JOB: Final = JobId("job-1")
REMASTER: Final = "sonic.remaster"
WAV: Final = "sonic.wav"
"""An operation without a webhook: its answer is its result."""
LYRICS_TIMELINE: Final = "sonic.lyrics_timeline"
"""An operation without a webhook that may be asked again at no cost."""
NOW: Final = 1_763_800_000.0
HOUR: Final = 3600
KEY: Final = "k" * 32

_TO: Final[Mapping[JobState, Sequence[Turn]]] = {
    JobState.SUBMITTING: (),
    JobState.UNCONFIRMED: (Turn.DOUBT,),
    JobState.WAITING: (Turn.ACCEPT,),
    JobState.RESUMING: (Turn.ACCEPT, Turn.CLAIM),
    JobState.SUCCEEDED: (Turn.ACCEPT, Turn.CLAIM, Turn.SUCCEED),
    JobState.FAILED: (Turn.ACCEPT, Turn.CLAIM, Turn.FAIL),
    JobState.CANCELLED: (Turn.ACCEPT, Turn.CLAIM, Turn.CANCEL),
    JobState.EXPIRED: (Turn.ACCEPT, Turn.CLAIM, Turn.EXPIRE),
}


class Transport:
    """Gives the answers of a test, one by one, and keeps the requests."""

    def __init__(self) -> None:
        self.answers: list[Answer | FermataError] = []
        self.asked: list[Request] = []

    def send(self, request: Request) -> Answer:
        self.asked.append(request)
        answer = self.answers.pop(0)
        if isinstance(answer, FermataError):
            raise answer
        return answer


class SubmitLegs:
    """Publishes nothing, and lists the jobs that it was told to publish."""

    def __init__(self) -> None:
        self.published: list[tuple[str, int]] = []
        self.trouble: dict[str, Exception] = {}

    def publish(
        self, job_id: JobId, *, stale_at: float, republished: int = 0, was_held: bool = False
    ) -> None:
        if job_id in self.trouble:
            raise self.trouble[job_id]
        self.published.append((job_id, republished))


class Lab:
    """One engine, and the ports that it works with."""

    def __init__(self, **policy: Any) -> None:
        self.now = NOW
        self.memory = fakes.Memory()
        self.records, self.readings = fakes.Records(self.memory), fakes.Readings(self.memory)
        self.gate, self.quarantine = fakes.Gate(self.memory), fakes.Quarantine()
        self.provider, self.transport = AIMusic(), Transport()
        self.submit_legs = SubmitLegs()
        self.policy = Policy(**policy)
        self.answered: dict[str, Any] = {}
        self.cancellations = Cancellations(self.records, self.clock)
        self.attempts = Attempts(
            records=self.records,
            readings=self.readings,
            gate=self.gate,
            policy=self.policy,
            clock=self.clock,
            jitter=lambda: 0.0,
        )
        self.submissions = Submissions(
            attempts=self.attempts,
            records=self.records,
            provider=self.provider,
            transport=self.transport,
            gate=self.gate,
            callbacks=Callbacks("https://fermata.example/webhooks/aimusic", KEY),
            policy=self.policy,
            clock=self.clock,
        )
        self.settlements = Settlements(
            records=self.records, provider=self.provider, policy=self.policy, clock=self.clock
        )
        agenda, submit_legs = fakes.Agenda(self.memory), cast(Any, self.submit_legs)
        self.polls = Polls(
            records=self.records,
            agenda=agenda,
            provider=self.provider,
            transport=self.transport,
            policy=self.policy,
            clock=self.clock,
            jitter=lambda: 0.0,
        )
        self.sweep = Sweep(
            records=self.records,
            readings=self.readings,
            agenda=agenda,
            indexes=fakes.Indexes(self.memory),
            provider=self.provider,
            polls=self.polls,
            submit_legs=submit_legs,
            policy=self.policy,
            clock=self.clock,
        )
        self.deliveries = Deliveries(
            records=self.records,
            readings=self.readings,
            provider=self.provider,
            quarantine=self.quarantine,
            signing_keys=[KEY],
            tolerance=timedelta(minutes=5),
            policy=self.policy,
            clock=self.clock,
        )
        self.adoption = Adoption(
            records=self.records,
            readings=self.readings,
            provider=self.provider,
            answer=self.answer,
            signing_keys=[KEY],
            retention_seconds=60,
            clock=self.clock,
        )

    def clock(self) -> float:
        return self.now

    def answer(self, job_id: JobId, outcome: Any) -> None:
        """Take the Celery result of an adopted job."""
        self.answered[job_id] = outcome

    # -- a job, and where it stands -----------------------------------------------------------

    def attempt(self, operation: str = REMASTER, leg: str = "leg-1") -> Attempt:
        return Attempt(JOB, find(operation), leg)

    def begin(self, attempt: Attempt, *, on_record: bool = False) -> bool:
        """Begin a submit leg; with its message, unless the record has the message already."""
        parked = None if on_record else Parked("a message", {})
        return self.attempts.begin(attempt, {}, parked, Lane())

    def submit(self, answer: Answer | FermataError, operation: str = REMASTER) -> Event | None:
        """Run a submit leg to whose request the provider gives this answer."""
        attempt = self.attempt(operation)
        assert self.begin(attempt)
        assert self.attempts.announce(attempt)
        self.transport.answers.append(answer)
        return self.submissions.submit(attempt, {})

    def bring(self, state: JobState, job_id: JobId = JOB, operation: str = REMASTER) -> None:
        """Bring a job into a state by the turns that lead there."""
        fields = {"operation": operation, "parked": "a message", "deadline_at": self.now + HOUR}
        given: dict[str, Any] = {"now": self.now, "due_at": self.now + HOUR}
        if state is JobState.QUEUED:
            assert self.records.turn(job_id, Turn.ENQUEUE, fields=fields, **given)
        elif state in {JobState.HELD, JobState.ADMITTED}:
            assert self.records.turn(job_id, Turn.HOLD, fields=fields, **given)
            if state is JobState.ADMITTED:
                assert self.gate.release(now=self.now, stale_at=self.now + 30).job_ids == [job_id]
        else:
            assert self.records.turn(job_id, Turn.SUBMIT, fields=fields, leg="leg-1", **given)
            assert self.records.announce(job_id, "leg-1")
            for turn in _TO[state]:
                self._take(turn, job_id)
        assert self.readings.state(job_id) is state

    def _take(self, turn: Turn, job_id: JobId) -> None:
        if turn is Turn.CLAIM:
            error = JobCancelled("by a test").to_json()
            assert self.records.claim(job_id, Event(Source.CANCEL, error=error), now=self.now)
            return
        ends = turn not in {Turn.ACCEPT, Turn.DOUBT}
        assert self.records.turn(
            job_id,
            turn,
            now=self.now,
            due_at=None if ends else self.now + HOUR,
            fields={"provider_task_id": "t-1"} if turn is Turn.ACCEPT else {},
            drop=["parked", "event"] if ends else [],
        )

    def state(self, job_id: JobId = JOB) -> JobState | None:
        return self.readings.state(job_id)

    def error(self, job_id: JobId = JOB) -> str | None:
        """Name the error that ends a job."""
        event = self.readings.event(job_id)
        return event.error["type"] if event and event.error else None

    def due_in(self, job_id: JobId = JOB) -> float | None:
        due_at = self.readings.read(job_id).due_at
        return None if due_at is None else due_at - self.now

    # -- deliveries ---------------------------------------------------------------------------

    def headers(self, body: bytes, job_id: JobId = JOB) -> dict[str, str]:
        """Sign a delivery as the provider does."""
        secret, timestamp = derive_secret(KEY, job_id), str(int(self.now))
        return self.provider.scheme.headers(secret, timestamp, body, delivery_id="d-1")

    def settlement(
        self, outcome: Any, job_id: JobId = JOB, *, leased: Leased | None = None
    ) -> Settlement:
        """Say how a job is to end, as its leg does at its end."""
        return self.settlements.settlement(job_id, find(REMASTER), outcome, leased=leased)

    def settle(self, outcome: Any, *, leased: Leased | None = None) -> None:
        self.settlements.settle([self.settlement(outcome, leased=leased)])

    def deliver(self, body: bytes, job_id: JobId = JOB) -> str:
        return self.deliveries.receive(job_id, self.headers(body, job_id), body)

    def kept(self, body: bytes) -> Entry:
        """Return an entry of the quarantine for a job that has no record."""
        packed = base64.b64encode(zlib.compress(body)).decode()
        headers = self.headers(body)
        return Entry("1-0", self.now, Kind.ORPHAN, JOB, "gone", len(body), headers, packed)
