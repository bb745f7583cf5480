"""The due times of schedules, in Redis: which of them were seen to, and by whom.

Several beats may tick at once, and the message of a tick may come twice. So a process claims a due
time before it does anything about it, and marks it afterwards. A claim expires: if its process dies
before it has marked the due time, the next tick claims it.
"""

from datetime import datetime
from typing import TYPE_CHECKING, Final, cast

import structlog

from worker.core import keys
from worker.core.batch.timetable import Schedule, due_minutes
from worker.core.ports import Clock

if TYPE_CHECKING:
    from redis import Redis

log = structlog.get_logger()

_RETAIN_SECONDS: Final = 14 * 86400
_CLAIM_SECONDS: Final = 50
"""Less than the time to the next tick, which can then take over from a process that died."""


class DueTimes:
    """The due times, as whole minutes of UTC.

    Every method raises StoreUnavailable if Redis cannot be reached.
    """

    def __init__(self, redis: "Redis", clock: Clock) -> None:
        self._redis = redis
        self._clock = clock

    def unseen(self, schedule: Schedule) -> list[datetime]:
        """List the due times that nobody has seen to yet, oldest first."""
        now, key = self._clock(), keys.SCHEDULE + schedule.name
        # A new schedule is not run for the past: it counts as seen up to a minute ago.
        self._redis.hsetnx(key, "seen_until", str(now - 60))
        seen = float(cast(str, self._redis.hget(key, "seen_until")))
        return due_minutes(schedule, after=seen, now=now)

    def claim(self, schedule: Schedule, minute: datetime) -> bool:
        """Win the right to see to a due time, among all beats, workers and copies of a tick."""
        key = _claim_key(schedule, minute)
        return bool(self._redis.set(key, "claimed", nx=True, ex=_CLAIM_SECONDS))

    def mark(self, schedule: Schedule, minute: datetime) -> None:
        """Say that a due time was seen to, so that it is never listed again."""
        with self._redis.pipeline() as pipe:
            pipe.set(_claim_key(schedule, minute), "seen to", ex=_RETAIN_SECONDS)
            pipe.hset(keys.SCHEDULE + schedule.name, "seen_until", str(minute.timestamp()))
            pipe.execute()

    def is_too_late(self, schedule: Schedule, minute: datetime) -> bool:
        """Say whether it is too late by now to begin the run of a due time."""
        return self._clock() - minute.timestamp() > schedule.missed_after_seconds

    def miss(self, schedule: Schedule, minute: datetime) -> None:
        """Claim a due time that is not run any more, count it, and mark it."""
        if self.claim(schedule, minute):
            self._redis.hincrby(keys.SCHEDULE + schedule.name, "missed", 1)
            log.warning("schedule_missed", schedule=schedule.name, due=minute.isoformat())
            self.mark(schedule, minute)

    def missed(self, schedule: Schedule) -> int:
        """Count the due times that were missed since the schedule was first seen."""
        missed = cast("str | None", self._redis.hget(keys.SCHEDULE + schedule.name, "missed"))
        return int(missed or 0)


def _claim_key(schedule: Schedule, minute: datetime) -> str:
    return f"{keys.SCHEDULE}{schedule.name}:{minute:%Y%m%dT%H%MZ}"
