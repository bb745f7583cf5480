"""The nouns of a job: its record, its events, its deliveries. Frozen, and JSON at the edge."""

import base64
import json
import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import Any, NewType

from worker.core.errors import InvalidPayload
from worker.core.job.states import JobState, Turn

JobId = NewType("JobId", str)
ProviderTaskId = NewType("ProviderTaskId", str)
JSONObject = dict[str, Any]


class Source(StrEnum):
    """Where an event comes from."""

    WEBHOOK = "webhook"
    POLL = "poll"
    ANSWER = "answer"
    """The submit's own answer: a synchronous result, or a refusal."""
    SWEEP = "sweep"
    CANCEL = "cancel"


@dataclass(frozen=True, slots=True)
class Event:
    """What settles a job: the provider's words (``body``), or our own ``error``, never both."""

    source: Source
    body: str | None = None
    error: Mapping[str, Any] | None = None
    delivery_id: str | None = None

    def dumps(self) -> str:
        fields = {"source": self.source, "body": self.body, "error": self.error}
        return json.dumps(fields | {"delivery_id": self.delivery_id})

    @classmethod
    def loads(cls, text: str) -> "Event":
        fields = json.loads(text)
        return cls(**(fields | {"source": Source(fields["source"])}))


@dataclass(frozen=True, slots=True)
class JobRecord:
    """A job as Redis holds it. Times are Unix seconds."""

    job_id: JobId
    operation: str
    state: JobState
    created_at: float
    deadline_at: float
    due_at: float | None = None
    provider_task_id: ProviderTaskId | None = None
    clip_id: str | None = None
    leg: str = ""
    """The last run of the submit leg."""
    attempts: int = 0
    polls: int = 0
    claims: int = 0
    republished: int = 0
    """How often the sweep published its submit leg again."""
    resubmissions: int = 0
    refusals: int = 0
    """How often this job closed a gate that was open."""
    poll_at: float | None = None
    """The time that its next poll has reserved, if there are many jobs to poll."""
    cancelled_by: str | None = None
    """Who cancelled it before a worker began it."""
    refused_at: float | None = None
    """Since when the broker refuses what follows it."""
    errbacks_called: tuple[int, ...] = ()
    """The places of its errbacks that were called: they are not called again with its leg."""
    after: JobId | None = None
    """The task that it follows. If that is no job of ours, it has no record."""
    first: JobId | None = None
    """The first job of its flow, if that is another job."""
    again: JobId | None = None
    """The job that runs in its place: this one failed, and was retried."""
    instead_of: JobId | None = None
    """The failed job in whose place this one runs."""
    batch: str | None = None
    following: JSONObject | None = None
    """The steps after it when it ended: ``steps``, each a :class:`.canvas.Step`."""
    lane: str = ""
    """Its priority and tenant (lanes.Lane), once it stood before the gate."""
    cost: float = 0.0
    """Its list price, in credits."""
    source: Source | None = None
    """Where the event came from that ended it."""
    polled: str | None = None
    """The beginning of what the provider said to the last poll that did not end it."""
    polled_at: float | None = None
    traceparent: str | None = None
    """The context of its last submit leg's span, or of its producer's, if these are traced."""
    progress: JSONObject | None = None
    result: JSONObject | None = None
    error: JSONObject | None = None
    late: JSONObject | None = None
    """What the provider delivered after the job had ended without it."""
    timeline: tuple[JSONObject, ...] = field(default=())

    @property
    def trace_id(self) -> str | None:
        """The id of its trace, in 32 hexadecimal digits; None if it is not traced."""
        _, _, rest = (self.traceparent or "").partition("-")
        return rest.partition("-")[0] or None

    def to_json(self) -> JSONObject:
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class Parked:
    """A job's own message, and where it puts the job in its flow."""

    message: str
    """As a record keeps it (see :mod:`worker.core.job.kept`)."""
    place: Mapping[str, str]
    """See :func:`worker.core.job.canvas.place`."""


@dataclass(frozen=True, slots=True)
class Shown:
    """A job's PARKED state, as Celery's result backend would store it."""

    key: str
    state: str
    seconds: int
    """How long it is kept."""


@dataclass(frozen=True, slots=True)
class Leased:
    """A claimed job that a conductor has to itself for a while, and what its leg needs."""

    job_id: JobId
    operation: str
    message: str
    """The message that started it, as a record keeps it (see :mod:`worker.core.job.kept`)."""
    event: Event
    claims: int
    """How often it was leased, this time included."""
    clip_id: str | None = None
    provider_task_id: ProviderTaskId | None = None
    traceparent: str | None = None
    """The context of its submit leg's span."""
    event_traceparent: str | None = None
    """The context of the span in which its event came."""
    created_at: float | None = None
    """When it was recorded, in Unix seconds."""
    tenant: str = ""


@dataclass(frozen=True, slots=True)
class Settlement:
    """How a job is to end, as its record will say it."""

    job_id: JobId
    turn: Turn
    why: str
    fields: JSONObject
    drop: Sequence[str]
    """The fields that the record loses."""
    told: JSONObject
    """What the log says of it, too."""


@dataclass(frozen=True, slots=True)
class Standing:
    """What a submit leg must know of its job before it begins."""

    state: JobState | None
    attempts: int = 0
    cancelled_by: str | None = None
    digest: str | None = None
    """The fingerprint of the request, if the job was enqueued under an idempotency key."""
    deadline_at: float = math.inf
    announced: bool = False
    """Its PARKED state is stored."""


class Heard(IntEnum):
    """What became of a delivery that ends a job."""

    NOT_WON = 0
    """Another event ends the job, or has ended it; or there is no job."""
    WON = 1
    AGAIN = 2
    """The same delivery has won before."""


class Kind(StrEnum):
    """Why a delivery cannot be used."""

    UNREADABLE = "unreadable"
    """It cannot be parsed."""
    ORPHAN = "orphan"
    """Its job has no record: past its retention, or lost with Redis's data."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A delivery in quarantine."""

    entry_id: str
    at: float
    kind: Kind
    job_id: JobId
    why: str
    size: int
    """Of the body as it came, in bytes."""
    headers: Mapping[str, str]
    """The headers that are evidence, the signature among them; none is a secret."""
    packed: str = field(repr=False)

    @property
    def body(self) -> bytes:
        """The body to the byte.

        Raises InvalidPayload if the entry was damaged.
        """
        try:
            return zlib.decompress(base64.b64decode(self.packed, validate=True))
        except (ValueError, zlib.error) as error:
            raise InvalidPayload(f"entry {self.entry_id} is damaged: {error}") from None

    def to_json(self) -> dict[str, Any]:
        """Return everything but the body."""
        hidden = {"packed"}
        return {name: getattr(self, name) for name in self.__slots__ if name not in hidden}
