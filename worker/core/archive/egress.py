"""Which addresses a call to a URL that somebody named may go to: listed hosts, at public addresses.

A link comes from the provider's answer, so a stranger may have written it. It must not make a
worker call the services that stand behind our own firewall. The same holds for the URL that is told
when a flow has ended.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final
from urllib.parse import SplitResult, urljoin, urlsplit

from worker.core.errors import CallFailed

PROVIDER_HOSTS: Final = (
    "suno.ai",
    "musicapi.ai",
    "aimusicapi.ai",
    "sunoapi.com",
    "musicapi-cdn.b-cdn.net",
    "storage.googleapis.com",
)
"""Where the provider keeps files (provider-api.md §4.1, provider-api-2.md §8)."""

_PORTS: Final[Mapping[str, int]] = {"http": 80, "https": 443}

# These are routed, but not to a public host. Python's own tables differ on them by version.
_RELAYS: Final = (IPv4Network("192.0.0.0/24"), IPv4Network("192.88.99.0/24"))
# Refused inside the assigned range: IPv6 addresses that carry an IPv4 address (Teredo, 6to4), and
# those for documentation. NAT64 and IPv4-mapped addresses lie outside that range.
_ASSIGNED: Final = IPv6Network("2000::/3")
_CARRIERS: Final = tuple(map(IPv6Network, ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")))


@dataclass(frozen=True, slots=True)
class Origin:
    """Scheme, host and port of a URL; ``target`` is the rest of it, as HTTP sends it."""

    scheme: str
    host: str
    port: int
    target: str = field(default="/", repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Egress:
    """The rule: https to one of these hosts (or below it), at a public address.

    Args:
        hosts: host names in lower case
        inner: origins that the operator trusts although they are inside, such as a simulator on
            this very machine. They alone may be plain http, or at another port; they must be at a
            loopback address, or at the very address that they name.
        setting: the setting that lists the hosts, for people
    """

    hosts: tuple[str, ...]
    inner: tuple[Origin, ...] = ()
    setting: str = "FERMATA_ARCHIVE_HOSTS"

    def admit(self, url: str) -> Origin:
        """Read a URL. Raises CallFailed, with the reason, if it may not be fetched."""
        origin = read_origin(url)
        if origin in self.inner:
            return origin
        if origin.scheme != "https" or origin.port != _PORTS["https"]:
            raise CallFailed(f"refused {shown(url)}: only https on its own port is called")
        if not any(origin.host == host or origin.host.endswith(f".{host}") for host in self.hosts):
            raise CallFailed(f"refused {shown(url)}: {self.setting} does not name its host")
        return origin

    def judge(self, origin: Origin, address: str) -> None:
        """Judge an address of a host. Raises CallFailed if nobody may be called there."""
        # A name of this machine may have several addresses; an address stands for itself.
        if origin in self.inner:
            allowed = is_loopback(address) or address == origin.host
        else:
            allowed = is_public(address)
        if not allowed:
            raise CallFailed(f"refused {origin.host}: its address {address} is not one to call")


def read_origin(url: str) -> Origin:
    """Take a URL apart. Raises CallFailed if two readers could read two hosts from it."""
    if not url.isascii() or any(not char.isprintable() or char in " \\" for char in url):
        raise CallFailed("refused a link: it holds characters that no URL has")
    try:
        parts = urlsplit(url)
        port = _PORTS.get(parts.scheme) if parts.port is None else parts.port
    except ValueError:
        raise CallFailed("refused a link: it is no URL") from None
    if parts.scheme not in _PORTS or not parts.hostname or port is None:
        raise CallFailed(f"refused {shown(url)}: only https is called")
    if "@" in parts.netloc:
        raise CallFailed(f"refused {shown(url)}: it names a user")
    host = parts.hostname.removesuffix(".")  # with a dot at its end, it names the same host
    if not all(host.split(".")):
        raise CallFailed(f"refused {shown(url)}: a part of its host's name is empty")
    return Origin(parts.scheme, host, port, _target(parts))


def _target(parts: SplitResult) -> str:
    return (parts.path or "/") + (f"?{parts.query}" if parts.query else "")


def redirected(url: str, location: str) -> str:
    """Return the URL to which a redirect leads."""
    try:
        return urljoin(url, location)
    except ValueError:
        raise CallFailed(f"refused {shown(url)}: it redirects to no URL") from None


def shown(url: str) -> str:
    """Show a link without its query, which may be a signature, and without a user's password."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "a link"
    return f"{parts.netloc.rpartition('@')[2]}{parts.path}" or "a link"


def is_public(address: str) -> bool:
    """Say whether an address (numeric, as a resolver returns it) is a public host's."""
    ip = _read(address)
    if isinstance(ip, IPv4Address):
        return ip.is_global and not (
            ip.is_multicast or ip.is_reserved or any(ip in network for network in _RELAYS)
        )
    return ip is not None and ip in _ASSIGNED and not any(ip in network for network in _CARRIERS)


def is_loopback(address: str) -> bool:
    """Say whether an address is this very machine's."""
    ip = _read(address)
    return ip is not None and ip.is_loopback and not getattr(ip, "ipv4_mapped", None)


def is_address(host: str) -> bool:
    """Say whether a host is an address, and no name."""
    return _read(host) is not None


def is_this_machine(url: str) -> bool:
    """Say whether a URL names this very machine."""
    host = urlsplit(url).hostname or ""
    return host.removesuffix(".") == "localhost" or is_loopback(host)


def _read(address: str) -> IPv4Address | IPv6Address | None:
    try:
        # "%" begins a scope: fe80::1%eth0 is an address of this machine's own network.
        return None if "%" in address else ip_address(address)
    except ValueError:
        return None
