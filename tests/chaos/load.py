"""The load: flows of jobs and plain steps, how the provider treats each job, and what must run."""

import random
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from celery import Celery, chord, group
from celery.canvas import Signature

from worker.core.contract import QUEUE, task_name

RAN: Final = Path("ran")
"""One file for each plain step, one line for each time it ran: so a step needs no Redis to note it.
"""

CALM: Final[dict[str, Any]] = {}
TROUBLE: Final[tuple[dict[str, Any], ...]] = (
    {"submit": "drop"},
    {"submit": "drop", "streaming": 1},
    {"submit": "error_500"},
    {"submit": "unreadable"},
    {"submit": "rate_limited"},
    {"submit": "slow", "submit_delay_seconds": 1},
    {"submit": "slow", "submit_delay_seconds": 4},
    {"webhook": "lost"},
    {"webhook": "late", "late_seconds": 2},
    {"webhook": "early"},
    {"webhook": "early", "submit": "drop"},
    {"webhook": "duplicate", "copies": 3},
    {"webhook": "reordered"},
    {"webhook": "forged"},
    {"webhook": "malformed"},
    {"webhook": "nonsense"},
    {"webhook": "lost", "poll_errors": 2},
    {"outcome": "fail"},
    {"outcome": "fail", "webhook": "lost"},
    {"outcome": "fail", "submit": "drop"},
    {"submit": "drop", "webhook": "lost"},
)
"""What the provider does to a job. After the last, nobody can ever know the job's outcome."""

TROUBLED: Final = 0.4


class Kind(StrEnum):
    """The kinds of steps in a flow."""

    JOB = "job"
    NOTE = "note"
    """A plain task that passes its input on."""
    BODY = "body"
    """A plain task that is the body of a chord."""
    ERRBACK = "errback"


@dataclass(frozen=True, slots=True)
class Step:
    """One step: a job, or a plain task that is counted."""

    key: str
    """A job's id, or the name that a plain step is counted under."""
    kind: Kind
    after: tuple[str, ...] = ()
    """Jobs that must all have succeeded; for an errback, one of which must have failed."""
    operation: str = ""
    source: str = ""
    trouble: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Flow:
    """A canvas, and its steps that must run."""

    steps: list[Step] = field(default_factory=list)
    canvas: Signature[Any] | None = None

    @property
    def jobs(self) -> list[Step]:
        return [step for step in self.steps if step.kind is Kind.JOB]


class Composer:
    """Composes flows from a random source; two with the same seed compose the same."""

    def __init__(self, app: Celery, rng: random.Random) -> None:
        self._app = app
        self._rng = rng
        self._flow = Flow()

    def compose(self, jobs: int) -> Iterator[Flow]:
        """Compose flows until they hold this many jobs, or a few more."""
        shapes: tuple[Callable[[], Any], ...] = (
            self._single, self._chain, self._chain, self._polled, self._fan_out,
            self._chord_of_jobs, self._chord_with_note, self._chord_in_chain, self._direct,
        )  # fmt: skip
        while jobs > 0:
            self._flow = Flow()
            self._flow.canvas = self._rng.choice(shapes)()
            jobs -= len(self._flow.jobs)
            yield self._flow

    def _single(self) -> Any:
        return self._with_errback(self._job(self._clip()))

    def _chain(self) -> Any:
        canvas = self._with_errback(self._job(self._clip()))
        last = self._last
        for _ in range(self._rng.randint(1, 2)):
            canvas |= self._with_errback(self._job(after=(last,)))
            last = self._last
        return canvas | self._note(last)

    def _polled(self) -> Any:
        first = self._with_errback(self._job(self._clip(), operation="sonic.stems_full"))
        return first | self._note(self._last)

    def _direct(self) -> Any:
        """A job that parks, then one whose answer is the result."""
        first = self._with_errback(self._job(self._clip()))
        return first | self._with_errback(self._job(after=(self._last,), operation="sonic.vox"))

    def _fan_out(self) -> Any:
        first = self._with_errback(self._job(self._clip()))
        fork = self._last
        members = [self._with_errback(self._job(after=(fork,))) for _ in range(3)]
        return first | group(members, app=self._app)

    def _chord_of_jobs(self) -> Any:
        header = [self._job(self._clip()) for _ in range(2)]
        return chord(header, self._mashup(), app=self._app)

    def _chord_with_note(self) -> Any:
        header = [self._job(self._clip()) for _ in range(3)]
        members = tuple(step.key for step in self._flow.jobs)
        body = self._note(*members, kind=Kind.BODY)
        body.link_error(self._errback(*members))
        return chord(header, body, app=self._app)

    def _chord_in_chain(self) -> Any:
        first = self._with_errback(self._job(self._clip()))
        fork = self._last
        members = [self._job(after=(fork,)) for _ in range(2)]
        header = tuple(step.key for step in self._flow.jobs[1:])
        return first | group(members, app=self._app) | self._mashup(header)

    def _mashup(self, header: tuple[str, ...] = ()) -> Any:
        """The body of a chord of two jobs: a job that takes both results."""
        header = header or tuple(step.key for step in self._flow.jobs)
        wanted = {"custom_mode": False, "gpt_description_prompt": "both at once"}
        body = self._job(after=header, operation="sonic.mashup", **wanted)
        body.link_error(self._errback(*header, self._last))
        return body

    def _job(
        self,
        *source: str,
        after: tuple[str, ...] = (),
        operation: str = "sonic.remaster",
        **kwargs: Any,
    ) -> Any:
        job_id = str(uuid.UUID(int=self._rng.getrandbits(128), version=4))
        trouble = self._rng.choice(TROUBLE) if self._rng.random() < TROUBLED else CALM
        clip = "".join(source)
        # These requests name no webhook, and so no job. Only a clip, if it is known, tells whose
        # they are.
        known = operation not in {"sonic.vox"}
        step = Step(job_id, Kind.JOB, after, operation, clip, trouble if known else CALM)
        self._flow.steps.append(step)
        if operation == "sonic.remaster":
            kwargs = {"mv": "chirp-v5"}
        name = task_name(operation)
        return self._app.signature(name, source, kwargs, queue=QUEUE, task_id=job_id)

    @property
    def _last(self) -> str:
        return self._flow.jobs[-1].key

    def _with_errback(self, job: Any) -> Any:
        job.link_error(self._errback(self._last))
        return job

    def _errback(self, *after: str) -> Any:
        return self._plain("chaos.errback", Kind.ERRBACK, after)

    def _note(self, *after: str, kind: Kind = Kind.NOTE) -> Any:
        return self._plain("chaos.note", kind, after)

    def _plain(self, task: str, kind: Kind, after: tuple[str, ...]) -> Any:
        key = f"{kind}-{self._rng.getrandbits(64):016x}"
        self._flow.steps.append(Step(key, kind, after))
        return self._app.signature(task, (key,), {}, queue=QUEUE)

    def _clip(self) -> str:
        return str(uuid.UUID(int=self._rng.getrandbits(128), version=4))
