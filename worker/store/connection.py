"""Adapter: a client of the Redis or Valkey that holds the state, and the error that it raises.

Every process opens its client here (``wiring/servers.py``). The client gives up within seconds: a
worker that hangs on a frozen server would keep its slot, and a receiver would answer no webhook.
Text that the provider sends may hold half of a surrogate pair; the client writes it all the same.
"""

import contextlib
import sys
import time
from typing import Any, Final, cast

from hiredis import pack_command
from redis import Redis
from redis.backoff import ExponentialWithJitterBackoff
from redis.connection import Connection, ConnectionPool, HiredisRespSerializer
from redis.exceptions import RedisError
from redis.retry import Retry
from redis.sentinel import Sentinel, SentinelConnectionPool

from worker.core import keys
from worker.core.redis_url import UNLIMITED, client_url, is_sentinel, read

StoreUnavailable: Final = RedisError
"""The error of every method if Redis is away or will not write: out of memory, read-only."""


_HALVES: Final = "backslashreplace"
"""JSON may hold half of a surrogate pair, which UTF-8 cannot encode."""


class _Packer(HiredisRespSerializer):
    """Lets hiredis encode, in C; text that it cannot encode, it gets encoded.

    hiredis knows no ``encoding_errors``. redis-py looks at each argument in Python before it.
    """

    def pack(self, *args: Any) -> Any:
        # redis-py splits a command of two words, and says which argument has a wrong type.
        if " " not in args[0]:
            with contextlib.suppress(UnicodeEncodeError, TypeError):
                return [pack_command(args)]
        encoded: Any = [arg.encode(errors=_HALVES) if isinstance(arg, str) else arg for arg in args]
        return super().pack(*encoded)


class _Pool(ConnectionPool):
    """Hands out a connection that was in use a moment ago without asking the system about it.

    redis-py asks each time whether the server has hung up, and counts what it does for metrics that
    nobody here collects: a quarter of the CPU of a command, and under load a change of threads.
    A server that hung up within ``_MOMENT_SECONDS`` is not back yet, so asking would not help.
    """

    def get_connection(self, *args: Any, **options: Any) -> Connection:
        self._checkpid()
        with self._lock:
            if self._available_connections and _is_fresh(self._available_connections[-1]):
                connection: Connection = self._available_connections.pop()
                self._in_use_connections.add(connection)
                return connection
        return super().get_connection(*args, **options)

    def release(self, connection: Any) -> None:
        self._checkpid()
        with self._lock:
            # What must be dropped or reconnected (from redis-py 7 on) is redis-py's business.
            is_ours = connection in self._in_use_connections and self.owns_connection(connection)
            if is_ours and not getattr(connection, "_should_reconnect", False):
                error = sys.exc_info()[1]
                if error and not isinstance(error, RedisError):
                    # A time limit interrupts a command anywhere, perhaps before its answer is read.
                    # The next command on this connection would take that answer for its own.
                    connection.disconnect()
                self._in_use_connections.remove(connection)
                self._available_connections.append(connection)
                return
        super().release(connection)


class _PoolOfMaster(_Pool, SentinelConnectionPool):
    """The same for connections to the master that a Sentinel names."""


_MOMENT_SECONDS: Final = 0.05
"""As good as no server restarts, or fails over, in so short a time."""


def _is_fresh(connection: Any) -> bool:
    """Say whether the server answered on this connection a moment ago, and it is still open."""
    # redis-py notes when the next PING is due, counted from the last answer.
    answered_at = connection.next_health_check - connection.health_check_interval
    return connection._sock is not None and time.monotonic() - answered_at < _MOMENT_SECONDS


def connect(url: str, *, timeout_seconds: float = 5, retries: int = 2) -> "Redis":
    """Open a client that gives up: no call blocks longer than its timeouts and retries.

    Raises ValueError if the URL cannot be read.
    """
    timeouts = {
        "socket_timeout": timeout_seconds,
        "socket_connect_timeout": min(timeout_seconds, 2),
    }
    options: dict[str, Any] = {
        "decode_responses": True,
        "encoding_errors": _HALVES,
        "command_packer": _Packer(),
        "health_check_interval": 30,
        "max_connections": UNLIMITED,
        "retry": Retry(ExponentialWithJitterBackoff(base=0.05, cap=0.5), retries),
        **timeouts,
    }
    if not is_sentinel(url):
        return Redis.from_pool(_Pool.from_url(client_url(url), **options))
    address = read(url)
    # ``options`` are for the master. A sentinel has credentials of its own, and must fail fast too.
    sentinel: Any = Sentinel(  # type: ignore[no-untyped-call]
        address.hosts, sentinel_kwargs=timeouts | dict(address.sentinel_credentials)
    )
    if address.health_check_seconds is not None:
        options["health_check_interval"] = address.health_check_seconds
    credentials = {"username": address.username or None, "password": address.password or None}
    master = sentinel.master_for(
        address.service,
        connection_pool_class=_PoolOfMaster,
        db=address.database,
        **credentials,
        **options,
    )
    return cast("Redis", master)


def check(redis: "Redis") -> None:
    """Raise StoreUnavailable if the server would not write; nothing is written."""
    # XX: nobody creates this key, so nothing is written. A server that is full or read-only refuses
    # the command all the same.
    redis.set(keys.HEALTH, "ok", xx=True, keepttl=True)
