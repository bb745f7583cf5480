"""The runs of schedules, in Redis: which are being submitted, and how the latest ones ended.

A run is named by its schedule and its batch. The timetable writes here before it publishes a slice,
so that it can tell a run whose message was lost.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, cast

from worker.core import keys
from worker.core.ports import Clock

if TYPE_CHECKING:
    from redis import Redis
    from redis.client import Pipeline

_RUNNING: Final = "running:"
"""With the batch's name after it: the field of a run whose rows are being submitted."""

_BY_HAND: Final = "by_hand"
"""The field of the run that a person asked for last, and when."""

_NOTED: Final = "noted:"
"""With the batch's name after it: the field of what became of a run."""
_KEPT: Final = 10
"""So many runs of a schedule are remembered."""

_MANIFEST: Final = "manifest:"
"""With the batch's name after it: the field of the manifest's digest at the run's beginning."""


@dataclass(frozen=True, slots=True)
class Run:
    """How a run of a schedule ended, or how far it is."""

    batch_id: str
    outcome: str
    at: float


class Journal:
    """The runs. Every method raises StoreUnavailable if Redis cannot be reached."""

    def __init__(self, redis: "Redis", clock: Clock) -> None:
        self._redis = redis
        self._clock = clock

    def begin(self, schedule: str, batch_id: str) -> None:
        """Note a run before its first slice is published: a run that stays silent is found."""
        self._redis.hset(keys.SCHEDULE + schedule, "batch_id", batch_id)
        self.goes_on(schedule, batch_id)

    def ask_for(self, schedule: str, batch_id: str, *, within_seconds: float) -> str:
        """Note a run that a person asks for; returns the one asked for just before, if any.

        Args:
            within_seconds: how long ago that may be.
        """
        key = keys.SCHEDULE + schedule

        def note(pipe: "Pipeline") -> str:
            asked = cast("str | None", pipe.hget(key, _BY_HAND))
            at, _, before = (asked or "0 ").partition(" ")
            if before and self._clock() - float(at) < within_seconds:
                return before
            pipe.multi()
            pipe.hset(key, _BY_HAND, f"{self._clock()!r} {batch_id}")
            return batch_id

        # Two people may ask at once: whose transaction fails reads what the other one has noted.
        transaction = cast("Callable[..., str]", self._redis.transaction)
        return transaction(note, key, value_from_callable=True)

    def goes_on(self, schedule: str, batch_id: str) -> None:
        """Note that rows of a run are being submitted now, or are about to be."""
        self._redis.hset(keys.SCHEDULE + schedule, _RUNNING + batch_id, str(self._clock()))
        self.note(schedule, batch_id, "submitting")

    def running(self, schedule: str) -> dict[str, float]:
        """Return the runs whose rows are being submitted, and when each was last noted."""
        stored = cast("dict[str, str]", self._redis.hgetall(keys.SCHEDULE + schedule))
        return {
            field.removeprefix(_RUNNING): float(at)
            for field, at in stored.items()
            if field.startswith(_RUNNING)
        }

    def pin(self, schedule: str, batch_id: str, digest: str) -> str:
        """Keep the digest of a run's manifest; returns the first that was kept."""
        key, field = keys.SCHEDULE + schedule, _MANIFEST + batch_id
        # A manifest that has changed is checked, and comes here, again: the first digest stays.
        self._redis.hsetnx(key, field, digest)
        return self.pinned(schedule, batch_id) or digest

    def pinned(self, schedule: str, batch_id: str) -> str | None:
        """Return the digest of the manifest that a run began with; None if it has not begun."""
        key, field = keys.SCHEDULE + schedule, _MANIFEST + batch_id
        return cast("str | None", self._redis.hget(key, field))

    def over(self, schedule: str, batch_id: str, outcome: str) -> None:
        """Note how a run ended; from then on nobody submits rows of it."""
        fields = (_RUNNING + batch_id, _MANIFEST + batch_id)
        self._redis.hdel(keys.SCHEDULE + schedule, *fields)
        self.note(schedule, batch_id, outcome)

    def note(self, schedule: str, batch_id: str, outcome: str) -> None:
        """Note how a run ended, or how far it is; forget the oldest ones."""
        key = keys.SCHEDULE + schedule
        place = self._redis.hincrby(key, "notes", 1)
        noted = json.dumps([place, batch_id, outcome, self._clock()])
        self._redis.hset(key, _NOTED + batch_id, noted)
        if outdated := [_NOTED + each.batch_id for each in self.latest(schedule)[_KEPT:]]:
            self._redis.hdel(key, *outdated)

    def newest(self, schedule: str) -> str | None:
        """Return the batch of the run that was begun last."""
        return cast("str | None", self._redis.hget(keys.SCHEDULE + schedule, "batch_id"))

    def latest(self, schedule: str) -> list[Run]:
        """Return a schedule's latest runs; that of which something was noted last is the first."""
        stored = cast("dict[str, str]", self._redis.hgetall(keys.SCHEDULE + schedule))
        noted = (json.loads(text) for name, text in stored.items() if name.startswith(_NOTED))
        return [Run(*told) for _, *told in sorted(noted, reverse=True)]
