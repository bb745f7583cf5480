"""Adapter: which copy of a plain step runs, and how often its process died.

A plain task has no record, and its message may come more than once. Celery publishes a step again
if the leg before it runs again: the copies have one run, and the first copy that begins takes it. A
broker delivers a message again if its process dies: the deaths of a run are counted, so that a task
that kills its process does not come back for ever. ``app/plain_task.py`` decides by both.
"""

from typing import TYPE_CHECKING

from worker.core import keys

if TYPE_CHECKING:
    from redis import Redis


class PlainSteps:
    """Knows the runs of plain steps, each by a key that expires.

    Every method raises StoreUnavailable if Redis cannot be reached or will not write.
    """

    def __init__(self, redis: "Redis") -> None:
        self._redis = redis

    def take(self, run: str, copy: str, *, seconds: int) -> bool:
        """Take a run of a plain step for a copy of its message; False if another has it."""
        key = keys.STEPS + run
        # A copy that is delivered again finds itself here, and may run again.
        return bool(self._redis.set(key, copy, nx=True, ex=seconds)) or self._redis.get(key) == copy

    def count_death(self, run: str, *, seconds: int) -> int:
        """Count one more death in the middle of a run of a plain step; returns how many."""
        key = keys.DEATHS + run
        # One transaction: a count that never got its time to live would stay for ever.
        with self._redis.pipeline() as pipe:
            pipe.incr(key)
            pipe.expire(key, seconds)
            return int(pipe.execute()[0])

    def forget_deaths(self, run: str) -> None:
        """Forget the deaths of a run that has ended."""
        self._redis.delete(keys.DEATHS + run)
