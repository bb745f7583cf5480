"""Put the parts together, once per process, on first use: nothing is opened before a fork."""

import functools
import math
import os
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from celery import Celery
from redis import Redis

from worker import connection, redis_url
from worker.admission import Admissions, Gate, Treasury
from worker.batch import Ledger, Runs
from worker.cancellation import Cancellations
from worker.client import HTTPProvider
from worker.core.checks import longest_deadline
from worker.core.contract import QUEUE
from worker.jobs import Callbacks, Jobs
from worker.journal import Journal
from worker.message import PUBLISH_RETRIES, Publisher, SubmitLegs
from worker.recording import Recorder, RecordingAMQP
from worker.settings import Role, Settings, load
from worker.store import Store
from worker.sweep import Sweep
from worker.timetable import Timetable

CONNECT_SECONDS: Final = 2
"""How long opening a connection to Redis or the broker may take at most."""

AMQP_HEARTBEAT_SECONDS: Final = 20
"""Two of these without a word, and a worker leaves its RabbitMQ and looks for it again."""

REDELIVERY_SECONDS: Final = 5
"""How often a worker looks for messages that nobody acknowledged in time."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What a worker process works with."""

    settings: Settings
    store: Store
    submit_legs: SubmitLegs
    jobs: Jobs
    sweep: Sweep
    gate: Gate
    admissions: Admissions
    treasury: Treasury
    cancellations: Cancellations


def parts() -> Parts:
    """Return this process's parts; a forked child builds its own.

    Raises ConfigError.
    """
    return _parts_of(os.getpid())


@functools.lru_cache(maxsize=1)
def _parts_of(_pid: int) -> Parts:
    settings = load(Role.WORKER)
    client = open_redis(settings)
    state = Store(client)
    gate = Gate(client, settings.limits, settings.policy.held_seconds)
    provider = HTTPProvider(
        settings.provider_url,
        settings.api_key,
        connect_seconds=settings.connect_timeout_seconds,
        total_seconds=settings.policy.submit_timeout_seconds,
    )
    common: dict[str, Any] = {
        "store": state,
        "provider": provider,
        "policy": settings.policy,
        "clock": time.time,
        "jitter": random.random,
    }
    callbacks = Callbacks(settings.public_url, settings.signing_keys[0])
    submit_legs = open_submit_legs(settings, state)
    return Parts(
        settings=settings,
        store=state,
        submit_legs=submit_legs,
        jobs=Jobs(callbacks=callbacks, gate=gate, **common),
        sweep=Sweep(submit_legs=submit_legs, **common),
        gate=gate,
        admissions=Admissions(gate, submit_legs, time.time),
        treasury=Treasury(gate, provider, settings.credits_every_seconds),
        cancellations=Cancellations(state, time.time),
    )


def open_store(settings: Settings) -> Store:
    """Open the records; connects on first use."""
    return Store(open_redis(settings))


def open_redis(settings: Settings) -> "Redis":
    """Open a client of the state's server; connects on first use."""
    return connection.connect(settings.redis_url, timeout_seconds=settings.redis_timeout_seconds)


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


def open_batches(settings: Settings) -> tuple[Ledger, Runs]:
    """Open the batches, and what submits and cancels them."""
    client = open_redis(settings)
    state = Store(client)
    # From the last that began or ended: the next may wait for so long, and nobody hears of it.
    patience = math.ceil(longest_deadline(settings.policy))
    ledger = Ledger(client, retain_seconds=2 * settings.policy.retention_seconds + patience)
    cancellations = Cancellations(state, time.time)
    return ledger, Runs(open_producer(settings), ledger, cancellations, time.time)


def open_timetable(settings: Settings) -> Timetable:
    """Open the timetable; it is read on first use."""
    ledger, runs = open_batches(settings)
    client = open_redis(settings)
    return Timetable(
        path=settings.timetable,
        redis=client,
        journal=Journal(client, time.time),
        ledger=ledger,
        runs=runs,
        clock=time.time,
    )


def open_submit_legs(settings: Settings, state: Store) -> SubmitLegs:
    """Open what publishes submit legs again."""
    publisher = Publisher(
        redis_url.celery_url(settings.broker_url),
        broker_options(settings),
        connect_seconds(settings),
    )
    return SubmitLegs(state, publisher, time.time, settings.policy)


def recording(settings: Callable[[], Settings]) -> Any:
    """Return what a Celery application publishes with: it writes a job's record first.

    Args:
        settings: read once, when something is published. What writes is opened once in each
            process, for no connection survives a fork.
    """
    read = functools.cache(settings)
    in_process = functools.lru_cache(maxsize=1)(lambda _pid: open_recorder(read()))
    return functools.partial(
        RecordingAMQP,
        recorder=lambda: in_process(os.getpid()),
        follow_up_queue=lambda: read().follow_up_queue,
    )


def open_recorder(settings: Settings) -> Recorder:
    """Open what records a job before its message is published."""
    return Recorder(open_store(settings), settings.policy, time.time)


def connect_seconds(settings: Settings) -> float:
    """Return how long opening a connection to Redis or the broker may take."""
    return min(settings.redis_timeout_seconds, CONNECT_SECONDS)


def redis_timeouts(settings: Settings) -> dict[str, float]:
    """Return the timeouts of a Redis connection, in redis-py's words."""
    return {
        "socket_timeout": settings.redis_timeout_seconds,
        "socket_connect_timeout": connect_seconds(settings),
    }


def broker_options(settings: Settings) -> dict[str, Any]:
    """Return kombu's transport options: a dead or frozen broker is an error in seconds."""
    timeouts = redis_timeouts(settings)
    if settings.broker_url.startswith(("amqp", "pyamqp")):
        # A confirmed publish is in the queue; waiting for the confirmation ends at the timeout.
        return {
            "confirm_publish": True,
            "read_timeout": timeouts["socket_timeout"],
            "write_timeout": timeouts["socket_timeout"],
        }
    return {
        "visibility_timeout": settings.visibility_seconds,
        "unacked_restore_interval": REDELIVERY_SECONDS,
        "unacked_restore_throttle": 1,
        # A worker that is killed while it looks for what to redeliver keeps all others from it.
        "unacked_mutex_expire": 2 * REDELIVERY_SECONDS,
        **timeouts,
        "socket_keepalive": True,
        "retry_on_timeout": False,
        **redis_url.celery_options(settings.broker_url, timeouts=timeouts),
    }
