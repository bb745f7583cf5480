"""Adapter: how each branch of a flow has ended, for the one that ends last.

Two branches may end at the same moment, in two workers. Each notes its own end and reads all that
are noted, so one of them sees the flow whole.
"""

from typing import TYPE_CHECKING

from worker.core import keys

if TYPE_CHECKING:
    from redis import Redis


class Endings:
    """Knows how the branches of a flow have ended."""

    def __init__(self, redis: "Redis") -> None:
        self._redis = redis

    def note(self, flow_id: str, branch: int, ended: str, *, seconds: int) -> list[str]:
        """Note the end of a branch; returns all that are noted, in the order of the branches.

        The end of a job that was retried takes the place of the first one.

        Raises StoreUnavailable.
        """
        key = keys.ENDINGS + flow_id
        # One transaction: of two branches that end at once, the second one reads both.
        with self._redis.pipeline() as pipe:
            pipe.hset(key, str(branch), ended)
            pipe.expire(key, seconds)
            pipe.hgetall(key)
            noted: dict[str, str] = pipe.execute()[2]
        return [noted[each] for each in sorted(noted, key=int)]
