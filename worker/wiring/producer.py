"""The root of a process that publishes: a Celery client that writes a job's record first."""

import functools
import os
import time
from collections.abc import Callable
from typing import Any

from celery import Celery
from kombu.exceptions import OperationalError

from worker.core import redis_url
from worker.core.contract import QUEUE
from worker.messages.press import PUBLISH_RETRIES, Publisher
from worker.messages.recording import Recorder, RecordingAMQP
from worker.messages.retry import Retries
from worker.settings import Settings
from worker.store.connection import StoreUnavailable
from worker.store.readings import Readings
from worker.store.records import Records
from worker.wiring.servers import broker_options, connect_seconds, open_redis


def open_producer(settings: Settings) -> Celery:
    """Open a Celery client that only publishes: it knows no task and waits for no result."""
    app = Celery(
        "fermata-producer",
        set_as_current=False,
        amqp=recording(lambda: settings),
    )
    app.conf.update(
        broker_url=redis_url.celery_url(settings.broker_url),
        broker_transport_options=broker_options(settings),
        broker_connection_timeout=connect_seconds(settings),
        task_default_queue=QUEUE,
        task_publish_retry_policy=PUBLISH_RETRIES,
    )
    return app


def recording(settings: Callable[[], Settings]) -> Any:
    """Return the part of a Celery application that publishes: ours writes a job's record first.

    Args:
        settings: called once, by the first publish, so that an import reads no environment.
    """
    read = functools.cache(settings)
    # One recorder for each process id: a forked child must not share its parent's connections.
    in_process = functools.lru_cache(maxsize=1)(lambda _pid: open_recorder(read()))
    return functools.partial(
        RecordingAMQP,
        recorder=lambda: in_process(os.getpid()),
        follow_up_queue=lambda: read().follow_up_queue,
    )


def open_recorder(settings: Settings) -> Recorder:
    """Open the recorder, which writes a job's record before its message is published."""
    client = open_redis(settings)
    return Recorder(Records(client), Readings(client), settings.policy, time.time)


def open_retries(settings: Settings) -> Retries:
    """Open the use case that runs failed jobs again."""
    client = open_redis(settings)
    return Retries(
        records=Records(client),
        readings=Readings(client),
        recorder=functools.cache(lambda: open_recorder(settings)),
        publisher=Publisher(
            redis_url.celery_url(settings.broker_url),
            broker_options(settings),
            connect_seconds(settings),
        ),
        clock=time.time,
    )


def worker_answers(producer: Celery, node: str, *, seconds: float) -> bool:
    """Say whether a worker answers a ping within so many seconds."""
    try:
        return bool(producer.control.ping(destination=[node], timeout=seconds))
    except (OperationalError, StoreUnavailable, OSError):
        return False
