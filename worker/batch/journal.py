"""Adapter: what becomes of the schedules' runs, in Redis. A run is named by schedule and batch."""

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, cast

from worker.core import keys
from worker.core.ports import Clock

if TYPE_CHECKING:
    from redis import Redis

_RUNNING: Final = "running:"
"""Before the batch, the field of a run whose rows are being submitted."""

_MANIFEST: Final = "manifest:"
"""Before the batch, the field of its manifest's digest, as it was when the run began."""


@dataclass(frozen=True, slots=True)
class LastRun:
    """What became of a schedule's last run."""

    batch_id: str
    outcome: str
    at: float


class Journal:
    """The runs. Every method raises StoreUnavailable where Redis cannot be reached."""

    def __init__(self, redis: "Redis", clock: Clock) -> None:
        self._redis = redis
        self._clock = clock

    def begin(self, schedule: str, batch_id: str) -> None:
        """Note a run that is about to be published: lost, it is found silent."""
        self._redis.hset(keys.SCHEDULE + schedule, "batch_id", batch_id)
        self.goes_on(schedule, batch_id)

    def goes_on(self, schedule: str, batch_id: str) -> None:
        """Note that rows of a run are being submitted, or about to be."""
        self._redis.hset(keys.SCHEDULE + schedule, _RUNNING + batch_id, str(self._clock()))
        self.note(schedule, batch_id, "submitting")

    def running(self, schedule: str) -> dict[str, float]:
        """Return the runs whose rows are being submitted, and when they were last heard of."""
        stored = cast("dict[str, str]", self._redis.hgetall(keys.SCHEDULE + schedule))
        return {
            field.removeprefix(_RUNNING): float(at)
            for field, at in stored.items()
            if field.startswith(_RUNNING)
        }

    def pin(self, schedule: str, batch_id: str, digest: str) -> str:
        """Keep the digest of a run's manifest; returns the first that was kept."""
        key, field = keys.SCHEDULE + schedule, _MANIFEST + batch_id
        self._redis.hsetnx(key, field, digest)
        return self.pinned(schedule, batch_id) or digest

    def pinned(self, schedule: str, batch_id: str) -> str | None:
        """Return the digest of the manifest that a run began with, None where it has not."""
        key, field = keys.SCHEDULE + schedule, _MANIFEST + batch_id
        return cast("str | None", self._redis.hget(key, field))

    def over(self, schedule: str, batch_id: str, outcome: str) -> None:
        """Note how a run ended: no more rows of it are submitted."""
        fields = (_RUNNING + batch_id, _MANIFEST + batch_id)
        self._redis.hdel(keys.SCHEDULE + schedule, *fields)
        self.note(schedule, batch_id, outcome)

    def note(self, schedule: str, batch_id: str, outcome: str) -> None:
        """Note what became of a schedule's last run."""
        noted = json.dumps([batch_id, outcome, self._clock()])
        self._redis.hset(keys.SCHEDULE + schedule, "last", noted)

    def newest(self, schedule: str) -> str | None:
        """Return the batch of the run that was begun last."""
        return cast("str | None", self._redis.hget(keys.SCHEDULE + schedule, "batch_id"))

    def last(self, schedule: str) -> LastRun | None:
        """Return what became of a schedule's last run, if there was one."""
        stored = cast("str | None", self._redis.hget(keys.SCHEDULE + schedule, "last"))
        return LastRun(*json.loads(stored)) if stored else None
