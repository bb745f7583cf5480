"""The load generator, a process of its own: ``python -m benchmarks.load``, its plan on stdin.

It sends every request of the plan once, over a few keep-alive connections, as fast as they are
answered or at a steady rate, and writes what came of each to stdout.
"""

import json
import selectors
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

GIVE_UP_SECONDS = 60
CONNECTIONS = 8


@dataclass(frozen=True, slots=True)
class Plan:
    """Requests to send to a loopback port, each as the text of its HTTP/1.1 message."""

    port: int
    requests: Sequence[str]
    per_second: float | None = None
    connections: int = CONNECTIONS


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one request. Moments are monotonic seconds, as in any process here."""

    sent_at: float
    answered_at: float
    http_status: int
    body: str


def send(plan: Plan) -> list[Outcome]:
    """Run a plan in a process of its own; outcomes are in the order of the requests."""
    command = [sys.executable, "-m", "benchmarks.load"]
    done = subprocess.run(
        command, input=json.dumps(asdict(plan)), capture_output=True, text=True, check=True
    )
    return [Outcome(*fields) for fields in json.loads(done.stdout)]


@dataclass(slots=True)
class _Connection:
    socket: socket.socket
    received: bytes = b""
    number: int = -1
    sent_at: float = field(default=0.0)

    def send(self, number: int, request: bytes) -> None:
        self.received, self.number, self.sent_at = b"", number, time.monotonic()
        self.socket.sendall(request)

    def receive(self) -> tuple[int, str] | None:
        """Read on; returns status and body once the answer is complete."""
        chunk = self.socket.recv(65536)
        if not chunk:
            raise ConnectionError("the server closed a connection that was to be kept")
        self.received += chunk
        head, complete, body = self.received.partition(b"\r\n\r\n")
        if not complete or len(body) < _content_length(head):
            return None
        return int(head.split(b" ", 2)[1]), body.decode()


def _content_length(head: bytes) -> int:
    lower = head.lower()
    start = lower.index(b"content-length:") + len(b"content-length:")
    return int(lower[start:].split(b"\r\n", 1)[0])


def run(plan: Plan) -> list[Outcome]:
    """Send every request once.

    Raises TimeoutError where the server does not answer, ConnectionError where it hangs up.
    """
    selector = selectors.DefaultSelector()
    requests = deque(enumerate(each.encode() for each in plan.requests))
    idle = deque(_connect(plan.port, selector) for _ in range(plan.connections))
    outcomes: dict[int, Outcome] = {}
    start = time.monotonic()
    while len(outcomes) < len(plan.requests):
        due = _due(plan, start, requests[0][0]) if requests else float("inf")
        while idle and requests and due <= time.monotonic():
            idle.popleft().send(*requests.popleft())
            due = _due(plan, start, requests[0][0]) if requests else float("inf")
        _collect(selector, idle, outcomes, min(max(due - time.monotonic(), 0), 0.5))
        if time.monotonic() - start > GIVE_UP_SECONDS:
            raise TimeoutError(f"{len(outcomes)} of {len(plan.requests)} were answered in time")
    return [outcomes[number] for number in sorted(outcomes)]


def _connect(port: int, selector: selectors.BaseSelector) -> _Connection:
    connection = _Connection(socket.create_connection(("127.0.0.1", port), timeout=10))
    connection.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    selector.register(connection.socket, selectors.EVENT_READ, connection)
    return connection


def _due(plan: Plan, start: float, number: int) -> float:
    return start + number / plan.per_second if plan.per_second else start


def _collect(
    selector: selectors.BaseSelector,
    idle: deque[_Connection],
    outcomes: dict[int, Outcome],
    wait_seconds: float,
) -> None:
    for key, _ in selector.select(wait_seconds if idle else 0.5):
        connection: _Connection = key.data
        answer = connection.receive()
        if answer:
            now = time.monotonic()
            outcomes[connection.number] = Outcome(connection.sent_at, now, *answer)
            idle.append(connection)


if __name__ == "__main__":
    outcomes = run(Plan(**json.load(sys.stdin)))
    rows = [(o.sent_at, o.answered_at, o.http_status, o.body) for o in outcomes]
    json.dump(rows, sys.stdout)
