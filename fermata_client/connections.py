"""The two servers that the client uses: a broker to publish to, and the records in Redis.

It connects to each only when it is used, and no call waits longer than its timeout.
"""

import contextlib
import os
from collections.abc import Iterator, Sequence
from typing import Any, Final, cast

from celery import Celery
from kombu.exceptions import KombuError, SerializationError
from redis import Redis, exceptions
from redis.backoff import EqualJitterBackoff
from redis.retry import Retry

from fermata_client.contract import CANCELLATION_SECONDS, CANCELLED_BY, FIELDS, QUEUE, RECORDS
from fermata_client.errors import Unavailable, WrongCall
from fermata_client.status import Status, read_status

_RETRIES: Final = {
    "max_retries": 2,
    "interval_start": 0.05,
    "interval_step": 0.2,
    "interval_max": 0.5,
}

_UNLIMITED: Final = 2**31 - 1  # connections: by default redis-py 8 refuses the 101st thread

# Closes the race with a worker that is just beginning the job: either its record is here first, and
# we return its state, or the mark is, and the worker sees the mark.
_BAR: Final = f"""
local state = redis.call('HGET', KEYS[1], 'state')
if state then return state end
redis.call('HSET', KEYS[1], '{CANCELLED_BY}', ARGV[1])
redis.call('EXPIRE', KEYS[1], {CANCELLATION_SECONDS})
return nil
"""


@contextlib.contextmanager
def reachable(what: str) -> Iterator[None]:
    """Raise Unavailable for each error by which a library says that its server is away.

    Raises WrongCall for a value that cannot be sent at all.
    """
    try:
        yield
    except SerializationError as error:
        raise WrongCall(f"a message is JSON: {error}") from error
    # Celery raises a bare RuntimeError if the result backend of the backend's own app is away.
    except (KombuError, exceptions.RedisError, OSError, RuntimeError) as error:
        raise Unavailable(f"{what} cannot be reached: {error}") from error


def open_app(broker_url: str, result_backend: str | None, timeout_seconds: float) -> Celery:
    """Open a Celery client whose calls all end in time."""
    app = Celery("fermata-client", set_as_current=False)
    # CELERY_BROKER_URL and CELERY_RESULT_BACKEND belong to the backend's own Celery. They win over
    # the arguments of Celery's constructor, but not over these settings.
    app.backend_cls = result_backend
    app.conf.update(
        broker_read_url=broker_url,
        broker_write_url=broker_url,
        broker_transport_options=_transport_options(broker_url, timeout_seconds),
        broker_connection_timeout=timeout_seconds,
        redis_socket_timeout=timeout_seconds,
        redis_socket_connect_timeout=min(timeout_seconds, 2),
        redis_max_connections=_UNLIMITED,
        task_default_queue=QUEUE,
        task_publish_retry_policy=_RETRIES,
    )
    return app


def _transport_options(broker_url: str, timeout_seconds: float) -> dict[str, Any]:
    # The name shows in the broker's list of clients. kombu shares connections whose options are
    # equal. The process id in the name keeps a forked child from its parent's connections.
    name = f"fermata-client-{os.getpid()}"
    if broker_url.partition("://")[0] in {"amqp", "amqps", "pyamqp"}:
        return {
            "confirm_publish": True,
            "client_properties": {"connection_name": name},
            "read_timeout": timeout_seconds,
            "write_timeout": timeout_seconds,
        }
    return {
        "client_name": name,
        "socket_timeout": timeout_seconds,
        "socket_connect_timeout": min(timeout_seconds, 2),
        "socket_keepalive": True,
        "retry_on_timeout": False,
    }


def records_url(broker_url: object) -> str:
    """Return the Redis of the records if the caller names none: it is the broker.

    Raises WrongCall if the broker is not a Redis.
    """
    if isinstance(broker_url, str) and broker_url.startswith(("redis://", "rediss://")):
        return broker_url
    raise WrongCall("the broker is no Redis: name the one of the jobs' records with redis_url=…")


class Records:
    """The jobs' records. They are Fermata's: the client reads them, and writes one mark only."""

    def __init__(self, url: str, timeout_seconds: float) -> None:
        self._redis = Redis.from_url(
            url,
            decode_responses=True,
            socket_timeout=timeout_seconds,
            socket_connect_timeout=min(timeout_seconds, 2),
            health_check_interval=30,
            max_connections=_UNLIMITED,
            retry=Retry(EqualJitterBackoff(cap=0.5, base=0.05), 2),
            # redis-py 5 retries only the errors that are named here.
            retry_on_error=[exceptions.ConnectionError, exceptions.TimeoutError],
        )
        self._bar = self._redis.register_script(_BAR)

    def close(self) -> None:
        """Close the connections to Redis."""
        self._redis.close()

    def read(self, job_ids: Sequence[str]) -> list[Status]:
        """Read how jobs stand, in one round trip. Raises Unavailable."""
        with reachable("Redis"), self._redis.pipeline(transaction=False) as pipe:
            for job_id in job_ids:
                pipe.hmget(RECORDS + job_id, list(FIELDS))
            found = cast("list[list[str | None]]", pipe.execute())
        return [read_status(job_id, stored) for job_id, stored in zip(job_ids, found, strict=True)]

    def bar(self, job_id: str, by: str) -> bool:
        """Keep a job that has no record from ever beginning; False if it has one.

        Raises Unavailable.
        """
        with reachable("Redis"):
            return self._bar(keys=[RECORDS + job_id], args=[by]) is None
