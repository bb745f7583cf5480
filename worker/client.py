"""Adapter: the provider over HTTP, with requests."""

import contextlib
import socket
import ssl
import threading
import time
from typing import Any, Final, Protocol

import requests
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    NameResolutionError,
    NewConnectionError,
)

from worker.core.errors import FermataError
from worker.core.models import Answer, Request

ANSWER_LIMIT_BYTES = 16 * 1024 * 1024
POLL_SECONDS = 10
"""A poll that takes longer is asked again later; the others of its sweep wait for it."""

_NEVER_OPENED = (NewConnectionError, ConnectTimeoutError, NameResolutionError)


class NeverSent(FermataError):
    """The connection never opened, so the provider certainly does not know the request."""


class AnswerLost(FermataError):
    """The request may have reached the provider; its answer did not reach us."""


class Provider(Protocol):
    """The port to the provider."""

    def send(self, request: Request) -> Answer:
        """Send one request, once.

        Raises NeverSent, AnswerLost.
        """


class HTTPProvider:
    """The provider's API over HTTPS. Redirects are not followed, and nothing is retried here.

    Not fork-safe: one per process.
    """

    def __init__(
        self, base_url: str, api_key: str, *, connect_seconds: float, total_seconds: float
    ) -> None:
        self._base_url = base_url.rstrip("/")
        self._connect_seconds = connect_seconds
        self._total_seconds = total_seconds
        self._api_key = api_key
        self._asking = _session(api_key)

    def send(self, request: Request) -> Answer:
        # A kept-alive connection that the provider has just closed fails like a lost answer.
        # Where money is at stake every request opens its own, so that the two stay apart.
        asking = request.method == "GET"
        # A session of its own as well: the header alone does not keep urllib3 from reusing one.
        session = self._asking if asking else _session(self._api_key)
        headers = {} if asking else {"Connection": "close"}
        seconds = request.timeout_seconds or self._total_seconds
        if asking:
            seconds = min(POLL_SECONDS, seconds)
        give_up = time.monotonic() + seconds
        watch = _Watch(seconds)
        try:
            with (
                watch,
                session.request(
                    request.method,
                    self._base_url + request.path,
                    json=request.body,
                    headers=headers,
                    timeout=(self._connect_seconds, seconds),
                    allow_redirects=False,
                    stream=True,
                ) as response,
            ):
                body = _read(response, give_up)
                if watch.is_over:
                    raise AnswerLost("the answer came too slowly")
                return Answer(response.status_code, dict(response.headers), body)
        except requests.ConnectionError as error:
            if _never_opened(error):
                raise NeverSent(f"cannot connect to the provider: {_cause(error)}") from None
            raise AnswerLost(f"the connection broke: {_cause(error)}") from None
        except (requests.RequestException, HTTPError) as error:
            raise AnswerLost(f"no readable answer: {_cause(error)}") from None
        finally:
            if not asking:
                session.close()


def _session(api_key: str) -> requests.Session:
    session = requests.Session()
    for scheme in ("http://", "https://"):
        session.mount(scheme, _WatchedAdapter(max_retries=0))
    session.auth = _Bearer(api_key)
    return session


class _Watch:
    """Ends a request that takes too long as a whole, from the first byte sent to the last read.

    A socket's own timeout starts anew with every byte, so an answer that drips would never end.
    """

    def __init__(self, seconds: float) -> None:
        self.is_over = False
        self._sock: socket.socket | None = None
        self._timer = threading.Timer(seconds, self._end)
        self._timer.daemon = True

    def __enter__(self) -> "_Watch":
        _watching.watch = self
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
        _watching.watch = None

    def over(self, sock: socket.socket) -> None:
        """Watch over the socket that the answer comes by."""
        self._sock = sock
        if self.is_over:
            self._end()

    def _end(self) -> None:
        self.is_over = True
        if self._sock:
            with contextlib.suppress(OSError):
                self._sock.shutdown(socket.SHUT_RDWR)


_watching = threading.local()


class _Watched:
    """A connection that tells the watch of its thread which socket it reads."""

    sock: socket.socket

    def getresponse(self) -> Any:
        watch: _Watch | None = getattr(_watching, "watch", None)
        if watch:
            watch.over(self.sock)
        return super().getresponse()  # type: ignore[misc]


class _WatchedHTTP(_Watched, HTTPConnection):
    pass


class _WatchedHTTPS(_Watched, HTTPSConnection):
    pass


class _HTTPPool(HTTPConnectionPool):
    ConnectionCls = _WatchedHTTP


class _HTTPSPool(HTTPSConnectionPool):
    ConnectionCls = _WatchedHTTPS


_POOLS: Final = {"http": _HTTPPool, "https": _HTTPSPool}


class _WatchedAdapter(HTTPAdapter):
    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        super().init_poolmanager(*args, **options)
        self.poolmanager.pool_classes_by_scheme = _POOLS

    def proxy_manager_for(self, *args: Any, **options: Any) -> Any:
        manager = super().proxy_manager_for(*args, **options)
        manager.pool_classes_by_scheme = _POOLS
        return manager


class _Bearer(AuthBase):
    """As auth, not as a header: a netrc file would replace the header."""

    def __init__(self, api_key: str) -> None:
        self._api_key = api_key

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._api_key}"
        return request


def _read(response: requests.Response, give_up: float) -> bytes:
    body = bytearray()
    # read1 returns what has come: read would wait for its whole amount, drop by drop.
    while chunk := response.raw.read1(65536, decode_content=True):
        body += chunk
        if len(body) > ANSWER_LIMIT_BYTES:
            raise AnswerLost(f"the answer is larger than {ANSWER_LIMIT_BYTES} bytes")
        if time.monotonic() > give_up:
            raise AnswerLost("the answer came too slowly")
    return bytes(body)


def _never_opened(error: requests.ConnectionError) -> bool:
    reason = getattr(error.args[0], "reason", None) if error.args else None
    handshake = isinstance(getattr(reason, "args", [None])[0], ssl.SSLCertVerificationError)
    return (
        isinstance(error, requests.ConnectTimeout) or isinstance(reason, _NEVER_OPENED) or handshake
    )


def _cause(error: Exception) -> str:
    """Name an error without its text, which may quote a URL or a header."""
    reason = getattr(error.args[0], "reason", None) if error.args else None
    return type(reason or error).__name__
