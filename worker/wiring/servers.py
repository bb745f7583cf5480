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
"""If RabbitMQ is silent for two of these, a worker closes the connection and opens a new one."""

REDELIVERY_SECONDS: Final = 5
"""How often a worker looks for messages that were not acknowledged in time."""


def open_redis(settings: Settings) -> Redis:
    """Open a client of the state's server; connects on first use."""
    return connection.connect(settings.redis_url, timeout_seconds=settings.redis_timeout_seconds)


def open_readings(settings: Settings) -> Readings:
    """Open the reader of records; connects on first use."""
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
        # Without confirms, a publish to a broker that has just died would count as done. The wait
        # for the confirmation ends at the read timeout.
        return {
            "confirm_publish": True,
            "read_timeout": timeouts["socket_timeout"],
            "write_timeout": timeouts["socket_timeout"],
        }
    return {
        "visibility_timeout": settings.visibility_seconds,
        "unacked_restore_interval": REDELIVERY_SECONDS,
        "unacked_restore_throttle": 1,
        # One worker at a time looks for messages to redeliver. If it is killed meanwhile, its mutex
        # keeps all others out until it expires.
        "unacked_mutex_expire": 2 * REDELIVERY_SECONDS,
        **timeouts,
        "socket_keepalive": True,
        # A retry after a timeout would keep a caller waiting longer for a frozen server.
        "retry_on_timeout": False,
        **redis_url.celery_options(settings.broker_url, timeouts=timeouts),
    }
