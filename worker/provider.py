"""Adapter: the provider over HTTP, with requests.

When a request fails, one question decides what becomes of its job: did anything of the request
leave this machine? The libraries' errors do not tell. A ``ReadTimeout`` is the provider's silence,
or a proxy's that never opened the tunnel; an ``SSLError`` comes before the request, or in the
middle of the answer. So the connection itself notes when it begins to write the request (in
:class:`_Watched`), and that alone decides, whatever the error is:

=================  =====================================================  ====================
the request        what went wrong, for example                           raised
=================  =====================================================  ====================
was not begun      the URL, a header, or the CA bundle cannot be used;    NeverSent: the job
                   a name is unknown; nothing listens; the proxy is       backs off and is sent
                   away, or refuses the tunnel; the TLS handshake fails   again
was begun          the connection breaks; no answer in time; an answer    AnswerLost: nobody
                   that is no HTTP, is cut off, or cannot be unpacked     knows if it was taken
was answered       any HTTP status, a proxy's own among them              nothing: the answer is
                                                                          read by the provider
=================  =====================================================  ====================

Each request has a limit for its whole time, and this module keeps it: Celery enforces time limits
with processes, not with threads. When the time is over, the :class:`_Watchdog` closes the
connection, in a proxy's tunnel, a handshake, the request or the answer. It is one thread for all
requests, because a thread for each took a fifth or more of a request's CPU. Two steps before the
tunnel have limits of their own: the system's resolver looks the name up, and each address is tried
for the connect timeout. If these two take all the time, the request is not begun.
"""

import contextlib
import functools
import os
import re
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from http.client import HTTPException, RemoteDisconnected
from queue import Empty, SimpleQueue
from types import SimpleNamespace
from typing import Any, Final

import requests
from requests.adapters import DEFAULT_POOLSIZE, HTTPAdapter
from requests.auth import AuthBase
from urllib3.exceptions import HTTPError, ProxyError
from urllib3.util.ssl_ import create_urllib3_context

from worker.core.archive.egress import is_this_machine
from worker.core.wire import Answer, AnswerLost, NeverSent, Request

_TUNNEL: Final = re.compile(r"Tunnel connection failed: (\d{3})\b")
_PLAIN: Final = ("Could not find a suitable TLS CA", "Missing dependencies for SOCKS")
"""Beginnings of error texts of requests that quote neither a URL nor a header."""

ANSWER_LIMIT_BYTES = 16 * 1024 * 1024
POLL_SECONDS = 10
"""A poll that takes longer is cut off and repeated later: the sweep's other jobs wait for it."""

FAILURES: Final = (OSError, HTTPError, HTTPException, ValueError)
"""The bases of all errors of requests, urllib3, ``http.client``, ``ssl`` and ``socket``."""


class HTTPTransport:
    """The provider's API over HTTPS. Redirects are not followed, and nothing is retried here.

    Not fork-safe: one per process.
    """

    def __init__(
        self, base_url: str, api_key: str, *, connect_seconds: float, total_seconds: float
    ) -> None:
        self._base_url = base_url.rstrip("/")
        self._connect_seconds = connect_seconds
        self._total_seconds = total_seconds
        self._session = requests.Session()
        self._session.auth = _Bearer(api_key)
        # requests would read the environment for each request; see ``_environment``.
        self._session.trust_env = False
        self._asking = _Adapter(connections=DEFAULT_POOLSIZE)
        self._submitting = _Adapter(_NotKept)
        self._blank = functools.lru_cache(maxsize=64)(self._prepared)

    @functools.cached_property
    def _environment(self) -> dict[str, Any]:
        """The environment's proxies and certificate authorities, as requests takes them.

        They are read once: requests would search the whole environment twice for each request.
        """
        given = proxies(self._base_url)
        said = requests.Session().merge_environment_settings(
            self._base_url, given, None, None, None
        )
        return {name: said[name] for name in ("proxies", "verify")}

    def send(self, request: Request) -> Answer:
        asking = request.method == "GET"
        seconds = request.timeout_seconds or self._total_seconds
        if asking:
            seconds = min(POLL_SECONDS, seconds)
        give_up = time.monotonic() + seconds
        watch = _Watch(seconds)
        # Not a session: it merges settings and looks for cookies and redirects at each request,
        # which took as much CPU as to send one. So an adapter of requests does that alone.
        adapter = self._asking if asking else self._submitting
        try:
            with (
                watch,
                adapter.send(
                    self._written(request),
                    stream=True,
                    timeout=(self._connect_seconds, seconds),
                    **self._environment,
                ) as response,
            ):
                body = _read(response, give_up)
                if watch.is_over:
                    raise AnswerLost("the answer came too slowly")
                return Answer(response.status_code, dict(response.headers), body)
        except (*FAILURES, RuntimeError) as error:  # "can't start new thread" is one
            why = cause(TimeoutError() if watch.is_over else error)
            if watch.begun:
                raise AnswerLost(f"no readable answer: {why}") from None
            raise NeverSent(f"cannot reach the provider: {why}") from None

    def _written(self, request: Request) -> requests.PreparedRequest:
        if request.method == "GET":
            return self._prepared(request.method, request.path)
        # A copy of the blank that its path has: to check the URL and the key takes long.
        written = self._blank(request.method, request.path, connection="close").copy()
        written.prepare_body(data=None, files=None, json=request.body)
        return written

    def _prepared(self, method: str, path: str, **headers: str) -> requests.PreparedRequest:
        return self._session.prepare_request(
            requests.Request(method, self._base_url + path, headers=headers)
        )


def proxies(url: str) -> dict[str, Any]:
    """Return the proxies on the way to a URL, as requests takes them.

    These are the environment's own (``https_proxy``, ``no_proxy`` …). There is none on the way to
    this machine: a proxy elsewhere would look for the simulator or the receiver on its own
    loopback.
    """
    return dict.fromkeys(("http", "https", "all")) if is_this_machine(url) else {}


class _Watch:
    """Ends a request that takes too long, from the connection to the last byte read.

    A socket's own timeout starts anew with every byte, so a slow answer would never end.
    """

    def __init__(self, seconds: float) -> None:
        self.ends_at = time.monotonic() + seconds
        self.is_over = False
        self.begun = False
        """Whether the request has begun to leave. From then on the provider may know it."""
        self._descriptor: int | None = None
        """Our own for the connection: TLS detaches the socket from the first."""
        self._lock = threading.Lock()

    def __enter__(self) -> "_Watch":
        _watchdog.add(self)
        _watching.watch = self
        return self

    def __exit__(self, *_: object) -> None:
        _watchdog.remove(self)
        _watching.watch = None
        self._let_go()

    def begin(self) -> None:
        """Note that the request begins to leave.

        Raises TimeoutError if its time is over, because nobody would wait for the answer.
        """
        if self.is_over:
            raise TimeoutError
        self.begun = True

    def over(self, sock: socket.socket) -> None:
        """Watch over a connection, in place of the one before it."""
        self._let_go()
        with self._lock:
            self._descriptor = os.dup(sock.fileno())
        if self.is_over:
            self.end()

    def end(self) -> None:
        """Hang up."""
        with self._lock:  # else a closed descriptor might be another connection's by now
            self.is_over = True
            if self._descriptor is not None:
                with contextlib.suppress(OSError):
                    sock = socket.socket(fileno=self._descriptor)
                    try:
                        sock.shutdown(socket.SHUT_RDWR)
                    finally:
                        sock.detach()

    def _let_go(self) -> None:
        with self._lock:
            if self._descriptor is not None:
                os.close(self._descriptor)
                self._descriptor = None


class _Watchdog:
    """The one thread of a process that ends each watch whose time is over."""

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """Begin without a thread, as a forked process does: it inherits none."""
        # A plain lock: if a signal, as of a time limit, raises an error here, it is not left held.
        self._lock = threading.Lock()
        self._watches: set[_Watch] = set()
        self._looks_at = float("inf")
        """When the thread looks at its watches next, unless it is called."""
        self._calls: SimpleQueue[None] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def add(self, watch: _Watch) -> None:
        """End a watch in time, unless it is removed before.

        Raises RuntimeError if the thread cannot be started.
        """
        with self._lock:
            if not (self._thread and self._thread.is_alive()):
                self._thread = threading.Thread(
                    target=self._run, name="fermata-watchdog", daemon=True
                )
                self._thread.start()
            self._watches.add(watch)
            if watch.ends_at < self._looks_at:
                self._calls.put(None)

    def remove(self, watch: _Watch) -> None:
        with self._lock:
            self._watches.discard(watch)

    def _run(self) -> None:
        while True:
            wait = self._end_what_is_over()
            with contextlib.suppress(Empty):
                self._calls.get(timeout=wait)

    def _end_what_is_over(self) -> float | None:
        """Return the seconds until the next watch is over; None if there is no other."""
        with self._lock:
            now = time.monotonic()
            over = {watch for watch in self._watches if watch.ends_at <= now}
            self._watches -= over
            left = min((watch.ends_at - now for watch in self._watches), default=None)
            self._looks_at = float("inf") if left is None else now + left
        for watch in over:
            watch.end()
        return left


_watchdog = _Watchdog()
os.register_at_fork(after_in_child=_watchdog.begin)

_watching = threading.local()


class _Watched:
    """A connection that tells the watch of its thread how far it is, and which socket it uses."""

    sock: socket.socket | None

    def _new_conn(self) -> socket.socket:
        """Open the connection; the tunnel and the handshake come after it."""
        sock: socket.socket = super()._new_conn()  # type: ignore[misc]
        if watch := _watch_of_thread():
            watch.over(sock)
        return sock

    def endheaders(self, *args: Any, **options: Any) -> Any:
        """Write the request; opening, the tunnel and the handshake come before it."""
        watch = _watch_of_thread()
        if self.sock is None:
            self.connect()  # type: ignore[attr-defined]
        elif watch:
            watch.over(self.sock)
        if watch:
            watch.begin()
        return super().endheaders(*args, **options)  # type: ignore[misc]


def _watch_of_thread() -> _Watch | None:
    return getattr(_watching, "watch", None)


class _NotKept:
    """A pool that keeps no connection: each request opens one of its own.

    If the provider has just closed a kept-alive connection, the request fails like one whose answer
    was lost. A POST costs money, so it opens a connection of its own, where the two stay apart. A
    GET can be repeated, so it reuses connections. The header ``Connection: close`` alone would not
    keep urllib3 from reusing one.
    """

    def _get_conn(self, timeout: float | None = None) -> Any:
        return self._new_conn()  # type: ignore[attr-defined]

    def _put_conn(self, conn: Any) -> None:
        if conn:
            conn.close()


@functools.cache
def _watched(pool: Any, *kinds: type) -> Any:
    """Return a class of pools like this one, whose connections are watched.

    A SOCKS proxy has pools of another class. They must be watched too: a connection that is not
    watched looks as if it had never begun a request.
    """
    connections = type("_Connection", (_Watched, pool.ConnectionCls), {})
    return type("_Pool", (*kinds, pool), {"ConnectionCls": connections})


class _Adapter(HTTPAdapter):
    """Sends requests to one server, whose environment is the same for all of them."""

    def __init__(self, *kinds: type, connections: int = 1) -> None:
        self._kinds = kinds
        self._pool: Any = None
        super().__init__(pool_connections=1, pool_maxsize=connections)

    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        super().init_poolmanager(*args, **options)
        self._watch_over(self.poolmanager)

    def proxy_manager_for(self, proxy: str, **options: Any) -> Any:
        known = proxy in self.proxy_manager
        manager = super().proxy_manager_for(proxy, **options)
        if not known:
            self._watch_over(manager)
        return manager

    def _watch_over(self, manager: Any) -> None:
        pools = manager.pool_classes_by_scheme
        manager.pool_classes_by_scheme = {
            scheme: _watched(pool, *self._kinds) for scheme, pool in pools.items()
        }

    def get_connection_with_tls_context(self, *args: Any, **options: Any) -> Any:
        """Return the server's pool, which is found once: requests would parse the URL each time."""
        if self._pool is None:
            self._pool = super().get_connection_with_tls_context(*args, **options)
        return self._pool

    def build_response(self, req: Any, resp: Any) -> requests.Response:
        """Hand over what is read of an answer: no cookies, and no guess at its encoding."""
        response = requests.Response()
        response.status_code, response.headers, response.raw = resp.status, resp.headers, resp
        return response

    def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:
        """Check the server's certificate by authorities that are loaded already.

        urllib3 would load them for each connection, which takes more CPU than the rest of a
        request. For a proxy that speaks TLS it still does, from what stays on the connection.
        """
        if conn.proxy is not None and conn.proxy.scheme == "https":
            super().cert_verify(conn, url, verify, cert)  # type: ignore[no-untyped-call]
            return
        # Other threads use the pool meanwhile, so requests must not write into it.
        found = SimpleNamespace(ca_certs=None, ca_cert_dir=None)
        super().cert_verify(found, url, verify, cert)  # type: ignore[no-untyped-call]
        if place := found.ca_certs or found.ca_cert_dir:
            changed_at = os.stat(place).st_mtime_ns
            with _loading:
                context = _trusting(found.ca_certs, found.ca_cert_dir, changed_at)
            conn.conn_kw["ssl_context"] = context
            conn.ca_certs = conn.ca_cert_dir = None


_loading = threading.Lock()
"""Held while authorities are loaded, so that 128 threads that begin at once load them once."""

# A pool's process may be forked meanwhile, and would wait for ever for a lock that nobody frees.
os.register_at_fork(
    before=_loading.acquire,
    after_in_parent=_loading.release,
    after_in_child=_loading.release,
)


@functools.lru_cache(maxsize=4)
def _trusting(file: str | None, folder: str | None, changed_at: int) -> ssl.SSLContext:
    """Return a context that trusts the authorities of a file or a folder, as last changed."""
    context = create_urllib3_context()
    context.load_verify_locations(file, folder)
    return context


class _Bearer(AuthBase):
    """Sets the API key as auth, not as a header, because a netrc file would replace the header."""

    def __init__(self, api_key: str) -> None:
        self._api_key = api_key

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._api_key}"
        return request


def _read(response: requests.Response, give_up: float) -> bytes:
    body = bytearray()
    # read1 returns the bytes that have come. read would wait until all 65,536 are there.
    while chunk := response.raw.read1(65536, decode_content=True):
        body += chunk
        if len(body) > ANSWER_LIMIT_BYTES:
            raise AnswerLost(f"the answer is larger than {ANSWER_LIMIT_BYTES} bytes")
        if time.monotonic() > give_up:
            raise AnswerLost("the answer came too slowly")
    return bytes(body)


def cause(error: BaseException) -> str:
    """Name the root cause of a library's error, with as much of its text as is safe.

    The texts of requests and urllib3 quote URLs and headers, which may hold a password or the key.
    Those of the system and of OpenSSL do not.
    """
    chain = list(_chain(error))
    by = "the proxy: " if any(isinstance(each, ProxyError) for each in chain) else ""
    said = next(filter(None, map(_said, reversed(chain))), "")
    name = type(chain[-1]).__name__
    return f"{by}{said} ({name})" if said else f"{by}{name}"


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Go down from the error that a library raised to the errors that caused it."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        wrapped = [*error.args, getattr(error, "reason", None), error.__cause__]
        error = next(
            (each for each in wrapped if isinstance(each, BaseException)), error.__context__
        )


def _said(error: BaseException) -> str:
    match error:
        case ssl.SSLCertVerificationError():
            return str(error.verify_message)
        case ssl.SSLError():
            return str(error.reason or "").lower().replace("_", " ")
        case socket.gaierror():
            return str(error.strerror or "")
        case TimeoutError(errno=None):
            return "timed out"
        case RemoteDisconnected():
            return "closed without an answer"
        case OSError(errno=int(number)):
            return os.strerror(number)
        case OSError(args=(str(text),)) if refused := _TUNNEL.match(text):
            return f"it refuses the tunnel, HTTP {refused[1]}"
        case OSError(args=(str(text),)) if text.startswith(_PLAIN):
            return text
    return ""
