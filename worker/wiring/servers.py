"""Clients and options of Redis and the broker, as the settings have them."""

from typing import Any, Final

from redis import Redis

from worker.core import redis_url
from worker.settings import Settings
from worker.store import connection
from worker.store.readings import Readings

CONNECT_SECONDS: Final = 2
"""How long opening a connection to Redis or the broker may take at most."""

AMQP_HEARTBEAT_SECONDS: Final = 20
"""Two of these without a word, and a worker leaves its RabbitMQ and looks for it again."""

REDELIVERY_SECONDS: Final = 5
"""How often a worker looks for messages that nobody acknowledged in time."""


def open_redis(settings: Settings) -> Redis:
    """Open a client of the state's server; connects on first use."""
    return connection.connect(settings.redis_url, timeout_seconds=settings.redis_timeout_seconds)


def open_readings(settings: Settings) -> Readings:
    """Open what reads the records; connects on first use."""
    return Readings(open_redis(settings))


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
