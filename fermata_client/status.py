"""The state of a job, and the changes between two looks at it."""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, TypedDict, cast

from fermata_client.contract import FIELDS
from fermata_client.errors import JobFailed, UnknownJob

State = Literal[
    "pending",  # this client has sent it, or it waits for the one before it: no worker has begun it
    "unknown",  # there is no record of it
    "queued", "held", "admitted", "submitting", "unconfirmed", "waiting", "resuming",
    "succeeded", "failed", "cancelled", "expired",
    "skipped",  # the job before it in its flow failed, so that it never runs
]  # fmt: skip

_SETTLED: Final = frozenset({"succeeded", "failed", "cancelled", "expired", "skipped"})


class Clip(TypedDict, total=False):
    """A clip of a result. Every key is there; values may be None, ``clip_id`` and ``state`` too."""

    clip_id: str | None
    state: str | None
    title: str | None
    audio_url: str | None
    video_url: str | None
    image_url: str | None
    wav_url: str | None
    duration_seconds: float | None
    tags: str | None
    sound: str | None
    lyrics: str | None
    model: str | None
    stem_type: str | None
    created_at: str | None
    error: Any


class Result(TypedDict):
    """The result of an operation; ``data`` is in the provider's words."""

    job_id: str
    operation: str
    provider_task_id: str | None
    clips: list[Clip]
    data: dict[str, Any]
    partial: bool


class LiveClip(TypedDict):
    """A clip that is being made; its ``audio_url`` can be listened to already."""

    clip_id: str | None
    state: str | None
    audio_url: str | None


class Progress(TypedDict):
    """The clips that can be heard before the job ends."""

    clips: list[LiveClip]


@dataclass(frozen=True, slots=True)
class Status:
    """The state of a job, with its result or error."""

    job_id: str
    state: State = "unknown"
    operation: str | None = None
    progress: Progress | None = None
    result: Result | None = None
    error: JobFailed | None = None

    @property
    def settled(self) -> bool:
        """Whether the job has ended. Its state then never changes."""
        return self.state in _SETTLED

    def to_json(self) -> dict[str, Any]:
        """Return it as a JSON object."""
        said = {name: getattr(self, name) for name in self.__slots__}
        return said | {"error": self.error.to_json() if self.error else None}


@dataclass(frozen=True, slots=True)
class Update:
    """A change of a job."""

    event: Literal["state", "streaming", "settled"]
    status: Status


def read_status(job_id: str, stored: Sequence[str | None]) -> Status:
    """Read the fields of a record, in the order of FIELDS."""
    record = dict(zip(FIELDS, stored, strict=True))
    if not record["state"]:
        return Status(job_id)
    progress, result, error = (json.loads(text) if text else None for text in stored[2:])
    return Status(
        job_id,
        cast(State, record["state"]),
        record["operation"],
        progress,
        result,
        JobFailed(error["type"], error["message"], error["details"]) if error else None,
    )


def unknown_job(job_id: str, how_long: str) -> UnknownJob:
    """Return the error for a job without a record; it names the possible reasons."""
    return UnknownJob(
        f"there is no record of job {job_id} {how_long}: wrong id, past its retention, or no "
        "worker has begun it"
    )


class Watch:
    """Compares looks at some jobs: which changed, and when to look again."""

    FIRST_SECONDS: Final = 0.2
    MOST_SECONDS: Final = 2.0

    def __init__(self, timeout: float | None, begin_seconds: float) -> None:
        self._give_up = None if timeout is None else time.monotonic() + timeout
        self._begin_seconds = begin_seconds
        self._unknown_since: dict[str, float] = {}
        self._seen: dict[str, Status] = {}
        self._pause = self.FIRST_SECONDS

    def see(self, statuses: Sequence[Status]) -> list[Update]:
        """Return the changes since the last look."""
        new = [self._update(status) for status in statuses if self._differs(status)]
        self._seen = {status.job_id: status for status in statuses}
        self._pause = self.FIRST_SECONDS if new else min(self._pause * 1.3, self.MOST_SECONDS)
        return new

    def _differs(self, status: Status) -> bool:
        before = self._seen.get(status.job_id)
        # Errors are not compared: each look makes a new object, and a job with an error has another
        # state than before.
        return before is None or (before.state, before.progress) != (status.state, status.progress)

    def _update(self, status: Status) -> Update:
        before = self._seen.get(status.job_id)
        if status.settled:
            return Update("settled", status)
        heard = before.progress if before else None
        return Update("streaming" if status.progress != heard else "state", status)

    def over(self) -> bool:
        """Say whether every job has settled, or the time is up.

        Raises UnknownJob for a job that has had no record for too long.
        """
        now = time.monotonic()
        unknown = [status.job_id for status in self._seen.values() if status.state == "unknown"]
        self._unknown_since = {each: self._unknown_since.get(each, now) for each in unknown}
        for job_id, since in self._unknown_since.items():
            if now - since >= self._begin_seconds:
                raise unknown_job(job_id, f"for {self._begin_seconds:g} s")
        if all(status.settled for status in self._seen.values()):
            return True
        return self._give_up is not None and time.monotonic() >= self._give_up

    @property
    def pause(self) -> float:
        """The time until the next look: short after a change, then longer and longer."""
        if self._give_up is None:
            return self._pause
        return max(0.0, min(self._pause, self._give_up - time.monotonic()))
