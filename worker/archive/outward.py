"""Calls a URL that somebody named: allowed hosts only, cut off in time.

Each host name is resolved once, and the call connects to the very address that the egress rule has
judged. So a DNS answer that changes in between changes nothing. TLS still checks the name. The
request goes through no proxy and carries no cookie and no API key.
"""

import contextlib
import http.client
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from worker.core.archive.egress import Egress, Origin, shown
from worker.core.errors import CallFailed

READ_SECONDS: Final = 30
"""How long a server may send nothing."""

Resolve = Callable[[str, int], list[str]]
Connect = Callable[[str, int, float], socket.socket]


def resolve(host: str, port: int) -> list[str]:
    """Ask the system for a host's addresses."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(address[0]) for *_, address in found]


def connect(address: str, port: int, seconds: float) -> socket.socket:
    """Connect to a numeric address, so that no name is resolved again."""
    return socket.create_connection((address, port), seconds)


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Calls URLs. Every failure is a CallFailed; ``retryable`` says if it may pass."""

    egress: Egress
    tls: ssl.SSLContext
    connect_seconds: float
    resolve: Resolve = resolve
    connect: Connect = connect

    @contextlib.contextmanager
    def call(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        give_up: float,
        body: bytes | None = None,
    ) -> Iterator[http.client.HTTPResponse]:
        """Send a request; redirects are not followed.

        Args:
            give_up: the time, on the monotonic clock, at which the call is cut off
        """
        origin = self.egress.admit(url)
        with contextlib.ExitStack() as stack:
            with failures(url, give_up):
                sock = stack.enter_context(self._connected(origin, give_up))
                stack.enter_context(_cut_off(sock, give_up))
                if origin.scheme == "https":
                    sock = self.tls.wrap_socket(sock, server_hostname=origin.host)
                    stack.enter_context(sock)
                # http.client gets a connected socket, so that it neither resolves nor connects. It
                # writes the Host header from the name; a port that is the default is left out.
                connection = http.client.HTTPConnection(origin.host, origin.port)
                connection.default_port = 443 if origin.scheme == "https" else 80
                connection.sock = sock
                connection.request(method, origin.target, body, headers=_HEADERS | {**headers})
                answer = stack.enter_context(connection.getresponse())
            yield answer

    def _connected(self, origin: Origin, give_up: float) -> socket.socket:
        addresses = self.resolve(origin.host, origin.port)
        # One forbidden address refuses the whole name: no honest host mixes public and private.
        for address in addresses:
            self.egress.judge(origin, address)
        unreachable: OSError = ConnectionError()
        for address in addresses:
            seconds = min(self.connect_seconds, max(give_up - time.monotonic(), 0.001))
            try:
                sock = self.connect(address, origin.port, seconds)
            except OSError as error:
                unreachable = error
                continue
            sock.settimeout(READ_SECONDS)
            return sock
        raise unreachable


_HEADERS: Final = {
    "Accept": "*/*",
    "Accept-Encoding": "identity",
    "Connection": "close",
    "User-Agent": "fermata",
}


@contextlib.contextmanager
def _cut_off(sock: socket.socket, give_up: float) -> Iterator[None]:
    """Shut a connection at ``give_up``, whatever it is doing.

    A socket's own timeout starts anew with every byte, so a server that sends a byte now and then
    would hold the call for ever.
    """
    # A second handle on the connection: wrapping it in TLS detaches the first one.
    with sock.dup() as handle:
        timer = threading.Timer(max(give_up - time.monotonic(), 0), _shut, [handle])
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            timer.join()


def _shut(handle: socket.socket) -> None:
    with contextlib.suppress(OSError):
        handle.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def failures(url: str, give_up: float) -> Iterator[None]:
    """Turn an error of the wire into CallFailed, without the library's text: it may quote the URL,
    whose query may be a signature."""
    try:
        yield
    except ssl.SSLCertVerificationError as error:
        raise CallFailed(f"{shown(url)}: its certificate: {error.verify_message}") from None
    except UnicodeError:
        raise CallFailed(f"{shown(url)}: refused a host that cannot be a name") from None
    except (OSError, http.client.HTTPException) as error:
        over = time.monotonic() >= give_up
        why = "the time was over" if over else type(error).__name__
        raise later(f"{shown(url)}: the connection broke off: {why}") from None


def later(why: str) -> CallFailed:
    """Say that the same call may work later."""
    return CallFailed(why, {"retryable": True})
