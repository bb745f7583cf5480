"""A mend of kombu's Redis transport: no message is lost between the queue and the worker's hands,
and a worker that loses its Redis lives on and forgets nothing.

Seen with kombu 5.7.0 and Celery 5.7.0, where a worker or Redis dies, or is away for a moment:

* A message that was popped and not yet noted as unacknowledged is lost: its worker was killed, or
  Redis answered a connection that was gone already.
* An acknowledgement that fails holds its prefetch slot for ever. After as many as the worker has
  slots, it takes no message any more, and says nothing.
* Messages that a closing channel cannot give back end the worker with an AttributeError, and come
  back only with the visibility timeout.
* A body that cannot be decoded ends the worker before it has the message.
* A message that is in hand for longer than the visibility timeout goes to another worker too, again
  and again, though the first one lives and is at work on it. Here a worker says every few seconds
  which messages it holds, so that only those of a dead one come again.

What it costs: every message wakes each worker that waits at its queue, and one that waits at
several queues, or for a message of another priority, notices it up to ``WAIT_SECONDS`` late.
"""

from collections.abc import Callable, Iterable
from contextvars import ContextVar
from functools import partial
from queue import Empty
from time import monotonic, time
from typing import Any, ClassVar, Final, cast

import structlog
from kombu.transport import redis, virtual
from kombu.utils.encoding import bytes_to_str
from redis.exceptions import ResponseError

from worker.core.wording import told
from worker.store.scripts import source

log = structlog.get_logger()

DELIVERY_SECONDS: Final = 30
"""How long a message may be on its way to the worker that popped it, before another gets it."""

WAIT_SECONDS: Final = 0.25
"""How long an idle worker waits at one queue. Then it looks at all of them again, and at the
messages of other priorities."""

_noted: Final = ContextVar("noted", default=False)
"""Whether the message that is being delivered was noted by its pop."""

_Write = Callable[[Any, str], Any]
"""What a channel's QoS writes of one delivery tag. To do it twice is to do it once."""


class PatientQoS(redis.QoS):
    """Remembers what it could not write, and writes it when Redis is there again."""

    _owed: ClassVar[dict[str, _Write]] = {}
    """By delivery tag. Of the process, for channel and connection may be gone by then."""

    def append(self, message: Any, delivery_tag: str) -> None:
        began = time()
        try:
            super().append(message, delivery_tag)
        except Exception as error:
            if _noted.get():
                give_back = partial(_give_back_noted_between, began, time())
            else:
                give_back = partial(_note_and_give_back, message)
            self._owe([delivery_tag], give_back, error)
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
        # kombu calls this when it has connected, and every few seconds. A full server refuses it:
        # to leave that server would not make room, and would take the work in hand along.
        try:
            for tag, write in list(self._owed.items()):
                write(self, tag)
                self._owed.pop(tag, None)
            self._hold_on()
            super().restore_visible(*args, **options)
        except ResponseError as error:
            log.warning("broker_refuses_writes", owed=len(self._owed), error=told(error))

    def _hold_on(self) -> None:
        """Note the messages in hand as if they had come now; one that was given back is not one."""
        delivered, channel = cast("Any", self._delivered), cast("Any", self.channel)
        tags = set(delivered).difference(self._dirty or ())
        if tags:
            with channel.conn_or_acquire() as client:
                client.zadd(self.unacked_index_key, dict.fromkeys(tags, time()), xx=True)

    def _owe(self, tags: Iterable[str], write: _Write, error: Exception) -> None:
        new = dict.fromkeys(tags, write)
        self._owed.update(new)
        log.warning("broker_write_held", count=len(new), error=told(error))


def _forget(qos: Any, tag: str) -> None:
    qos._remove_from_indices(tag).execute()


def _give_back(qos: Any, tag: str) -> None:
    qos.restore_by_tag(tag)


def _note_and_give_back(message: Any, qos: Any, tag: str) -> None:
    redis.QoS.append(qos, message, tag)
    redis.QoS.reject(qos, tag, requeue=True)


def _give_back_noted_between(began: float, ended: float, qos: Any, tag: str) -> None:
    """Give back what our own ``append`` noted, though its answer was lost.

    If it noted nothing, the pop's note brings the message back, or has done so: then it is in
    another worker's hands.
    """
    with qos.channel.conn_or_acquire() as client:
        ours = client.zrange(qos.unacked_index_key, began, ended, byscore=True)
    if tag in map(bytes_to_str, ours):
        _give_back(qos, tag)


class PatientMessage(virtual.Message):
    """Leaves a body that cannot be decoded as it is, for the consumer to report and drop."""

    def __init__(self, payload: Any, channel: Any = None, **options: Any) -> None:
        try:
            super().__init__(payload, channel, **options)
        except Exception as error:  # whatever a codec raises; a name that is none is None here
            encoding = payload["properties"].pop("body_encoding", None)
            if encoding is None:
                raise
            log.error("broker_message_unreadable", body_encoding=encoding, error=told(error))
            super().__init__(payload, channel, **options)


class PatientChannel(redis.Channel):
    """Pops a message and notes it in one step, in place of kombu's blocking pop.

    A script cannot block. So a channel that found nothing waits with a move that leaves the list as
    it is, which Redis may answer to a connection that is gone.
    """

    QoS = PatientQoS
    Message = PatientMessage
    connection_errors: Any
    _queue_cycle: Any
    _q_for_pri: Callable[[str, int], str]
    _flush_brpop_reauth: Callable[[], None]

    def __init__(self, *args: Any, **options: Any) -> None:
        self._without_ack: set[str] = set()
        self._noting = False
        """Whether it notes what it pops."""
        self._idle = False
        """Whether it waits, or is about to, rather than pops."""
        self._full = False
        """Whether Redis refused the last wait: BLMOVE counts as a write, and it has no room."""
        super().__init__(*args, **options)

    @property
    def _kombu(self) -> Any:
        return super()

    def basic_consume(self, queue: str, no_ack: bool, *args: Any, **options: Any) -> Any:
        if no_ack:
            self._without_ack.add(queue)
        return super().basic_consume(queue, no_ack, *args, **options)

    def _brpop_start(self, timeout: float | None = None) -> None:
        queues = self._queue_cycle.consume(len(self.active_queues))
        self._noting = self._notes(queues)
        if not self._noting:
            self._idle = False
            self._kombu._brpop_start(timeout)
        elif queues:
            command = self._wait(queues[0]) if self._idle else self._pop(queues)
            self._in_poll = self.client.connection
            self._brpop_sent_at = monotonic()
            self._in_poll.send_command(*command)

    def _notes(self, queues: list[str]) -> bool:
        return self.ack_emulation and self._without_ack.isdisjoint(queues)

    def _pop(self, queues: list[str]) -> tuple[Any, ...]:
        lists = [self._q_for_pri(queue, p) for p in self.priority_steps for queue in queues]
        keys = [self._key(name) for name in (self.unacked_key, self.unacked_index_key, *lists)]
        return "EVAL", source("pop"), len(keys), *keys, DELIVERY_SECONDS - self.visibility_timeout

    def _wait(self, queue: str) -> tuple[Any, ...]:
        self._queue_cycle.rotate(queue)
        key = self._key(queue)
        if self._full:
            self._full = False
            return "BRPOP", f"{key}.nothing", WAIT_SECONDS  # a list that never is
        return "BLMOVE", key, key, "RIGHT", "RIGHT", WAIT_SECONDS

    def _key(self, name: str) -> str:
        return f"{self.global_keyprefix}{name}"

    def _brpop_read(self, **options: Any) -> Any:
        if self._idle:
            self._read_wait(**options)
            self._idle = False
            raise Empty
        noted = _noted.set(self._noting)
        try:
            return self._kombu._brpop_read(**options)  # what a pop returns looks like BRPOP's
        except Empty:
            self._idle = True
            raise
        finally:
            _noted.reset(noted)

    def _read_wait(self, **options: Any) -> None:
        connection = self.client.connection
        try:
            self.client.parse_response(connection, "BLMOVE", **options)
        except ResponseError:
            self._full = True
        except self.connection_errors:
            connection.disconnect()
            raise
        finally:
            self._in_poll = None
            self._flush_brpop_reauth()


class PatientSentinelChannel(PatientChannel, redis.SentinelChannel):
    """The same, where Sentinels say which server is the primary."""


def install() -> None:
    """Let every Redis channel of this process be one of these.

    Raises OSError if the script cannot be read, so that the process ends here, not at a message.
    """
    source("pop")
    redis.Transport.Channel = PatientChannel
    redis.SentinelTransport.Channel = PatientSentinelChannel
