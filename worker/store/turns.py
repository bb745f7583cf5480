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

    def now(self) -> str:
        """Return an id before which all turns until now lie, and behind which all later ones.

        It is made from the server's clock, and tells nothing of when a job turned last.
        """
        seconds, micros = self._redis.time()
        # A later turn may still come in this millisecond, and one of it may be heard again.
        return f"{seconds * 1000 + micros // 1000 - 1}-0"
