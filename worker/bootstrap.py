"""Put the parts together, once per process, on first use: nothing is opened before a fork."""

import functools
import os
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from celery import Celery
from redis import Redis

from worker import store
from worker.admission import Admissions, Gate, Treasury
from worker.cancellation import Cancellations
from worker.client import HTTPProvider
from worker.core.contract import QUEUE
from worker.handover import (
    PUBLISH_RETRIES,
    BrokerHandover,
    Handover,
    Publisher,
    RedisHandover,
)
from worker.jobs import Callbacks, Jobs
from worker.recording import Recorder, RecordingAMQP
from worker.settings import Role, Settings, load
from worker.store import Store
from worker.sweep import Sweep


@dataclass(frozen=True, slots=True)
class Parts:
    """What a worker process works with."""

    settings: Settings
    store: Store
    handover: Handover
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
    client = connect(settings)
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
    handover = open_handover(settings, state)
    return Parts(
        settings=settings,
        store=state,
        handover=handover,
        jobs=Jobs(callbacks=callbacks, gate=gate, **common),
        sweep=Sweep(handover=handover, **common),
        gate=gate,
        admissions=Admissions(gate, handover, time.time),
        treasury=Treasury(gate, provider, settings.credits_every_seconds),
        cancellations=Cancellations(state, handover, time.time),
    )


def open_store(settings: Settings) -> Store:
    """Open the records; connects on first use."""
    return Store(connect(settings))


def connect(settings: Settings) -> "Redis":
    """Open a client of the state's server; connects on first use."""
    return store.connect(settings.redis_url, timeout_seconds=settings.redis_timeout_seconds)


def open_producer(settings: Settings) -> Celery:
    """Open a Celery client that only publishes: it knows no task and waits for no result."""
    app = Celery(
        "fermata-producer",
        broker=settings.broker_url,
        set_as_current=False,
        amqp=recording(lambda: open_recorder(settings)),
    )
    app.conf.update(
        broker_transport_options=broker_options(settings),
        broker_connection_timeout=settings.redis_timeout_seconds,
        task_default_queue=QUEUE,
        task_publish_retry_policy=PUBLISH_RETRIES,
    )
    return app


def open_handover(settings: Settings, state: Store) -> Handover:
    """Open the hand-over that fits: one script where broker and state share a database."""
    publisher = Publisher(
        settings.broker_url, broker_options(settings), settings.redis_timeout_seconds
    )
    adapter = RedisHandover if settings.one_database else BrokerHandover
    return adapter(state, publisher, time.time, settings.policy)


def recording(recorder: Callable[[], Recorder]) -> Any:
    """Return what a Celery application publishes with: it writes a job's record first.

    Args:
        recorder: opens what writes; called once in each process, for no connection survives
            a fork.
    """
    in_process = functools.lru_cache(maxsize=1)(lambda _pid: recorder())
    return functools.partial(RecordingAMQP, recorder=lambda: in_process(os.getpid()))


def open_recorder(settings: Settings) -> Recorder:
    """Open what records a job before its message is published."""
    return Recorder(open_store(settings), settings.policy, time.time)


def broker_options(settings: Settings) -> dict[str, Any]:
    """Return kombu's transport options: a dead broker is an error in seconds, not a hang."""
    scheme = settings.broker_url.partition("://")[0]
    if scheme in {"amqp", "amqps", "pyamqp"}:
        return {"confirm_publish": True}
    return {
        "visibility_timeout": settings.visibility_seconds,
        "socket_timeout": settings.redis_timeout_seconds,
        "socket_connect_timeout": min(settings.redis_timeout_seconds, 2),
        "socket_keepalive": True,
        "retry_on_timeout": False,
    }
