"""A provider that accepts everything, so that it is not what is measured.

``python -m benchmarks.stub PORT SECONDS``: every POST is answered after so many seconds with
``{"message": "success", "task_id": …}``; GET lists, and forgets, the moment (monotonic seconds) at
which each job's submit arrived.
"""

import asyncio
import json
import sys
import time
import uuid
from collections import deque

ARRIVALS_KEPT = 100_000

arrivals: deque[tuple[float, bytes]] = deque(maxlen=ARRIVALS_KEPT)


class Provider(asyncio.Protocol):
    """One connection, one request."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._received = b""

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, complete, body = self._received.partition(b"\r\n\r\n")
        if not complete or len(body) < _content_length(head):
            return
        if head.startswith(b"POST"):
            arrivals.append((time.monotonic(), body))
            accepted = {"message": "success", "task_id": str(uuid.uuid4())}
            asyncio.get_running_loop().call_later(self._seconds, self._answer, accepted)
        else:
            self._answer({_job_id(each): at for at, each in arrivals})
            arrivals.clear()

    def _answer(self, content: object) -> None:
        body = json.dumps(content).encode()
        head = (
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        self._transport.write(head.encode() + body)
        self._transport.close()


def _content_length(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    return 0


def _job_id(body: bytes) -> str:
    return str(json.loads(body)["webhook_url"]).rpartition("/")[2]


async def serve(port: int, seconds: float) -> None:
    """Serve on the loopback address until the process ends."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Provider(seconds), "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), float(sys.argv[2])))
