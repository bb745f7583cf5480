"""Adapter: hand a parked message over to the broker.

A message is pressed when it is parked: Celery publishes it to a kombu channel that keeps it
instead of sending it. What is kept is kombu's own wire form, so whoever holds it needs no
task, no canvas and no result backend to publish it.
"""

import base64
import contextlib
import json
from collections.abc import Callable, Iterator
from typing import Any, Final, Protocol, cast

import structlog
from celery.canvas import Signature
from kombu import Connection
from kombu.exceptions import KombuError, OperationalError
from kombu.transport import memory, redis
from kombu.utils.json import dumps
from redis.exceptions import RedisError

from worker.core import canvas, schedule
from worker.core.contract import CLAIM_HEADER
from worker.core.models import Event, JobId, Parked
from worker.core.schedule import PUBLISH_LEASE_SECONDS, Policy
from worker.core.states import JobState
from worker.core.wording import told
from worker.store import Store

log = structlog.get_logger()

Clock = Callable[[], float]

PUBLISH_RETRIES: Final = {
    "max_retries": 2,
    "interval_start": 0.05,
    "interval_step": 0.2,
    "interval_max": 0.5,
}
_ENVELOPE: Final = ("body_encoding", "delivery_tag", "delivery_info", "priority", "expiration")
"""Properties that belong to one publishing of a message. When it expires, its header says."""


class _PressChannel(memory.Channel):
    """Keeps the one message of a task that is published, for whichever exchange."""

    pressed: dict[str, Any]

    def basic_publish(
        self, message: dict[str, Any], exchange: str, routing_key: str, **_: Any
    ) -> None:
        # With task_send_sent_event, Celery also publishes an event here, of a message that nobody
        # has sent yet. It has no task.
        if "task" in (message["headers"] or {}):
            self._inplace_augment_message(message, exchange, routing_key)
            self.pressed = message


class _PressTransport(memory.Transport):
    Channel = _PressChannel


def press(publish: Callable[[Any], Any]) -> dict[str, Any]:
    """Return, in wire form, the task's message that is published to the producer given."""
    with Connection(transport=_PressTransport) as connection:
        channel = cast(_PressChannel, connection.default_channel)
        with connection.Producer(auto_declare=False) as producer:
            publish(producer)
        return channel.pressed


def park(signature: Signature[Any], broker_channel: Any) -> Parked:
    """Turn a signature into the message that would be published now.

    Args:
        broker_channel: the worker's own channel; a Redis one names the list to push to.
    """
    message = press(lambda to: signature.apply_async(producer=to, add_to_parent=False, declare=[]))
    route = message["properties"]["delivery_info"]
    list_key = None
    if isinstance(broker_channel, redis.Channel) and not route["exchange"]:
        list_key = _list_key(broker_channel, route["routing_key"], message)
    return Parked(dumps(message), list_key, canvas.place(message["headers"]))


def _list_key(channel: Any, queue: str, message: dict[str, Any]) -> str:
    """Name the list that kombu itself would push to: one for each priority step."""
    key = channel._q_for_pri(queue, channel._get_message_priority(message))
    return f"{channel.global_keyprefix}{key}"


class Publisher:
    """Publishes pressed messages on any broker. Not fork-safe: one per process."""

    def __init__(self, url: str, transport_options: dict[str, Any], connect_seconds: float) -> None:
        self._connect_seconds = connect_seconds
        self._pool = Connection(
            url, transport_options=transport_options, connect_timeout=connect_seconds
        ).Pool(limit=16)

    def publish(self, message: str, *, claim: int) -> None:
        """Publish a pressed message under a claim number; 0 runs the submit leg again.

        Raises kombu's OperationalError where the broker cannot be reached or has no such queue.
        """
        wire = json.loads(message)
        properties = wire["properties"]
        route = properties["delivery_info"]
        headers = wire["headers"] | {CLAIM_HEADER: claim}
        if claim == 0 and CLAIM_HEADER in wire["headers"]:
            headers["timelimit"] = [None, None]  # a submit leg again, with the task's own limits
        if claim:
            # What was paid for, or cancelled, neither waits for its time nor expires in silence.
            headers |= {"eta": None, "expires": None}
        kept = {name: value for name, value in properties.items() if name not in _ENVELOPE}
        with self._connection() as connection:
            connection.Producer(auto_declare=False).publish(
                base64.b64decode(wire["body"]),
                exchange=route["exchange"],
                routing_key=route["routing_key"],
                priority=properties["priority"],
                content_type=wire["content-type"],
                content_encoding=wire["content-encoding"],
                headers=headers,
                # AMQP drops a message for a queue that is not there, and confirms it.
                mandatory=True,
                retry=True,
                retry_policy=dict(PUBLISH_RETRIES),
                **kept,
            )

    def close(self) -> None:
        """Close all connections; the next publish opens new ones."""
        self._pool.force_close_all()

    @contextlib.contextmanager
    def _connection(self) -> Iterator[Connection]:
        with self._pool.acquire(block=True, timeout=self._connect_seconds) as connection:
            try:
                yield connection
            except Exception as error:
                # What AMQP still has to say about this message would be taken for the next one's.
                connection.collect()
                raise OperationalError(str(error) or repr(error)) from error


class Handover(Protocol):
    """The port: from an event to a message in the queue, for exactly one of many events."""

    def resume(
        self, job_id: JobId, event: Event, *, leg: str = "", seen: JobState | None = None
    ) -> bool:
        """Claim a parked job and publish its message; False where another event has won.

        Args:
            leg: only while this run of the submit leg is the job's last.
            seen: only while the job is in this state.
        """

    def resume_again(self, job_id: JobId) -> bool:
        """Publish a job again whose claim went stale; False where it has moved on."""

    def submit_again(self, job_id: JobId, *, stale_at: float, republished: int = 0) -> None:
        """Publish the submit leg of a queued job again, whose moment was moved to stale_at.

        Args:
            republished: how often that was done before.
        """


class BrokerHandover:
    """On any broker: claim with a lease, publish, mark; the sweep finishes what died between."""

    _push = False

    def __init__(self, store: Store, publisher: Publisher, clock: Clock, policy: Policy) -> None:
        self._store = store
        self._publisher = publisher
        self._clock = clock
        self._policy = policy

    def close(self) -> None:
        """Close the connections to the broker."""
        self._publisher.close()

    def resume(
        self, job_id: JobId, event: Event, *, leg: str = "", seen: JobState | None = None
    ) -> bool:
        now = self._clock()
        stale_at = now + PUBLISH_LEASE_SECONDS
        claim = self._store.claim(
            job_id,
            event,
            now=now,
            stale_at=stale_at,
            published_stale_at=now + self._policy.backlog_seconds,
            push=self._push,
            leg=leg,
            seen=seen,
        )
        if claim and not claim.pushed:
            self._publish(job_id, claim.message, claim.number, stale_at)
        return claim is not None

    def resume_again(self, job_id: JobId) -> bool:
        now = self._clock()
        stale_at = now + PUBLISH_LEASE_SECONDS
        claim = self._store.reclaim(job_id, now=now, stale_at=stale_at)
        if claim:
            self._publish(job_id, claim.message, claim.number, stale_at)
        return claim is not None

    def submit_again(self, job_id: JobId, *, stale_at: float, republished: int = 0) -> None:
        message = self._store.message(job_id)
        if message:
            self._publish(job_id, message, 0, stale_at, republished)

    def _publish(
        self, job_id: JobId, message: str, claim: int, stale_at: float, republished: int = 0
    ) -> None:
        try:
            self._publisher.publish(message, claim=claim)
        except (KombuError, RedisError, OSError) as error:
            # The claim is written and its event with it: the sweep publishes when it goes stale.
            log.warning("publish_failed", job_id=job_id, claim=claim, error=told(error))
            return
        until = schedule.backlog(republished, self._policy, now=self._clock())
        self._store.mark_published(job_id, stale_at=stale_at, until=until)


class RedisHandover(BrokerHandover):
    """Where broker and state share one Redis database: one script claims and pushes."""

    _push = True
