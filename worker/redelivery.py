"""A mend of kombu's Redis transport: a worker that loses its Redis lives on and forgets nothing.

Seen with kombu 5.7.0 and Celery 5.7.0, where Redis is away for a moment:

* An acknowledgement that fails holds its prefetch slot for ever. After as many as the worker has
  slots, it takes no message any more, and says nothing.
* A message that was popped and could not be noted as taken is lost.
* Messages that a closing channel cannot give back end the worker with an AttributeError, and come
  back only with the visibility timeout.
"""

from collections.abc import Callable, Iterable
from typing import Any, ClassVar

import structlog
from kombu.transport import redis, virtual

log = structlog.get_logger()

_Write = Callable[[Any, str], Any]
"""What a channel's QoS writes of one delivery tag. To do it twice is to do it once."""


class PatientQoS(redis.QoS):
    """Remembers what it could not write, and writes it when Redis is there again."""

    _owed: ClassVar[dict[str, _Write]] = {}
    """By delivery tag. Of the process, for channel and connection may be gone by then."""

    def append(self, message: Any, delivery_tag: str) -> None:
        def note_and_give_back(qos: Any, tag: str) -> None:
            redis.QoS.append(qos, message, tag)
            redis.QoS.reject(qos, tag, requeue=True)

        try:
            super().append(message, delivery_tag)
        except Exception as error:
            self._owe([delivery_tag], note_and_give_back, error)
            raise

    def ack(self, delivery_tag: str) -> None:
        try:
            super().ack(delivery_tag)
        except Exception as error:
            self._owe([delivery_tag], _forget, error)
            virtual.QoS.ack(self, delivery_tag)

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        try:
            super().reject(delivery_tag, requeue)
        except Exception as error:
            self._owe([delivery_tag], _give_back if requeue else _forget, error)
            virtual.QoS.ack(self, delivery_tag)

    def restore_unacked_once(self, stderr: Any = None) -> None:
        delivered: Any = self._delivered
        tags = set(delivered).difference(self._dirty or ())
        try:
            super().restore_unacked_once(stderr)
        except Exception as error:
            self._owe(tags, _give_back, error)
            delivered.clear()

    def restore_visible(self, *args: Any, **options: Any) -> None:
        # kombu calls this when it has connected, and every few seconds.
        for tag, write in list(self._owed.items()):
            write(self, tag)
            self._owed.pop(tag, None)
        super().restore_visible(*args, **options)

    def _owe(self, tags: Iterable[str], write: _Write, error: Exception) -> None:
        new = dict.fromkeys(tags, write)
        self._owed.update(new)
        log.warning("broker_write_held", count=len(new), error=repr(error))


def _forget(qos: Any, tag: str) -> None:
    qos._remove_from_indices(tag).execute()


def _give_back(qos: Any, tag: str) -> None:
    qos.restore_by_tag(tag)


def install() -> None:
    """Let every Redis channel of this process use it, those of Sentinel too."""
    redis.Channel.QoS = PatientQoS
