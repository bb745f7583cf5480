"""Reads the URLs of Redis once, strictly, and writes them again as redis-py or Celery takes them.

redis-py, kombu and Celery's result backend each read a URL in their own way. ``redis://host/abc``
is database 0 to one of them, and an error to the others. ``?ssl_cert_reqs=CERT_REQUIRED`` and
``?health_check_interval=30`` are options to one, and to another an error at every connection: a
worker then tries for ever. So this module refuses every URL that one of them would refuse or
misread, and writes the others for each library in that library's form. These forms are read:

    redis://[user:password@]host[:6379][/0]
    rediss://…[?ssl_cert_reqs=required&ssl_ca_certs=/path…]        TLS
    unix://[user:password@]/path/of/its/socket[?db=0]              or, in Celery's words,
    redis+socket://[user:password@]/path/of/its/socket[?virtual_host=0]
    redis+sentinel://[user:password@]host1:26379,host2:26379/service[/0][?sentinel_password=…]

``?db=0`` may stand for ``/0``; ``?health_check_interval=`` takes seconds.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

SENTINEL: Final = "redis+sentinel"
_SOCKETS: Final = ("unix", "redis+socket")
SCHEMES: Final = ("redis", "rediss", *_SOCKETS, SENTINEL)
_PORTS: Final = {SENTINEL: 26379}

_DATABASE: Final = ("db", "virtual_host")  # redis-py's word, and kombu's
_HEALTH: Final = "health_check_interval"
_TLS: Final = (
    "ssl_cert_reqs", "ssl_check_hostname", "ssl_ca_certs", "ssl_ca_path", "ssl_certfile",
    "ssl_keyfile", "ssl_password", "ssl_ciphers",
)  # fmt: skip
UNLIMITED: Final = 2**31 - 1
"""``max_connections``: each thread uses one at most. By default redis-py 8 refuses the 101st."""

TLS_FILES: Final = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
_SENTINELS_OWN: Final = {"sentinel_username": "username", "sentinel_password": "password"}
_OURS: Final = dict.fromkeys(
    ("socket_timeout", "socket_connect_timeout", "timeout"), "FERMATA_REDIS_TIMEOUT_SECONDS"
)

_ENCODE: Final = (
    "special characters in a user's name or password must be percent-encoded (%2F for /)"
)


@dataclass(frozen=True, slots=True)
class Address:
    """The parts of a URL: the place of a Redis, its database, and its credentials."""

    hosts: tuple[tuple[str, int], ...] = ()
    """The server's own host; or the hosts of its sentinels, if there is a service."""
    path: str = ""
    service: str = ""
    database: int = 0
    username: str = ""
    password: str = field(default="", repr=False)
    sentinel_credentials: Mapping[str, str] = field(default_factory=dict, repr=False)
    tls: Mapping[str, str] | None = field(default=None, repr=False)
    health_check_seconds: int | None = None

    @property
    def server(self) -> tuple[object, ...]:
        """The part that all URLs of one server have in common."""
        return frozenset(self.hosts), self.path, self.service


def is_redis(url: str) -> bool:
    return url.partition("://")[0] in SCHEMES


def is_sentinel(url: str) -> bool:
    return url.startswith(f"{SENTINEL}://")


def read(url: str) -> Address:
    """Take a URL apart.

    Raises ValueError that says what is wrong and what to write, and repeats no secret.
    """
    scheme, _, rest = url.partition("://")
    check_credentials(url)
    rest, _, query = rest.partition("?")
    place, slash, path = rest.partition("/")
    userinfo, _, hosts = place.rpartition("@")
    username, _, password = map(unquote, userinfo.partition(":"))
    options = _options(query)
    common: dict[str, Any] = {
        "username": username,
        "password": password,
        "health_check_seconds": _seconds(options.pop(_HEALTH, None)),
    }
    if scheme == SENTINEL:
        return _read_sentinel(hosts, path, options, common)
    tls = _read_tls(options) if scheme == "rediss" else None
    if scheme in _SOCKETS:
        if hosts or not path:
            raise ValueError("Must look like unix:///path/of/its/socket?db=0.")
        return Address(path=slash + unquote(path), database=_database("", options), **common)
    if "," in hosts:
        raise ValueError(f"Must name one host; with Sentinel, begin it with {SENTINEL}://.")
    database = _database(path, options)
    return Address((_host(hosts, 6379),), database=database, tls=tls, **common)


def _read_sentinel(
    hosts: str, path: str, options: dict[str, str], common: dict[str, Any]
) -> Address:
    service, _, database = path.partition("/")
    own = {_SENTINELS_OWN[name]: options.pop(name) for name in set(options) & set(_SENTINELS_OWN)}
    if not (all(hosts.split(",")) and service):
        raise ValueError(f"Must look like {SENTINEL}://host1:26379,host2:26379/service/0.")
    return Address(
        tuple(_host(host, _PORTS[SENTINEL]) for host in hosts.split(",")),
        service=unquote(service),
        database=_database(database, options),
        sentinel_credentials=own,
        **common,
    )


def check_characters(url: str) -> None:
    """Raise ValueError if two readers could read a URL differently."""
    if any(char.isspace() or not char.isprintable() for char in url):
        raise ValueError("Holds a space or a control character: write %20 for a space.")
    if "#" in url:
        raise ValueError("Holds a #, which ends a URL: write %23 for it.")


def check_credentials(url: str) -> None:
    """Raise ValueError if a part of a password would be read as another part of the URL."""
    check_characters(url)
    # An @ after the first / or ? ends a password that holds one of these two as it stands.
    place = re.split(r"[/?]", url.partition("://")[2])[0]
    if "@" in url.partition("://")[2].removeprefix(place):
        raise ValueError(f"Holds an @ after the host; {_ENCODE}.")


def read_host(place: str) -> tuple[str, int | None]:
    """Read a host and, if there is one, its port. Raises ValueError."""
    try:
        parts = urlsplit(f"//{place}")
        host, port = unquote(parts.hostname or ""), parts.port
        host.encode("idna")  # as the resolver does
    except ValueError:
        raise ValueError(
            f"A port must be a number, an IPv6 address stand in [], and {_ENCODE}."
        ) from None
    if port == 0 or not re.fullmatch(r"[\w.:%-]*", host) or "/" in host:
        raise ValueError("A host must be a name or an address, and a port from 1 to 65535.")
    return host, port


def _host(place: str, default_port: int) -> tuple[str, int]:
    host, port = read_host(place)
    if port is not None and not host:
        raise ValueError("Must name a host before the port.")
    return host or "localhost", port or default_port


def _options(query: str) -> dict[str, str]:
    pairs = parse_qsl(query, keep_blank_values=True)
    options = dict(pairs)
    if len(options) < len(pairs):
        raise ValueError("Names a parameter twice.")
    return options


def _database(path: str, options: dict[str, str]) -> int:
    """Read the database, from the path or from the one parameter that may be left."""
    named = [options.pop(name) for name in _DATABASE if name in options]
    _refuse(options)
    if slashed := unquote(path).strip("/"):
        named.append(slashed)
    if not all(re.fullmatch(r"[0-9]{1,9}", name) for name in named):
        raise ValueError("The database, after the slash or after db=, must be a number.")
    if len({int(name) for name in named}) > 1:
        raise ValueError("Names two databases: leave out the db= or the number after the slash.")
    return int(named[0]) if named else 0


def _refuse(options: Mapping[str, str]) -> None:
    for name in options:
        if name in _OURS:
            raise ValueError(f"Leave out {name}: {_OURS[name]} says how long to wait.")
        if name in _TLS:
            raise ValueError(f"{name} is about TLS: begin the URL with rediss://, or leave it out.")
        if name in _SENTINELS_OWN:
            raise ValueError(f"{name} goes with {SENTINEL}:// alone.")
        shown = name if name.isidentifier() and options[name] else "a parameter"
        raise ValueError(
            f"Leave out {shown}: not everyone who gets this URL takes it. All take db, {_HEALTH}, "
            f"and with rediss:// {', '.join(_TLS)}."
        )


def _seconds(value: str | None) -> int | None:
    if value is not None and not re.fullmatch(r"[0-9]{1,6}", value):
        raise ValueError(f"{_HEALTH} must be a number of seconds.")
    return None if value is None else int(value)


def _read_tls(options: dict[str, str]) -> dict[str, str]:
    """Take the parameters of TLS out, in spellings that all three libraries read alike."""
    tls: dict[str, str] = {name: options.pop(name) for name in _TLS if name in options}
    for name, value in tls.items():
        if not value or (name in TLS_FILES and "%" in value):  # Celery decodes a path twice
            raise ValueError(f"{name} must not be empty, nor a path with a % in its name.")
    wanted = tls.get("ssl_cert_reqs", "required").lower().removeprefix("cert_")
    if wanted not in {"required", "optional", "none"}:
        raise ValueError("ssl_cert_reqs must be required, optional or none.")
    # Always written, although it is redis-py's default: without it kombu checks no certificate.
    tls["ssl_cert_reqs"] = wanted
    if checked := tls.get("ssl_check_hostname"):
        if checked.lower() not in {"true", "false", "1", "0", "yes", "no"}:
            raise ValueError("ssl_check_hostname must be true or false.")
        tls["ssl_check_hostname"] = str(checked.lower() in {"true", "1", "yes"}).lower()
    return tls


# -- written again ----------------------------------------------------------------------------


def client_url(url: str) -> str:
    """Write the URL of a single server as redis-py takes it. Raises ValueError."""
    address = read(url)
    options: dict[str, Any] = dict(address.tls or {})
    if address.health_check_seconds is not None:
        options[_HEALTH] = address.health_check_seconds
    if address.path:
        return _write(
            "unix", _userinfo(address), quote(address.path), options | {"db": address.database}
        )
    return _network_url(address, options)


def celery_url(url: str) -> str:
    """Write a URL as kombu and Celery take it. One of another server than Redis stays as it is.

    Raises ValueError.
    """
    if not is_redis(url):
        return url
    address = read(url)
    if address.path:
        number = {"virtual_host": address.database}
        return _write("redis+socket", _userinfo(address), quote(address.path), number)
    if not address.service:
        return _network_url(address, address.tls or {})
    # kombu takes one URL for each sentinel; the service's name goes by celery_options.
    return ";".join(
        _write("sentinel", _userinfo(address) + _netloc(*host), f"/{address.database}", {})
        for host in address.hosts
    )


def _network_url(address: Address, options: Mapping[str, Any]) -> str:
    scheme = "redis" if address.tls is None else "rediss"
    place = _userinfo(address) + _netloc(*address.hosts[0])
    return _write(scheme, place, f"/{address.database}", options)


def _write(scheme: str, place: str, path: str, options: Mapping[str, Any]) -> str:
    query = f"?{urlencode(options)}" if options else ""
    return f"{scheme}://{place}{path}{query}"


def _userinfo(address: Address) -> str:
    name, word = quote(address.username, safe=""), quote(address.password, safe="")
    return f"{name}{f':{word}' if word else ''}@" if name or word else ""


def _netloc(host: str, port: int) -> str:
    quoted = quote(host, safe=":")
    return f"[{quoted}]:{port}" if ":" in host else f"{quoted}:{port}"


def celery_options(url: str, *, timeouts: dict[str, float]) -> dict[str, Any]:
    """Return the transport options that go with :func:`celery_url`.

    Args:
        timeouts: ``socket_timeout`` and ``socket_connect_timeout`` for the sentinels.
    """
    if not is_redis(url):
        return {}
    address = read(url)
    options: dict[str, Any] = {}
    if address.health_check_seconds is not None:
        options[_HEALTH] = address.health_check_seconds
    if address.service:
        options["master_name"] = address.service
        options["sentinel_kwargs"] = timeouts | dict(address.sentinel_credentials)
    return options
