"""A job's own message, as its record keeps it.

``recording`` presses the message before it publishes it: it lets Celery publish to a kombu channel
that keeps the message instead of sending it. If no producer of ours has, the first submit leg of
the task writes the same message from its request. The record keeps the message that kombu would
send. So the engine can publish a submit leg again without task, canvas or result backend, and a
conductor can run the resumed leg from it.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any, Final, cast

import structlog
from celery import Task
from celery.app.task import Context
from kombu import Connection
from kombu.exceptions import KombuError, OperationalError
from kombu.serialization import dumps as serialize
from kombu.transport import memory
from kombu.utils.encoding import str_to_bytes
from kombu.utils.json import dumps
from redis.exceptions import RedisError

from worker import tracing
from worker.core.contract import OURS_HEADER
from worker.core.job import canvas, kept, timing
from worker.core.job.models import JobId, Parked
from worker.core.job.timing import Policy
from worker.core.ports import Clock
from worker.core.wording import told
from worker.store.agenda import Agenda
from worker.store.readings import Readings

log = structlog.get_logger()

PUBLISH_RETRIES: Final = {
    "max_retries": 2,
    "interval_start": 0.05,
    "interval_step": 0.2,
    "interval_max": 0.5,
}
_ENVELOPE: Final = ("body_encoding", "delivery_tag", "delivery_info", "priority", "expiration")
"""Properties that belong to one publish of a message. The ``expires`` header holds for them all."""


class _PressChannel(memory.Channel):
    """Keeps the message of the task that is published, whatever the exchange."""

    pressed: dict[str, Any]

    def basic_publish(
        self, message: dict[str, Any], exchange: str, routing_key: str, **_: Any
    ) -> None:
        # With task_send_sent_event, Celery also publishes an event through the same producer. It
        # has no task header, and would say that a message was sent that nobody has sent yet.
        if "task" in (message["headers"] or {}):
            route = {"exchange": exchange, "routing_key": routing_key}
            message["properties"]["delivery_info"].update(route)
            body = message["body"]
            self.pressed = message | {"body": body.encode() if isinstance(body, str) else body}


class _PressTransport(memory.Transport):
    Channel = _PressChannel


def press(publish: Callable[[Any], Any]) -> dict[str, Any]:
    """Call ``publish`` with a producer that sends nothing; return the task's message.

    Its body is bytes.
    """
    with Connection(transport=_PressTransport) as connection:
        channel = cast(_PressChannel, connection.default_channel)
        with connection.Producer(auto_declare=False) as producer, tracing.unsampled():
            publish(producer)
        return channel.pressed


# In Celery's order, which the dictionary of ``kept`` has too.
_HEADERS: Final = (
    "lang", "task", "id", "shadow", "eta", "expires", "group", "group_index", "retries",
    "timelimit", "root_id", "parent_id", "argsrepr", "kwargsrepr", "origin", "ignore_result",
    "replaced_task_nesting", "stamped_headers", "stamps",
)  # fmt: skip
_CANVAS: Final = ("callbacks", "errbacks", "chain", "chord")
_PERSISTENT: Final = 2


def park(task: Task[..., Any], *, queue: str = "", expires: datetime | None = None) -> Parked:
    """Return the message by which a task runs now: same arguments, canvas and queue.

    It is written from the task's request. To let Celery publish it took five times the CPU.

    Args:
        queue: another queue, in place of the one that the message came by.
        expires: when the message expires in its queue.
    """
    request = task.request
    # ``Context`` has an ignore_result of its own, which says nothing about the message.
    given = vars(Context) | {"ignore_result": None} | vars(request)
    ignored = given["ignore_result"]
    headers = {name: given.get(name) for name in _HEADERS} | {
        "lang": "py",
        "task": task.name,
        "root_id": request.root_id or request.id,
        # It runs now, and for the first time: else Celery delays it, drops it, or counts wrongly.
        "eta": None,
        "expires": expires and expires.isoformat(),
        "retries": 0,
        "ignore_result": task.ignore_result if ignored is None else ignored,
        **(request.headers or {}),
        # The leg that parks writes the record. Without the mark, the recorder would write it too.
        OURS_HEADER: 0,
    }
    embedded = {name: given[name] for name in _CANVAS}
    content_type, content_encoding, body = serialize(
        (request.args, request.kwargs, embedded), serializer=task.serializer
    )
    came_by = request.delivery_info or {}
    message = {
        "body": str_to_bytes(body),
        "content-encoding": content_encoding,
        "content-type": content_type,
        "headers": headers,
        "properties": {
            "correlation_id": request.id,
            "reply_to": request.reply_to or "",
            "delivery_mode": (request.properties or {}).get("delivery_mode", _PERSISTENT),
            "delivery_info": {
                "exchange": "" if queue else came_by.get("exchange"),
                "routing_key": queue or came_by.get("routing_key"),
            },
            "priority": came_by.get("priority") or 0,
        },
    }
    return Parked(pack(message), canvas.place(headers))


def pack(message: Mapping[str, Any]) -> str:
    """Return a pressed message as a record keeps it."""
    head = {name: part for name, part in message.items() if name != "body"}
    return kept.pack(dumps(head, separators=(",", ":")), message["body"])


class Publisher:
    """Publishes pressed messages on any broker. Not fork-safe: one per process."""

    def __init__(self, url: str, transport_options: dict[str, Any], connect_seconds: float) -> None:
        self._connect_seconds = connect_seconds
        self._pool = Connection(
            url, transport_options=transport_options, connect_timeout=connect_seconds
        ).Pool(limit=16)

    def publish(self, message: str, headers: Mapping[str, str] | None = None) -> None:
        """Publish a message that a record keeps, marked as ours.

        Args:
            headers: more headers, which go before those of the message.

        Raises kombu's OperationalError if the broker cannot be reached or has no such queue.
        """
        wire, body = kept.unpack(message)
        properties = wire["properties"]
        route = properties["delivery_info"]
        sent = wire["headers"] | {**(headers or {}), OURS_HEADER: 0}
        others = {name: value for name, value in properties.items() if name not in _ENVELOPE}
        with self._connection() as connection:
            connection.Producer(auto_declare=False).publish(
                body,
                exchange=route["exchange"],
                routing_key=route["routing_key"],
                priority=properties["priority"],
                content_type=wire["content-type"],
                content_encoding=wire["content-encoding"],
                headers=sent,
                # Without it, AMQP drops a message whose queue does not exist, and confirms it.
                mandatory=True,
                retry=True,
                retry_policy=dict(PUBLISH_RETRIES),
                **others,
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
                # AMQP may still answer for this message. On the same connection, the next publish
                # would take that answer for its own.
                connection.collect()
                raise OperationalError(str(error) or repr(error)) from error


class SubmitLegs:
    """Publishes the submit legs of jobs that backed off, passed the gate, or lost their message.

    The sweep and the admission call it from the worker's main process.
    """

    def __init__(
        self,
        readings: Readings,
        agenda: Agenda,
        publisher: Publisher,
        clock: Clock,
        policy: Policy,
    ) -> None:
        self._readings = readings
        self._agenda = agenda
        self._publisher = publisher
        self._clock = clock
        self._policy = policy

    def close(self) -> None:
        """Close the connections to the broker."""
        self._publisher.close()

    def publish(
        self, job_id: JobId, *, stale_at: float, republished: int = 0, was_held: bool = False
    ) -> None:
        """Publish the submit leg of a queued job, whose due time was moved to ``stale_at``.

        If the publish fails, the job comes due again at ``stale_at``.

        Args:
            republished: how often this job's leg was published again before.
            was_held: the gate has just let it pass.
        """
        message = self._readings.message(job_id)
        if not message:
            return
        headers = self._after_hold(job_id) if was_held and tracing.is_on() else {}
        try:
            self._publisher.publish(message, headers)
        except (KombuError, RedisError, OSError) as error:
            log.warning("publish_failed", job_id=job_id, error=told(error))
            return
        until = timing.backlog(republished, self._policy, now=self._clock())
        self._agenda.mark_published(job_id, stale_at=stale_at, until=until)

    def _after_hold(self, job_id: JobId) -> dict[str, str]:
        """Begin a trace for a job that was held for long; returns the headers to go on by."""
        job = self._readings.read_those([job_id])
        since = timing.held_at(job[0].timeline) if job else None
        if since is None or self._clock() - since < tracing.HELD_LONG_SECONDS:
            return {}
        with tracing.root("held", link=job[0].traceparent, since=since, job_id=job_id):
            return tracing.headers_of(tracing.traceparent())
