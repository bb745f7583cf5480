"""Requests that no provider sends, as raw bytes: each kind is drawn from a seeded source."""

import gzip
import itertools
import random
import re
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final
from urllib.parse import urlsplit

from tests.integration import tongue
from tests.integration.flow import completed, raw, signed

TIMEOUT_SECONDS: Final = 20
REPLAYED: Final = 0.2
"""The share of attacks that are exact replays, if there is something to replay."""

_STATUS: Final = re.compile(rb"^HTTP/1\.[01] ([0-9]{3}) ", re.MULTILINE)
_LENGTH: Final = re.compile(rb"(?i)\r\ncontent-length: ([0-9]+)\r\n")


@dataclass(frozen=True, slots=True)
class Attack:
    """One request. If the server might wait for more of it, the sender then hangs up."""

    data: Sequence[bytes]
    """The pieces, sent one after the other."""
    requests: int = 1
    hangs_up: bool = False
    kind: str = ""


@dataclass(frozen=True, slots=True)
class Delivery:
    """An authentic request, as a stranger who listens would have recorded it."""

    job_id: str
    headers: dict[str, str]
    body: bytes


class Source:
    """Draws attacks; the same seed draws the same ones."""

    def __init__(
        self, seed: str, targets: Sequence[str], recorded: Sequence[Delivery] = ()
    ) -> None:
        self._random = random.Random(seed)
        self._targets = targets
        self._recorded = recorded
        self._body = raw(completed())
        self._other = signed("another-job", self._body)

    def draw(self) -> Attack:
        replays = self._recorded and self._random.random() < REPLAYED
        name = "replay" if replays else self._random.choice(KINDS)
        attack: Attack = getattr(self, f"_{name}")()
        return replace(attack, kind=name)

    def _replay(self) -> Attack:
        """Repeat a request of the provider's, byte for byte."""
        delivery = self._random.choice(self._recorded)
        path = _door() + delivery.job_id.encode()
        return Attack([self._request(delivery.headers, delivery.body, path=path)])

    # -- parts --------------------------------------------------------------------------------

    def _bytes(self, most: int) -> bytes:
        return self._random.randbytes(self._random.randrange(most))

    def _text(self, most: int) -> bytes:
        """Bytes that may stand in a header line."""
        return self._bytes(most).replace(b"\r", b"?").replace(b"\n", b"?")

    def _path(self) -> bytes:
        return _door() + self._random.choice(self._targets).encode()

    def _forged(self) -> dict[str, str]:
        secret = self._random.choice(["", "wrong", "0" * 64])
        return signed("x", self._body, secret=secret, delivery_id=str(self._random.random()))

    def _request(
        self,
        headers: dict[str, str] | None = None,
        body: bytes | None = None,
        *,
        method: bytes = b"POST",
        path: bytes | None = None,
        version: bytes = b"HTTP/1.1",
        lines: Sequence[bytes] = (),
        length: bytes | None = None,
    ) -> bytes:
        body = self._body if body is None else body
        given = self._forged() if headers is None else headers
        head = [b"%s %s %s" % (method, path or self._path(), version), b"Host: fermata.test"]
        head += [f"{name}: {value}".encode("latin-1") for name, value in given.items()]
        if length != b"":
            head.append(b"Content-Length: " + (length or str(len(body)).encode()))
        return b"\r\n".join([*head, *lines, b"", body])

    # -- kinds --------------------------------------------------------------------------------

    def _wrong_secret(self) -> Attack:
        return Attack([self._request()])

    def _old_replay(self) -> Attack:
        job_id, age = self._random.choice(self._targets), self._random.randrange(400, 10**9)
        headers = signed(job_id, self._body, age_seconds=age)
        path = _door() + job_id.encode()
        return Attack([self._request(headers, path=path)])

    def _of_another_job(self) -> Attack:
        return Attack([self._request(self._other)])

    def _of_another_body(self) -> Attack:
        body = self._body[: self._random.randrange(len(self._body))]
        job_id = self._random.choice(self._targets)
        path = _door() + job_id.encode()
        return Attack([self._request(signed(job_id, self._body), body, path=path)])

    def _fuzzed_signature(self) -> Attack:
        name = self._random.choice(_signed_headers()).encode()
        headers = self._forged()
        del headers[name.decode()]
        value = self._random.choice([b"", b"sha256=", b"9" * 400]) + self._text(80)
        return Attack([self._request(headers, lines=[name + b": " + value])], hangs_up=True)

    def _fuzzed_header(self) -> Attack:
        line = self._text(30) + self._random.choice([b": ", b":", b"", b" : "]) + self._text(300)
        return Attack([self._request(lines=[line])], hangs_up=True)

    def _doubled_header(self) -> Attack:
        job_id = self._random.choice(self._targets)
        headers, path = signed(job_id, self._body), _door() + job_id.encode()
        name = self._random.choice(_signed_headers())
        line = f"{name}: {self._random.choice([headers[name], '0', ''])}".encode()
        return Attack([self._request(headers, path=path, lines=[line])], hangs_up=True)

    def _huge_header(self) -> Attack:
        size = self._random.choice([8000, 8190, 8191, 9000, 70_000])
        return Attack([self._request(lines=[b"X-Webhook-Id: " + b"x" * size])], hangs_up=True)

    def _many_headers(self) -> Attack:
        lines = [b"X-%d: x" % n for n in range(self._random.choice([50, 99, 101, 500]))]
        return Attack([self._request(lines=lines)], hangs_up=True)

    def _invalid_length(self) -> Attack:
        lengths = [b"-1", b"+5", b"5a", b"5, 6", b"0x10", b"1_0", b" ", b"\xb2", b"9" * 30, b"1e3"]
        length = self._random.choice(lengths)
        return Attack([self._request(length=length)], hangs_up=True)

    def _two_lengths(self) -> Attack:
        return Attack([self._request(lines=[b"Content-Length: 2"])], hangs_up=True)

    def _chunked(self) -> Attack:
        size = self._random.randrange(1, 2000)
        pieces = [self._body[i : i + size] for i in range(0, len(self._body), size)]
        chunks = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)
        body = chunks + b"0\r\n\r\n"
        return Attack([self._request(body=body, length=b"", lines=[b"Transfer-Encoding: chunked"])])

    def _broken_chunks(self) -> Attack:
        bodies = [b"zz\r\n{}\r\n", b"-2\r\n{}\r\n0\r\n\r\n", b"ffffffff\r\n{}", b"2\r\n{}0\r\n\r\n",
                  b"2;" + b"x" * 9000 + b"\r\n{}\r\n0\r\n\r\n", self._bytes(200)]  # fmt: skip
        codings = [b"chunked", b"Chunked", b"chunked, chunked", b"xchunked", b"chunked\x0b"]
        line = b"Transfer-Encoding: " + self._random.choice(codings)
        length = self._random.choice([b"", b"4"])
        body = self._random.choice(bodies)
        return Attack([self._request(body=body, length=length, lines=[line])], hangs_up=True)

    def _truncated_body(self) -> Attack:
        body = self._body[: self._random.randrange(len(self._body))]
        length = str(len(self._body)).encode()
        return Attack([self._request(body=body, length=length)], hangs_up=True)

    def _truncated_head(self) -> Attack:
        request = self._request()
        return Attack([request[: self._random.randrange(1, 200)]], hangs_up=True)

    def _odd_body(self) -> Attack:
        bodies = [b"[" * 50_000, b'{"a":' * 5_000, b"NaN", b'{"event":NaN}', b"\xff\xfe",
                  b"\0" * 99, b"", b"1e999", b'"\\ud800"', self._bytes(5_000)]  # fmt: skip
        body = self._random.choice(bodies)
        return Attack([self._request(signed("x", body, secret="wrong"), body)])

    def _too_large(self) -> Attack:
        length = str(self._random.choice([2**20 + 1, 2**31, 2**63, 10**20])).encode()
        return Attack([self._request(body=b"{}", length=length)], hangs_up=True)

    def _wrong_method(self) -> Attack:
        methods = [b"GET", b"HEAD", b"PUT", b"PATCH", b"DELETE", b"OPTIONS", b"TRACE", b"CONNECT",
                   b"BREW", b"post", b"M" * 30, b"P\xd6ST", b"PO ST", b""]  # fmt: skip
        method = self._random.choice(methods)
        return Attack([self._request(method=method)], hangs_up=True)

    def _liveness(self) -> Attack:
        return Attack([self._request(method=b"GET", path=b"/healthz")])

    def _odd_path(self) -> Attack:
        job = self._random.choice(self._targets).encode()
        door = _door()
        paths = [door + b"..%2f" + job, door + b"%00", door,
                 door + b"../../etc/passwd", door + job + b"%00",
                 door + job + b"/", door.replace(b"/", b"//") + job, b"*",
                 door + job + b"%0d%0aX-Webhook-Id:%20x", door + b"%ff",
                 door + b"a" * self._random.choice([129, 4000, 9000]),
                 b"http://evil.test" + door + job, b"http://[::1", b"/%", b"/\xff\xfe",
                 door + self._text(40).replace(b" ", b"%20"), b"x:y:z",
                 b"/?" + job, door + job + b"?" + b"a=b&" * 500]  # fmt: skip
        return Attack([self._request(path=self._random.choice(paths))], hangs_up=True)

    def _odd_version(self) -> Attack:
        versions = [b"HTTP/1.0", b"HTTP/0.9", b"HTTP/2.0", b"HTTP/1.9", b"HTTP/9", b"ICY", b""]
        version = self._random.choice(versions)
        return Attack([self._request(version=version)], hangs_up=True)

    def _another_protocol(self) -> Attack:
        starts = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00",
                  b"*1\r\n$4\r\n", b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n", b"\r\n" * 50,
                  b"\0" * 500]  # fmt: skip
        return Attack([self._random.choice(starts) + self._bytes(500)], hangs_up=True)

    def _upgrade(self) -> Attack:
        protocol = self._random.choice([b"h2c", b"websocket", b"TLS/1.0"])
        lines = [b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: " + protocol]
        lines.append(b"HTTP2-Settings: AAMAAABkAAQAAP__")
        return Attack([self._request(lines=lines)], hangs_up=True)

    def _gzipped(self) -> Attack:
        bomb = gzip.compress(b"0" * 1_000_000)
        body = self._random.choice([gzip.compress(self._body), bomb, b"\x1f\x8b" + self._bytes(99)])
        headers = signed("x", body, secret="wrong")
        return Attack([self._request(headers, body, lines=[b"Content-Encoding: gzip"])])

    def _expecting(self) -> Attack:
        line = b"Expect: " + self._random.choice([b"100-continue", b"200-ok", self._text(20)])
        return Attack([self._request(lines=[line])], hangs_up=True)

    def _odd_content_type(self) -> Attack:
        types = ["multipart/form-data; boundary=x", "application/x-www-form-urlencoded", "é/é", "x"]
        headers = self._forged() | {"Content-Type": self._random.choice(types)}
        return Attack([self._request(headers)])

    def _pipelined(self) -> Attack:
        requests = self._random.randrange(2, 6)
        return Attack([b"".join(self._request() for _ in range(requests))], requests)

    def _in_small_pieces(self) -> Attack:
        request = self._request()
        cuts = sorted(self._random.sample(range(1, len(request)), 10))
        edges = [0, *cuts, len(request)]
        return Attack([request[a:b] for a, b in itertools.pairwise(edges)])


KINDS: Final = tuple(
    name.removeprefix("_")
    for name, method in vars(Source).items()
    if getattr(method, "__annotations__", {}).get("return") is Attack
    and name not in {"draw", "_replay"}
)


class Sender:
    """A stranger with a socket that it keeps open for as long as the server does."""

    def __init__(self, url: str) -> None:
        self._address = (urlsplit(url).hostname or "", urlsplit(url).port or 0)
        self._socket: socket.socket | None = None
        self._buffer = b""

    def send(self, attack: Attack) -> list[int]:
        """Send an attack; returns the statuses of the answers, as many as came."""
        connection = self._connect()
        try:
            for piece in attack.data:
                connection.sendall(piece)
            if attack.hangs_up:
                connection.shutdown(socket.SHUT_WR)
        except (BrokenPipeError, ConnectionResetError):
            pass  # the server has stopped reading; its answer is still to be read
        if attack.hangs_up:
            heard = self._drain(connection)
            self.close()
            return heard
        return list(self._answers(connection, attack.requests))

    def begin(self, data: bytes) -> None:
        """Send the beginning of a request, and fall silent."""
        self._connect().sendall(data)

    def ended(self) -> bool:
        """Wait until the server has hung up; says whether it ignored the request."""
        return not [status for status in self._drain(self._connect()) if status < 400]

    def close(self) -> None:
        if self._socket:
            self._socket.close()
        self._socket, self._buffer = None, b""

    def _connect(self) -> socket.socket:
        if self._socket is None:
            self._socket = socket.create_connection(self._address, timeout=TIMEOUT_SECONDS)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return self._socket

    def _drain(self, connection: socket.socket) -> list[int]:
        said = self._buffer
        try:
            while data := connection.recv(65536):
                said += data
        except ConnectionResetError:
            pass
        return [int(status) for status in _STATUS.findall(said)]

    def _answers(self, connection: socket.socket, requests: int) -> Iterator[int]:
        for _ in range(requests):
            while b"\r\n\r\n" not in self._buffer:
                self._read(connection)
            head, _, rest = self._buffer.partition(b"\r\n\r\n")
            status, length = _STATUS.match(head), _LENGTH.search(head + b"\r\n")
            assert status, head
            assert length, head
            while len(rest) < int(length[1]):
                self._read(connection)
                rest = self._buffer.partition(b"\r\n\r\n")[2]
            self._buffer = rest[int(length[1]) :]
            yield int(status[1])
            if b"connection: close" in head.lower():
                self.close()
                return

    def _read(self, connection: socket.socket) -> None:
        data = connection.recv(65536)
        assert data, f"the connection was closed after {self._buffer!r}"
        self._buffer += data


def _door() -> bytes:
    return tongue.current.door.encode()


def _signed_headers() -> list[str]:
    scheme = tongue.current.scheme
    return [scheme.signature_header, scheme.timestamp_header]
