"""The client against a real server on loopback: what it knows when something breaks."""

import os
import socket
import struct
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests
import urllib3.util.connection

from tests.system import wait_until, within
from tests.unit.stage import Say, Stage, reply, saying
from worker import provider as client
from worker.core.providers.aimusic.operations import OPERATIONS
from worker.core.providers.aimusic.protocol import read_submit
from worker.core.wire import AnswerLost, NeverSent, Postponed, Request
from worker.provider import HTTPTransport

API_KEY = "sk_do_not_print_me"
POLL = Request("GET", "/sonic/task/1")
SUBMIT = Request("POST", "/sonic/create", {"mv": "sonic-v5", "prompt": "é"})
PATIENCE = 0.2

pytestmark = pytest.mark.usefixtures("no_proxies")


def provider(url: str, *, seconds: float = 10) -> HTTPTransport:
    return HTTPTransport(url, API_KEY, connect_seconds=seconds, total_seconds=seconds)


def safe(error: BaseException) -> None:
    """Check that an error says nothing about the key or the request."""
    said = f"{error} {error!r} {error.args}"
    assert not any(secret in said for secret in (API_KEY, "Bearer", "sonic-v5", "127.0.0.1"))
    assert error.__cause__ is None
    assert error.__suppress_context__ or error.__context__ is None


# -- what is sent -----------------------------------------------------------------------------


def test_a_submit_is_sent_as_json_with_the_key(stage: Stage) -> None:
    stage.say = saying(reply(body=b'{"task_id": "t-1"}', X_Request_Id="r-1"))
    answer = provider(stage.url + "/api/v1/").send(SUBMIT)
    assert (answer.status, answer.body) == (200, b'{"task_id": "t-1"}')
    (heard,) = stage.heard
    assert heard.line == "POST /api/v1/sonic/create HTTP/1.1"
    assert heard.headers["authorization"] == f"Bearer {API_KEY}"
    assert heard.headers["content-type"] == "application/json"
    assert heard.body == b'{"mv": "sonic-v5", "prompt": "\\u00e9"}'


def test_a_poll_has_no_body(stage: Stage) -> None:
    provider(stage.url).send(POLL)
    (heard,) = stage.heard
    assert heard.line == "GET /sonic/task/1 HTTP/1.1"
    assert heard.body == b""


@pytest.mark.parametrize("body", [{"prompt": "é"}, {"prompt": "longer", "mv": None}, {}, None])
def test_each_request_of_a_path_is_the_one_that_requests_would_send(
    stage: Stage, body: dict[str, str | None] | None
) -> None:
    sending = provider(stage.url)
    sending.send(SUBMIT)  # what follows is a copy of its blank
    sending.send(Request("POST", SUBMIT.path, body))
    sending.send(POLL)
    headers = {"Authorization": f"Bearer {API_KEY}"}
    with requests.Session() as session:
        url = stage.url + SUBMIT.path
        session.post(url, json=body, headers={**headers, "Connection": "close"}, timeout=10)
        session.get(stage.url + POLL.path, headers=headers, timeout=10)
    ours, theirs = stage.heard[1:3], stage.heard[3:]
    for mine, other in zip(ours, theirs, strict=True):
        assert (mine.line, mine.headers, mine.body) == (other.line, other.headers, other.body)


def test_what_the_provider_sets_as_a_cookie_is_not_sent_back(stage: Stage) -> None:
    stage.say = saying(reply(Set_Cookie="who=somebody"))
    sending = provider(stage.url)
    for request in (SUBMIT, POLL, SUBMIT, POLL):
        sending.send(request)
    assert not any("cookie" in heard.headers for heard in stage.heard)


def test_a_netrc_file_does_not_replace_the_key(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login someone password else\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    provider(stage.url).send(POLL)
    assert stage.heard[0].headers["authorization"] == f"Bearer {API_KEY}"


@pytest.mark.parametrize("status", ["202 Accepted", "404 Not Found", "429 Too Many", "504 Timeout"])
def test_any_status_is_an_answer(stage: Stage, status: str) -> None:
    stage.say = saying(reply(status, b"<html>", Retry_After="7"))
    answer = provider(stage.url).send(SUBMIT)
    assert answer.status == int(status[:3])
    assert answer.body == b"<html>"


@pytest.mark.parametrize("name", ["Retry-After", "retry-after", "RETRY-AFTER"])
def test_retry_after_is_heard_however_the_provider_writes_it(stage: Stage, name: str) -> None:
    stage.say = saying(reply("429 Too Many", b"{}", **{name: "7"}))
    answer = provider(stage.url).send(SUBMIT)
    assert read_submit(OPERATIONS["sonic.remaster"], answer) == Postponed(
        "HTTP 429: no reason given", 7
    )


def test_the_key_is_not_in_the_repr(stage: Stage) -> None:
    assert API_KEY not in repr(provider(stage.url))


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "307 Temporary", "308 Permanent"])
def test_a_redirect_is_not_followed(stage: Stage, status: str) -> None:
    stage.say = saying(reply(status, Location=stage.url + "/elsewhere"))
    assert provider(stage.url).send(SUBMIT).status == int(status[:3])
    assert len(stage.heard) == 1


@pytest.mark.parametrize("status", ["429 Too Many", "502 Bad", "503 Unavailable"])
def test_nothing_is_retried(stage: Stage, status: str) -> None:
    stage.say = saying(reply(status, Retry_After="0"))
    provider(stage.url).send(POLL)
    assert len(stage.heard) == 1


# -- connections ------------------------------------------------------------------------------


def test_polls_share_a_connection(stage: Stage) -> None:
    sending = provider(stage.url)
    sending.send(POLL)
    sending.send(POLL)
    assert len({heard.port for heard in stage.heard}) == 1


def test_submits_do_not_share_a_connection(stage: Stage) -> None:
    sending = provider(stage.url)
    sending.send(SUBMIT)
    sending.send(SUBMIT)
    assert len({heard.port for heard in stage.heard}) == 2


def test_a_submit_does_not_reuse_the_connection_of_a_poll(stage: Stage) -> None:
    sending = provider(stage.url)
    sending.send(POLL)
    sending.send(SUBMIT)
    assert len({heard.port for heard in stage.heard}) == 2


# -- never sent -------------------------------------------------------------------------------


def test_nothing_was_sent_where_nothing_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(NeverSent) as raised:
        provider(f"http://127.0.0.1:{port}").send(SUBMIT)
    safe(raised.value)


def test_nothing_was_sent_where_the_name_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "no such name")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(NeverSent) as raised:
        provider("http://provider.invalid").send(SUBMIT)
    safe(raised.value)


def test_nothing_was_sent_where_the_connection_does_not_open_in_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def slow(*_: object, **__: object) -> None:
        raise TimeoutError("timed out")

    monkeypatch.setattr(urllib3.util.connection, "create_connection", slow)
    with pytest.raises(NeverSent) as raised:
        provider("http://127.0.0.1:9").send(SUBMIT)
    safe(raised.value)


# -- lost -------------------------------------------------------------------------------------


def reset(connection: socket.socket) -> None:
    """Let the stage close the connection, as this error makes it, with a reset."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    raise ConnectionResetError


BROKEN: dict[str, Say] = {
    "closes without a word": lambda connection: connection.shutdown(socket.SHUT_RDWR),
    "resets": reset,
    "speaks no HTTP": saying(b"220 smtp.example ESMTP\r\n\r\n"),
    "stops inside the body": saying(reply(body=b"x" * 100)[:-50]),
    "sends endless headers": saying(b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 200 + b"\r\n"),
    "sends one endless header": saying(b"HTTP/1.1 200 OK\r\nx: " + b"y" * 70_000 + b"\r\n\r\n"),
    "breaks a chunk": saying(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nZZ\r\n"
    ),
    "sends no gzip as gzip": saying(reply(body=b"plain", Content_Encoding="gzip")),
}


@pytest.mark.parametrize("how", BROKEN)
@pytest.mark.parametrize("request_", [SUBMIT, POLL], ids=["submit", "poll"])
def test_an_answer_is_lost_where_the_provider(stage: Stage, how: str, request_: Request) -> None:
    def once(connection: socket.socket) -> None:
        BROKEN[how](connection)
        connection.shutdown(socket.SHUT_RDWR)

    stage.say = once
    with pytest.raises(AnswerLost) as raised:
        provider(stage.url).send(request_)
    safe(raised.value)
    assert len(stage.heard) == 1


def test_an_answer_that_does_not_come_in_time_is_lost(stage: Stage) -> None:
    stage.say = stage.hang
    with within(4 * PATIENCE), pytest.raises(AnswerLost) as raised:
        provider(stage.url, seconds=PATIENCE).send(SUBMIT)
    safe(raised.value)


def test_an_answer_that_stops_half_way_is_lost_in_time(stage: Stage) -> None:
    def half(connection: socket.socket) -> None:
        connection.sendall(reply(body=b"x" * 100)[:-50])
        stage.hang(connection)

    stage.say = half
    with within(4 * PATIENCE), pytest.raises(AnswerLost) as raised:
        provider(stage.url, seconds=PATIENCE).send(SUBMIT)
    safe(raised.value)


def drip(stage: Stage, first: bytes, *drops: bytes) -> Say:
    """Send a drop every now and then: each in time, all of them too late."""

    def say(connection: socket.socket) -> None:
        connection.sendall(first)
        for drop in drops:
            if stage.over.wait(PATIENCE / 4):
                return
            connection.sendall(drop)

    return say


@pytest.mark.parametrize("framing", ["by length", "in chunks", "until closed"])
def test_an_answer_that_only_drips_is_lost_in_time(stage: Stage, framing: str) -> None:
    head = b"HTTP/1.1 200 OK\r\n"
    drops = [b"x"] * 16
    stage.say = {
        "by length": drip(stage, head + b"Content-Length: 16\r\n\r\n", *drops),
        "in chunks": drip(
            stage, head + b"Transfer-Encoding: chunked\r\n\r\n", *[b"1\r\nx\r\n"] * 16
        ),
        "until closed": drip(stage, head + b"Connection: close\r\n\r\n", *drops),
    }[framing]
    with within(3 * PATIENCE), pytest.raises(AnswerLost) as raised:
        provider(stage.url, seconds=PATIENCE).send(SUBMIT)
    safe(raised.value)


@pytest.mark.parametrize("framing", ["by length", "in chunks"])
def test_an_answer_that_is_too_large_is_lost(
    stage: Stage, framing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "ANSWER_LIMIT_BYTES", 1000)
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunked += b"3e9\r\n" + b"x" * 1001 + b"\r\n0\r\n\r\n"
    stage.say = saying(reply(body=b"x" * 1001) if framing == "by length" else chunked)
    with pytest.raises(AnswerLost, match="larger than 1000 bytes") as raised:
        provider(stage.url).send(SUBMIT)
    safe(raised.value)


def test_an_answer_may_be_as_large_as_the_limit(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "ANSWER_LIMIT_BYTES", 1000)
    stage.say = saying(reply(body=b"x" * 1000))
    assert len(provider(stage.url).send(SUBMIT).body) == 1000


def test_the_next_request_after_a_lost_answer_has_its_own(stage: Stage) -> None:
    sending = provider(stage.url, seconds=PATIENCE)
    stage.say = stage.hang
    with pytest.raises(AnswerLost):
        sending.send(POLL)
    stage.say = saying(reply(body=b'{"second": true}'))
    assert sending.send(POLL).body == b'{"second": true}'


# -- the watchdog -----------------------------------------------------------------------------


HEADER = [b"HTTP/1.1 200 OK\r\nx: ", *[b"y"] * 99]
"""What no limit of a socket ends, if it drips."""


def test_one_thread_watches_over_all_requests(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[threading.Thread] = []
    start = threading.Thread.start

    def noted(thread: threading.Thread) -> None:
        started.append(thread)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", noted)
    sending = provider(stage.url)
    for _ in range(3):
        sending.send(POLL)
    assert len([each for each in started if "play" not in each.name]) <= 1


def test_a_request_ends_in_time_beside_one_that_has_more_time(stage: Stage) -> None:
    stage.say = drip(stage, *HEADER)
    with ThreadPoolExecutor() as pool:
        longer = pool.submit(provider(stage.url, seconds=5 * PATIENCE).send, SUBMIT)
        wait_until(lambda: stage.heard)
        with within(3 * PATIENCE), pytest.raises(AnswerLost):
            provider(stage.url, seconds=PATIENCE).send(SUBMIT)
        assert not longer.done()
        with within(6 * PATIENCE), pytest.raises(AnswerLost):
            longer.result()


def test_a_connection_that_cannot_be_hung_up_ends_no_watchdog() -> None:
    """On macOS, a connection that the other side has reset has no address any more."""
    watch = client._Watch(PATIENCE)
    with watch, open(os.devnull) as no_connection:
        watch._descriptor = os.dup(no_connection.fileno())
        watch.end()
    assert watch.is_over


AFTER_A_FORK = """
import os, signal, socket, sys, threading
from worker import provider
from worker.core.wire import Request

# Fork while the other thread waits for the answer: before that, it may hold a lock of an import or
# of the resolver, which no process could open after a fork.
waits, read = threading.Event(), socket.SocketIO.readinto

def readinto(self, buffer):
    waits.set()
    return read(self, buffer)

socket.SocketIO.readinto = readinto

def send(seconds):
    sending = provider.HTTPTransport(sys.argv[1], "key", connect_seconds=9, total_seconds=seconds)
    sending.send(Request("POST", "/sonic/create", {}))

threading.Thread(target=send, args=(60,), daemon=True).start()
assert waits.wait(10)
provider._watchdog._lock.acquire()
child = os.fork()
if not child:
    signal.alarm(20)
    try:
        send(0.3)
    except provider.AnswerLost:
        os._exit(0)
    os._exit(1)
os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_a_forked_process_has_a_watchdog_of_its_own(stage: Stage) -> None:
    """It inherits no thread, but a lock that another thread may hold."""
    stage.say = drip(stage, *HEADER)
    command = [sys.executable, "-W", "ignore", "-c", AFTER_A_FORK, stage.url]
    assert subprocess.run(command, timeout=30, check=False).returncode == 0
