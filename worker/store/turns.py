"""Adapter: the turns of all jobs as they happen, from one bounded stream of Redis or Valkey."""

from typing import TYPE_CHECKING, Any, cast

from worker.core import keys
from worker.core.job.models import JobId
from worker.core.job.states import JobState
from worker.core.overview import Turned

if TYPE_CHECKING:
    from redis import Redis


class Turns:
    """Reads the stream of turns. Every method raises StoreUnavailable if Redis is away."""

    def __init__(self, redis: "Redis") -> None:
        self._redis = redis

    def listen(self, *, after: str = "$", wait_seconds: float, limit: int = 500) -> list[Turned]:
        """Wait for turns of any job; returns them, or nothing when the time is over.

        Args:
            after: the last turn that was heard of; ``$``: the last one there is.
            wait_seconds: must be shorter than the timeout of the connection.
        """
        read = self._redis.xread({keys.TURNS: after}, count=limit, block=round(wait_seconds * 1000))
        return [
            Turned(turn_id, JobId(said["job"]), JobState(said["state"]), said["operation"],
                   said["tenant"])
            for _, entries in cast("list[Any]", read)
            for turn_id, said in entries
        ]  # fmt: skip

    def last(self) -> str:
        """Return the id of the last turn; ``0-0`` if there was none."""
        last = cast("list[Any]", self._redis.xrevrange(keys.TURNS, count=1))
        return last[0][0] if last else "0-0"
