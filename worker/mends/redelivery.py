"""A mend of kombu's Redis transport: no message is lost between the queue and the worker's hands,
and a worker that loses its Redis lives on and forgets nothing.

Every Redis channel of the process is one of these, so that a worker consumes through them. The
faults were seen with kombu 5.7.0 and Celery 5.7.0, when a worker or Redis dies, or Redis is away
for a short time:

* kombu pops a message and notes it as unacknowledged in a second command. If the worker is killed
  between the two, or Redis answers a connection that is already gone, the message is lost.
* An acknowledgement that fails holds its prefetch slot for ever. Once that has happened as often as
  the worker has slots, the worker takes no more messages, and says nothing.
* If a closing channel cannot give its messages back, the worker ends with an AttributeError, and
  the messages come back only after the visibility timeout.
* A body that cannot be decoded ends the worker before it has the message.
* A message that a worker holds for longer than the visibility timeout also goes to another worker,
  again and again, although the first one lives and works on it. Here a worker says every few
  seconds which messages it holds, so that only the messages of a dead worker come again.

The cost: every message wakes each worker that waits at its queue. A worker that waits at
several queues, or for a message of another priority, notices a message up to ``WAIT_SECONDS`` late.
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
"""Whether its pop has already noted the message that is being delivered."""

_Write = Callable[[Any, str], Any]
"""A write that a channel's QoS makes for one delivery tag. A second time changes nothing."""


class PatientQoS(redis.QoS):
    """Remembers the writes that failed, and repeats them when Redis is back."""

    _owed: ClassVar[dict[str, _Write]] = {}
    """By delivery tag. One dict for the process: the channel may be gone when Redis is back."""

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
            # kombu frees the prefetch slot only after the write: free it here in its place.
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
        # kombu calls this after it has connected, and then every few seconds. A full server refuses
        # the writes. An error raised here would make the worker reconnect, which makes no room on
        # the server and costs the worker the messages in its hands.
        try:
            for tag, write in list(self._owed.items()):
                write(self, tag)
                self._owed.pop(tag, None)
            self._hold_on()
            super().restore_visible(*args, **options)
        except ResponseError as error:
            log.warning("broker_refuses_writes", owed=len(self._owed), error=told(error))

    def _hold_on(self) -> None:
        """Note the messages in hand as if they had come now."""
        delivered, channel = cast("Any", self._delivered), cast("Any", self.channel)
        tags = set(delivered).difference(self._dirty or ())
        if tags:
            # XX: a message that was given back meanwhile has no entry, and must not get a new one.
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
    """Give back a message that our own ``append`` noted, although its answer was lost.

    If ``append`` noted nothing, the pop's note brings the message back. If it has already done so,
    another worker holds the message, and we must not give it back.
    """
    # The entry's score tells who noted it: ours lies between the start and the end of our append.
    with qos.channel.conn_or_acquire() as client:
        ours = client.zrange(qos.unacked_index_key, began, ended, byscore=True)
    if tag in map(bytes_to_str, ours):
        _give_back(qos, tag)


class PatientMessage(virtual.Message):
    """Leaves a body that cannot be decoded as it is, for the consumer to report and drop."""

    def __init__(self, payload: Any, channel: Any = None, **options: Any) -> None:
        try:
            super().__init__(payload, channel, **options)
        except Exception as error:  # any codec's error; kombu has None for an unknown codec
            encoding = payload["properties"].pop("body_encoding", None)
            if encoding is None:
                raise
            log.error("broker_message_unreadable", body_encoding=encoding, error=told(error))
            super().__init__(payload, channel, **options)


class PatientChannel(redis.Channel):
    """Pops a message and notes it in one script (pop.lua), in place of kombu's blocking pop.

    A script cannot block. So a channel that found nothing waits with a BLMOVE from the end of a
    list to the same end. It takes nothing, so nothing is lost if its connection is gone when Redis
    answers.
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
        """Whether the command under way pops with our script, which also notes the message."""
        self._idle = False
        """Whether the command under way, or the next one, is a wait rather than a pop."""
        self._full = False
        """Whether Redis refused the last wait: BLMOVE counts as a write, and Redis is full."""
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
            # Only send, as kombu does: its event loop calls _brpop_read when there is an answer.
            command = self._wait(queues[0]) if self._idle else self._pop(queues)
            self._in_poll = self.client.connection
            self._brpop_sent_at = monotonic()
            self._in_poll.send_command(*command)

    def _notes(self, queues: list[str]) -> bool:
        # A consumer without acknowledgements would never remove a note.
        return self.ack_emulation and self._without_ack.isdisjoint(queues)

    def _pop(self, queues: list[str]) -> tuple[Any, ...]:
        lists = [self._q_for_pri(queue, p) for p in self.priority_steps for queue in queues]
        keys = [self._key(name) for name in (self.unacked_key, self.unacked_index_key, *lists)]
        # kombu gives a message back when its note is older than the visibility timeout. The pop's
        # note is dated back, so that an undelivered message comes again after DELIVERY_SECONDS.
        return "EVAL", source("pop"), len(keys), *keys, DELIVERY_SECONDS - self.visibility_timeout

    def _wait(self, queue: str) -> tuple[Any, ...]:
        self._queue_cycle.rotate(queue)
        key = self._key(queue)
        if self._full:
            self._full = False
            return "BRPOP", f"{key}.nothing", WAIT_SECONDS  # no such list: BRPOP is the pause alone
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
            return self._kombu._brpop_read(**options)  # pop.lua answers in the form of BRPOP
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
            connection.disconnect()  # as kombu's _brpop_read: the next poll connects again
            raise
        finally:
            self._in_poll = None
            # The connection is idle now: kombu may send an AUTH that waits for this.
            self._flush_brpop_reauth()


class PatientSentinelChannel(PatientChannel, redis.SentinelChannel):
    """The same for a broker whose Sentinels say which server is the primary."""


def install() -> None:
    """Make every Redis channel of this process one of these.

    Raises OSError if the script cannot be read: the process ends here, not at its first message.
    """
    source("pop")
    redis.Transport.Channel = PatientChannel
    redis.SentinelTransport.Channel = PatientSentinelChannel
