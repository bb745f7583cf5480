"""A mend of kombu's Redis transport: a worker that loses its Redis lives on and forgets nothing.

kombu gives the messages that a worker holds back to their queue when it closes a channel. Where
Redis is away just then, that raises an AttributeError that ends the worker, and the messages
come back only with the visibility timeout. Seen with kombu 5.7.0 and Celery 5.7.0.
"""

from typing import Any, ClassVar

import structlog
from kombu.transport import redis

log = structlog.get_logger()


class PatientQoS(redis.QoS):
    """Remembers the messages that it could not give back, and does so when Redis is there again."""

    _held: ClassVar[set[str]] = set()
    """Delivery tags. Of the process, for channel and connection are gone by then."""

    def restore_unacked_once(self, stderr: Any = None) -> None:
        tags = set(self._delivered or ())
        try:
            super().restore_unacked_once(stderr)
        except Exception as error:
            self._held.update(tags)
            log.warning("messages_held", count=len(tags), error=repr(error))

    def restore_visible(self, *args: Any, **options: Any) -> None:
        # kombu calls this when it has connected, and every few seconds.
        for tag in list(self._held):
            self.restore_by_tag(tag)
            self._held.discard(tag)
        super().restore_visible(*args, **options)


def install() -> None:
    """Let every Redis channel of this process use it, those of Sentinel too."""
    redis.Channel.QoS = PatientQoS
