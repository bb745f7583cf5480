"""What each failure means for money: nothing of the request left, or nobody knows if it was taken.

The servers are real, on loopback; and every error that the libraries have is raised on either side
of the line that decides, the first byte of the request.
"""

import http.client
import importlib
import inspect
import json
import shutil
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock
from urllib.parse import urlsplit

import certifi
import pytest
import requests.adapters
import requests.exceptions
import urllib3.connection
import urllib3.exceptions
import urllib3.util.connection

from tests.system import within
from tests.unit.stage import Say, Stage, reply, saying
from tests.unit.test_client import API_KEY, PATIENCE, POLL, SUBMIT, drip, provider, reset, safe
from worker import provider as client
from worker.core.wire import AnswerLost, NeverSent, Request
from worker.provider import FAILURES, HTTPTransport

PROVIDER = "https://provider.test/api/v1"
SILENT = "says nothing"
OPEN = saying(b"HTTP/1.1 200 Connection established\r\n\r\n")

pytestmark = pytest.mark.usefixtures("no_proxies")


def never_sent(url: str, *, key: str = API_KEY, seconds: float = 10) -> str:
    """Submit what cannot leave this machine; returns why not."""
    sending = HTTPTransport(url, key, connect_seconds=seconds, total_seconds=seconds)
    with pytest.raises(NeverSent) as raised:
        sending.send(SUBMIT)
    safe(raised.value)
    assert key not in str(raised.value)
    return str(raised.value)


def lost(url: str) -> str:
    """Submit what leaves this machine and is not answered; returns why not."""
    with pytest.raises(AnswerLost) as raised:
        provider(url).send(SUBMIT)
    safe(raised.value)
    return str(raised.value)


# -- every error that the libraries have ------------------------------------------------------


MODULES = (requests.exceptions, urllib3.exceptions, http.client, ssl, socket)
ARGUMENTS = {
    http.client.IncompleteRead: [b"half"],
    http.client.UnknownProtocol: ["HTTP/3"],
    http.client.BadStatusLine: ["SSH-2.0"],
    http.client.LineTooLong: ["header line"],
    urllib3.exceptions.ProxyError: ["away", OSError()],
    urllib3.exceptions.MaxRetryError: [None, "/", OSError()],
    urllib3.exceptions.IncompleteRead: [1, 2],
    urllib3.exceptions.InvalidChunkLength: [mock.Mock(**{"tell.return_value": 5}), b"z"],
    urllib3.exceptions.NameResolutionError: ["host", None, socket.gaierror()],
    urllib3.exceptions.HeaderParsingError: [[], b""],
    ssl.SSLCertVerificationError: [1, "refused"],
    requests.exceptions.JSONDecodeError: ["no JSON", "", 0],
    json.JSONDecodeError: ["no JSON", "", 0],
}


def made(kind: type[Exception]) -> Exception:
    """Make an error as its library does, or with as few texts as it wants."""
    given: Any = ARGUMENTS.get(kind)
    if given is None:
        wanted = [
            each
            for each in inspect.signature(kind).parameters.values()
            if each.default is each.empty and each.kind is each.POSITIONAL_OR_KEYWORD
        ]
        given = ["words"] * len(wanted)
    error = kind(*given)
    if isinstance(error, ssl.SSLCertVerificationError):
        error.verify_message = "refused"
    return error


def errors() -> list[type[Exception]]:
    found = {
        each
        for module in MODULES
        for name, each in inspect.getmembers(module, inspect.isclass)
        if issubclass(each, Exception) and not issubclass(each, Warning) and name[0] != "_"
    }
    found |= {UnicodeError, ValueError, TimeoutError, ConnectionResetError, BrokenPipeError}
    # A pool that does not block is never empty, so that urllib3 cleans up after no such error.
    found -= {Exception, urllib3.exceptions.EmptyPoolError}
    return sorted(found, key=lambda each: (each.__name__, each.__module__))


@pytest.mark.parametrize("kind", errors(), ids=lambda kind: f"{kind.__module__}.{kind.__name__}")
def test_an_error_before_the_request_means_never_sent_and_one_after_it_lost(
    stage: Stage, kind: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise made(kind)

    assert issubclass(kind, FAILURES)
    with monkeypatch.context() as patch:
        patch.setattr(urllib3.connection.HTTPConnection, "connect", fail)
        assert never_sent(stage.url)
    assert stage.heard == []
    monkeypatch.setattr(urllib3.connection.HTTPConnection, "getresponse", fail)
    assert lost(stage.url)


# -- the request cannot even be written -------------------------------------------------------


@pytest.mark.parametrize("key", ["sk_ключ", "sk_\u20ac", "sk_two\nlines", "sk_two\r\nX-Other: 1"])
def test_a_key_that_no_header_can_hold_is_never_sent(stage: Stage, key: str) -> None:
    assert "Error" in never_sent(stage.url, key=key)
    assert stage.heard == []


@pytest.mark.parametrize(
    "url",
    ["provider.test/api/v1", "https://", "https://*.provider.test", "https://a..b", "https://[::1",
     f"https://{'a' * 64}.test", "https://\u2603\u0301\u2024.test", "ftp://provider.test"],
)  # fmt: skip
def test_a_url_that_leads_nowhere_is_never_sent(url: str) -> None:
    assert "provider.test" not in never_sent(url)


def test_a_bundle_of_authorities_that_is_not_there_is_named_and_nothing_sent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nowhere/authorities.pem")
    assert "/nowhere/authorities.pem" in never_sent(PROVIDER)


# -- TLS --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the certificate of provider.test, signed by itself, and its key."""
    folder = tmp_path_factory.mktemp("authority")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
         "-nodes", "-days", "2", "-subj", "/CN=test", "-addext", "subjectAltName=DNS:provider.test",
         "-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")],
        check=True, capture_output=True,
    )  # fmt: skip
    return folder


def tunnelled(stage: Stage, authority: Path, say: Say, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the stage be a proxy that opens a tunnel to a provider with TLS, who says this."""
    monkeypatch.setenv("https_proxy", stage.url)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority / "cert.pem", authority / "key.pem")

    def serve(connection: socket.socket) -> None:
        OPEN(connection)
        with context.wrap_socket(connection, server_side=True) as secure:
            stage.say = say
            stage.play(secure)

    stage.say = serve


def test_a_certificate_that_is_not_trusted_means_never_sent(
    stage: Stage, authority: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tunnelled(stage, authority, saying(reply()), monkeypatch)
    assert "self-signed certificate" in never_sent(PROVIDER)
    assert [heard.line.split()[0] for heard in stage.heard] == ["CONNECT"]


def test_a_certificate_of_another_name_means_never_sent(
    stage: Stage, authority: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(authority / "cert.pem"))
    tunnelled(stage, authority, saying(reply()), monkeypatch)
    assert "Hostname mismatch" in never_sent("https://other.test")


def test_through_a_tunnel_the_provider_is_reached(
    stage: Stage, authority: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(authority / "cert.pem"))
    tunnelled(stage, authority, saying(reply(body=b'{"task_id": "t"}')), monkeypatch)
    assert provider(PROVIDER).send(SUBMIT).body == b'{"task_id": "t"}'
    assert stage.heard[1].line == "POST /api/v1/sonic/create HTTP/1.1"


def test_authorities_are_loaded_once_and_again_when_their_file_has_changed(
    stage: Stage, authority: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = shutil.copy(authority / "cert.pem", tmp_path / "authorities.pem")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(bundle))
    before = client._trusting.cache_info().misses

    for _ in range(3):
        tunnelled(stage, authority, saying(reply()), monkeypatch)
        provider(PROVIDER).send(SUBMIT)
    assert client._trusting.cache_info().misses == before + 1

    shutil.copy(certifi.where(), bundle)
    tunnelled(stage, authority, saying(reply()), monkeypatch)
    assert "self-signed certificate" in never_sent(PROVIDER)


WHILE_AUTHORITIES_ARE_LOADED = """
import os, signal, threading, time
from worker import provider

locked = threading.Event()

def load():
    with provider._loading:
        locked.set()
        time.sleep(0.2)

threading.Thread(target=load).start()
assert locked.wait(10)
child = os.fork()
if not child:
    signal.alarm(20)
    os._exit(not provider._loading.acquire(timeout=5))
os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_a_process_that_is_forked_while_authorities_are_loaded_can_load_them() -> None:
    command = [sys.executable, "-W", "ignore", "-c", WHILE_AUTHORITIES_ARE_LOADED]
    assert subprocess.run(command, timeout=30, check=False).returncode == 0


@pytest.mark.parametrize(
    "breaks", [lambda each: each.shutdown(socket.SHUT_RDWR), saying(b"220 smtp.test ESMTP\r\n\r\n")]
)
def test_an_answer_that_breaks_off_behind_a_tunnel_is_lost(
    stage: Stage, authority: Path, breaks: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(authority / "cert.pem"))
    tunnelled(stage, authority, breaks, monkeypatch)
    assert lost(PROVIDER)
    assert len(stage.heard) == 2


NO_TLS: dict[str, Say] = {
    "speaks no TLS": saying(b"220 smtp.test ESMTP\r\n"),
    "closes": lambda connection: connection.shutdown(socket.SHUT_RDWR),
    SILENT: lambda connection: None,
}


@pytest.mark.parametrize("how", NO_TLS)
def test_nothing_is_sent_where_the_provider_behind_a_tunnel(
    stage: Stage, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def say(connection: socket.socket) -> None:
        OPEN(connection)
        NO_TLS[how](connection)

    stage.say = say
    monkeypatch.setenv("https_proxy", stage.url)
    assert never_sent(PROVIDER, seconds=PATIENCE if how == SILENT else 10)
    assert stage.heard[0].line.startswith("CONNECT")


# -- proxies ----------------------------------------------------------------------------------


REFUSALS = ["403 Forbidden", "407 Proxy Authentication Required", "429 Too Many", "500 Oops",
            "502 Bad Gateway", "503 Service Unavailable", "504 Gateway Timeout"]  # fmt: skip


@pytest.mark.parametrize("status", REFUSALS)
def test_a_proxy_that_refuses_the_tunnel_means_never_sent(
    stage: Stage, status: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage.say = saying(reply(status))
    monkeypatch.setenv("https_proxy", stage.url)
    assert f"refuses the tunnel, HTTP {status[:3]}" in never_sent(PROVIDER)


NO_PROXY: dict[str, Say] = {
    "closes without a word": lambda connection: connection.shutdown(socket.SHUT_RDWR),
    "resets": reset,
    "speaks no HTTP": saying(b"220 smtp.test ESMTP\r\n\r\n"),
    SILENT: lambda connection: None,
    "sends one endless header": saying(b"HTTP/1.1 200 OK\r\nx: " + b"y" * 70_000 + b"\r\n\r\n"),
}


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("how", NO_PROXY)
def test_nothing_is_sent_where_the_proxy(
    stage: Stage, how: str, scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage.say = NO_PROXY[how]
    monkeypatch.setenv("https_proxy", stage.url.replace("http", scheme))
    assert never_sent(PROVIDER, seconds=PATIENCE if how == SILENT else 10)


@pytest.mark.parametrize("target", [PROVIDER, "http://provider.test"])
def test_a_proxy_that_is_away_means_never_sent(
    target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    monkeypatch.setenv("all_proxy", f"http://me:secret@127.0.0.1:{port}")
    said = never_sent(target)
    assert "the proxy: Connection refused" in said
    assert "secret" not in said


@pytest.mark.parametrize(
    ("away", "said"),
    [
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), "Name or service not"),
        (TimeoutError("timed out"), "the proxy: timed out"),
        (OSError(113, "No route to host"), "the proxy: No route to host"),
    ],
)
def test_a_proxy_that_cannot_be_found_means_never_sent(
    away: OSError, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise away

    monkeypatch.setattr(urllib3.util.connection, "create_connection", fail)
    monkeypatch.setenv("https_proxy", "http://proxy.test:3128")
    assert said in never_sent(PROVIDER)


@pytest.mark.parametrize(
    "proxy", ["http://", "ftp://proxy.test", "socks5://proxy.test", "http://["]
)
def test_a_proxy_that_cannot_be_used_means_never_sent(
    proxy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("https_proxy", proxy)
    assert "proxy.test" not in never_sent(PROVIDER)


@pytest.fixture
def socks(stage: Stage, no_proxies: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let every way lead through a SOCKS proxy, with a library that always reaches the stage."""
    address = ("127.0.0.1", urlsplit(stage.url).port)
    library: Any = ModuleType("socks")
    library.PROXY_TYPE_SOCKS5, library.ProxyError = 2, OSError
    library.create_connection = lambda *_, timeout, **__: socket.create_connection(address, timeout)
    with mock.patch.dict(sys.modules, {"socks": library}):
        module = importlib.import_module("urllib3.contrib.socks")
        monkeypatch.setattr(requests.adapters, "SOCKSProxyManager", module.SOCKSProxyManager)
        monkeypatch.setenv("all_proxy", "socks5h://proxy.test")
        yield
    sys.modules.pop("urllib3.contrib.socks", None)


@pytest.mark.usefixtures("socks")
def test_behind_a_socks_proxy_a_request_is_sent_and_its_lost_answer_is_one(stage: Stage) -> None:
    assert provider("http://provider.test").send(SUBMIT).status == 200
    stage.say = reset
    assert lost("http://provider.test")
    assert len(stage.heard) == 2


def test_nothing_is_sent_when_opening_the_tunnel_took_all_the_time(
    stage: Stage, authority: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(authority / "cert.pem"))
    tunnelled(stage, authority, saying(reply()), monkeypatch)
    open_at_once = stage.say
    watch: Any = client._Watch

    def late(connection: socket.socket) -> None:
        stage.over.wait(0.4)
        open_at_once(connection)

    stage.say = late
    monkeypatch.setattr(client, "_Watch", lambda _: watch(0.2))
    assert "timed out" in never_sent(PROVIDER)
    assert [heard.line.split()[0] for heard in stage.heard] == ["CONNECT"]


# -- nobody else ends a request: its time is over, whatever drips --------------------------------


DRIPS = {
    "the proxy's answer": [b"HTTP/1.1 200 Connection established\r\nx: ", *[b"y"] * 100],
    "the handshake": [b"HTTP/1.1 200 OK\r\n\r\n", b"\x16\x03\x03\x0f\xff", *[b"\2"] * 100],
}


@pytest.mark.parametrize("what", DRIPS)
def test_nothing_is_sent_where_this_only_drips(
    stage: Stage, authority: Path, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(authority / "cert.pem"))
    stage.say = drip(stage, *DRIPS[what])
    monkeypatch.setenv("https_proxy", stage.url)
    with within(10 * PATIENCE):
        assert "timed out" in never_sent(PROVIDER, seconds=5 * PATIENCE)


def test_a_request_that_is_only_read_in_drips_ends_in_time(
    stage: Stage, authority: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(authority / "cert.pem"))
    monkeypatch.setenv("https_proxy", stage.url)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority / "cert.pem", authority / "key.pem")

    def sip(connection: socket.socket) -> None:
        OPEN(connection)
        with context.wrap_socket(connection, server_side=True) as secure:
            while not stage.over.wait(PATIENCE / 4) and secure.recv(16384):
                pass

    stage.say = sip
    upload = Request("POST", "/sonic/upload", {"file": "x" * 12_000_000})
    # On a busy machine, its time may be over before it begins.
    with within(20 * PATIENCE), pytest.raises((AnswerLost, NeverSent), match="timed out"):
        provider(PROVIDER, seconds=5 * PATIENCE).send(upload)


def test_nothing_is_sent_where_the_name_took_all_the_time(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def look_up(*_: object) -> list[Any]:
        stage.over.wait(2 * PATIENCE)
        where = ("127.0.0.1", urlsplit(stage.url).port)
        return [(socket.AF_INET, socket.SOCK_STREAM, 0, "", where)]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    assert "timed out" in never_sent("http://provider.test", seconds=PATIENCE)
    assert stage.heard == []


# A plain proxy passes a plain request on: what it heard, the provider may have heard.


@pytest.mark.parametrize("breaks", [reset, saying(b"220 smtp.test ESMTP\r\n\r\n")])
def test_a_proxy_that_breaks_off_after_a_plain_request_has_lost_its_answer(
    stage: Stage, breaks: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    def once(connection: socket.socket) -> None:
        breaks(connection)
        connection.shutdown(socket.SHUT_RDWR)

    stage.say = once
    monkeypatch.setenv("http_proxy", stage.url)
    assert lost("http://provider.test")
    assert stage.heard[0].line == "POST http://provider.test/sonic/create HTTP/1.1"


@pytest.mark.parametrize("status", REFUSALS)
def test_what_a_proxy_answers_to_a_plain_request_is_an_answer(
    stage: Stage, status: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage.say = saying(reply(status))
    monkeypatch.setenv("http_proxy", stage.url)
    assert provider("http://provider.test").send(SUBMIT).status == int(status[:3])


@pytest.mark.parametrize("name", ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"])
@pytest.mark.parametrize("no_proxy", ["", "elsewhere.test"])
def test_no_proxy_is_asked_for_this_very_machine(
    stage: Stage, name: str, no_proxy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.setenv("no_proxy", no_proxy)
    for request in (SUBMIT, POLL):
        assert provider(stage.url).send(request).status == 200
    assert provider(stage.url.replace("127.0.0.1", "localhost")).send(POLL).status == 200


def test_a_host_that_needs_no_proxy_is_asked_itself(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("no_proxy", ".test")
    here = (stage.url.removeprefix("http://127.0.0.1:"),)
    real = socket.getaddrinfo
    monkeypatch.setattr(
        socket, "getaddrinfo", lambda _, *rest, **more: real("127.0.0.1", *rest, **more)
    )
    assert provider(f"http://provider.test:{here[0]}").send(POLL).status == 200
