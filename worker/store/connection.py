"""Adapter: a client of the Redis or Valkey that holds the state, and the error that it raises.

Every process opens its client here (``wiring/servers.py``). The client gives up within seconds: a
worker that hangs on a frozen server would keep its slot, and a receiver would answer no webhook.
Text that the provider sends may hold half of a surrogate pair; the client writes it all the same.
"""

import contextlib
from typing import Any, Final, cast

from hiredis import pack_command
from redis import Redis
from redis.backoff import ExponentialWithJitterBackoff
from redis.connection import HiredisRespSerializer
from redis.exceptions import RedisError
from redis.retry import Retry
from redis.sentinel import Sentinel

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
        return Redis.from_url(client_url(url), **options)
    address = read(url)
    # ``options`` are for the master. A sentinel has credentials of its own, and must fail fast too.
    sentinel: Any = Sentinel(  # type: ignore[no-untyped-call]
        address.hosts, sentinel_kwargs=timeouts | dict(address.sentinel_credentials)
    )
    if address.health_check_seconds is not None:
        options["health_check_interval"] = address.health_check_seconds
    credentials = {"username": address.username or None, "password": address.password or None}
    master = sentinel.master_for(address.service, db=address.database, **credentials, **options)
    return cast("Redis", master)


def check(redis: "Redis") -> None:
    """Raise StoreUnavailable if the server would not write; nothing is written."""
    # XX: nobody creates this key, so nothing is written. A server that is full or read-only refuses
    # the command all the same.
    redis.set(keys.HEALTH, "ok", xx=True, keepttl=True)
