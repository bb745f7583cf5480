"""The URLs of Redis: one dictionary between ours and those of redis-py, kombu and Celery.

``redis://``, ``rediss://`` and ``unix://`` mean the same to all of them. Redis with Sentinel has
one form here, of which Celery wants the addresses as a URL and the rest as options::

    redis+sentinel://[user:password@]host1:26379,host2:26379/service/0[?sentinel_password=…]
"""

from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import parse_qsl, unquote

SENTINEL: Final = "redis+sentinel"
_DEFAULT_PORT: Final = 26379
_OPTIONS: Final = {"sentinel_username": "username", "sentinel_password": "password"}


@dataclass(frozen=True, slots=True)
class SentinelURL:
    """The parts of a ``redis+sentinel://`` URL."""

    sentinels: tuple[tuple[str, int], ...]
    service: str
    database: int
    credentials: dict[str, str] = field(repr=False)
    """Of Redis itself: ``username`` and ``password``, as far as they are given."""
    sentinel_credentials: dict[str, str] = field(repr=False)


def is_sentinel(url: str) -> bool:
    return url.startswith(f"{SENTINEL}://")


def parse_sentinel(url: str) -> SentinelURL:
    """Take a ``redis+sentinel://`` URL apart.

    Raises ValueError that says what is wrong, and repeats no secret.
    """
    rest, _, query = url.removeprefix(f"{SENTINEL}://").partition("?")
    place, _, path = rest.partition("/")
    userinfo, _, hosts = place.rpartition("@")
    service, _, database = path.partition("/")
    options = dict(parse_qsl(query))
    if not (all(hosts.split(",")) and service and set(options) <= set(_OPTIONS)):
        raise ValueError(f"Must look like {SENTINEL}://host1:26379,host2:26379/service/0.")
    if not (database or "0").isdecimal():
        raise ValueError("The database, after the service's name, must be a number.")
    return SentinelURL(
        sentinels=tuple(_address(host) for host in hosts.split(",")),
        service=unquote(service),
        database=int(database or 0),
        credentials=_credentials(userinfo),
        sentinel_credentials={_OPTIONS[name]: value for name, value in options.items()},
    )


def _address(host: str) -> tuple[str, int]:
    name, colon, port = host.rpartition(":")
    if not colon:
        return host, _DEFAULT_PORT
    if not (name and port.isdecimal() and 0 < int(port) < 65536):
        raise ValueError("A port must be a number, and a password percent-encoded.")
    return name, int(port)


def _credentials(userinfo: str) -> dict[str, str]:
    username, _, password = userinfo.partition(":")
    given = {"username": unquote(username), "password": unquote(password)}
    return {name: value for name, value in given.items() if value}


def celery_url(url: str) -> str:
    """Write a URL as Celery and kombu take it."""
    if not is_sentinel(url):
        return url
    parts = parse_sentinel(url)
    userinfo, at, _ = url.removeprefix(f"{SENTINEL}://").partition("?")[0].rpartition("@")
    return ";".join(
        f"sentinel://{userinfo}{at}{host}:{port}/{parts.database}" for host, port in parts.sentinels
    )


def celery_options(url: str, *, timeouts: dict[str, float]) -> dict[str, Any]:
    """Return the transport options that go with :func:`celery_url`.

    Args:
        timeouts: ``socket_timeout`` and ``socket_connect_timeout`` for the sentinels.
    """
    if not is_sentinel(url):
        return {}
    parts = parse_sentinel(url)
    return {
        "master_name": parts.service,
        "sentinel_kwargs": timeouts | parts.sentinel_credentials,
    }
