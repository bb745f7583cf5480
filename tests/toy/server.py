"""The toy provider as a process: it passes each request to a simulator, and each webhook back.

``python -m tests.toy.server --port N --simulator http://127.0.0.1:M``
"""

import argparse
import base64
import hashlib
import hmac
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar
from urllib.parse import parse_qs, quote, urlsplit

import requests

from tests.toy.dialect import PATHS, to_simulator, to_toy_bytes

SECONDS = 60


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    simulator: ClassVar[str]
    address: ClassVar[str]
    keys: ClassVar[dict[str, str]] = {}
    """For each callback's URL, the key that signs it."""

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path.startswith("/relay"):
            self._relay(raw)
        else:
            self._submit(json.loads(raw))

    def do_GET(self) -> None:
        handle = self.path.rpartition("/")[2]
        answer = self._ask("GET", f"/sonic/task/{handle}")
        said = to_toy_bytes(answer.content)
        ended = b'"broken"' in said or b'"refund"' in said
        if answer.status_code == 202:
            self._answer(200, b'{"phase": "working"}')
        elif answer.status_code >= 400 and ended:
            self._answer(200, json.dumps(json.loads(said) | {"phase": "broken"}).encode())
        else:
            self._answer(answer.status_code, said)

    def _submit(self, wanted: dict[str, Any]) -> None:
        to = wanted.get("notify", {}).get("to", "")
        if to:
            self.keys[to] = wanted["notify"]["key"]
        webhook_url = f"{self.address}/relay?to={quote(to, safe=':/')}"
        body = to_simulator(wanted, webhook_url)
        try:
            answer = self._ask("POST", PATHS[wanted["kind"]], json=body)
        except requests.ConnectionError:
            self.close_connection = True  # without an answer, as the simulator did
            return
        self._answer(
            answer.status_code,
            to_toy_bytes(answer.content),
            {name: answer.headers[name] for name in ("Retry-After",) if name in answer.headers},
        )

    def _relay(self, raw: bytes) -> None:
        [to] = parse_qs(urlsplit(self.path).query)["to"]
        key, timestamp = self.keys[to], self.headers["X-Webhook-Timestamp"]
        digest = hmac.new(key.encode(), timestamp.encode() + b"." + raw, hashlib.sha256)
        is_forged = self.headers["X-Webhook-Signature"] != f"sha256={digest.hexdigest()}"
        # The simulator may forge a signature on purpose. Then this delivery must be forged as well.
        secret = b"a key that nobody has" if is_forged else base64.b64decode(key[len("whsec_") :])
        delivery_id, body = self.headers["X-Webhook-Id"], to_toy_bytes(raw)
        signed = f"{delivery_id}.{timestamp}.".encode() + body
        signature = base64.b64encode(hmac.new(secret, signed, hashlib.sha256).digest()).decode()
        headers = {
            "webhook-id": delivery_id,
            "webhook-timestamp": timestamp,
            "webhook-signature": f"v1,{signature}",
            "Content-Type": "application/json",
        }
        answer = requests.post(to, data=body, headers=headers, timeout=SECONDS)
        self._answer(answer.status_code, answer.content)

    def _ask(self, method: str, path: str, **content: Any) -> requests.Response:
        headers = {"Authorization": self.headers["Authorization"]}
        url = f"{self.simulator}/api/v1{path}"
        return requests.request(method, url, headers=headers, timeout=SECONDS, **content)

    def _answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Log nothing: the simulator's books have every request."""


def main() -> None:
    parser = argparse.ArgumentParser(description="The toy provider, in front of a simulator.")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--simulator", required=True, help="its address")
    given = parser.parse_args()
    Handler.simulator, Handler.address = given.simulator, f"http://127.0.0.1:{given.port}"
    ThreadingHTTPServer(("127.0.0.1", given.port), Handler).serve_forever()


if __name__ == "__main__":
    main()
