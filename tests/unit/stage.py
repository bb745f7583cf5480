"""An HTTP server of a few lines: it keeps every request, and answers as a test tells it to."""

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

Say = Callable[[socket.socket], None]


def reply(status: str = "200 OK", body: bytes = b"{}", **headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def saying(raw: bytes) -> Say:
    return lambda connection: connection.sendall(raw)


@dataclass
class Heard:
    """One request: the port it came from, its first line, its headers and its body."""

    port: int
    line: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Stage:
    """A provider of a few lines: it keeps every request, and answers as a test tells it to."""

    url: str
    say: Say = field(default_factory=lambda: saying(reply()))
    heard: list[Heard] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)

    def hang(self, connection: socket.socket) -> None:
        self.over.wait(10)

    def play(self, connection: socket.socket) -> None:
        """Answer one connection until the client closes it, whatever the client had announced."""
        connection.settimeout(10)
        # A message that is not HTTP (a handshake of TLS) ends the connection.
        with (
            contextlib.suppress(OSError, ValueError),
            connection,
            connection.makefile("rb") as file,
        ):
            while first := file.readline():
                pairs = (line.decode().split(": ", 1) for line in iter(file.readline, b"\r\n"))
                headers = {name.lower(): value.strip() for name, value in pairs}
                body = file.read(int(headers.get("content-length", 0)))
                port = connection.getpeername()[1]
                self.heard.append(Heard(port, first.decode().strip(), headers, body))
                self.say(connection)


@contextlib.contextmanager
def on_stage() -> Iterator[Stage]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        stage = Stage(f"http://127.0.0.1:{server.getsockname()[1]}")

        def accept() -> None:
            with contextlib.suppress(OSError):
                while not stage.over.is_set():
                    connection, _ = server.accept()
                    threading.Thread(target=stage.play, args=(connection,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield stage
        stage.over.set()
        server.shutdown(socket.SHUT_RDWR)
