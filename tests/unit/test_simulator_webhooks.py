"""The simulator's webhooks: signed, in order, again, late, or wrong as the scenario says."""

import hashlib
import hmac
import json
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from queue import Queue
from typing import Any

import pytest
import requests

from simulator.app import create_app
from simulator.scenarios import Scenario, vary
from simulator.serving import serve
from simulator.settings import Settings
from tests.unit.answers import Answer, Http

KEY = {"Authorization": "Bearer sk_simulator"}
URL, SECRET = "http://hooks/jobs/j-1", "whsec_test"
CREATE: dict[str, Any] = {
    "custom_mode": True,
    "mv": "sonic-v5",
    "prompt": "La la",
    "webhook_url": URL,
    "webhook_secret": SECRET,
}

Delivery = tuple[bytes, dict[str, str]]


class Provider:
    """A simulator whose webhooks land in a queue; each is answered with the next status."""

    def __init__(self, statuses: Iterable[int | None] = (), **settings: Any) -> None:
        self.received: Queue[Delivery] = Queue()
        self._statuses = iter(statuses)
        self._settings = {"retry_backoff_seconds": 0, "delivery_threads": 2} | settings

    def start(
        self,
        clock: Callable[[], float] = time.time,
        path: str = "/sonic/create",
        body: object = CREATE,
        **fields: object,
    ) -> Answer:
        scenario = vary(Scenario(latency_seconds=0), fields)
        app = create_app(
            Settings(scenario=scenario, **self._settings), post=self._post, clock=clock
        )
        self.http: Http = app.test_client()
        return self.http.post(f"/api/v1{path}", json=body, headers=KEY)

    def _post(self, url: str, body: bytes, headers: Mapping[str, str]) -> int:
        self.received.put((body, dict(headers)))
        status = next(self._statuses, 204)
        if status is None:
            raise ConnectionRefusedError
        return status

    def take(self, count: int = 1) -> list[Delivery]:
        return [self.received.get(timeout=5) for _ in range(count)]

    def deliveries(self, count: int) -> list[dict[str, Any]]:
        """Wait for `count` attempts to be in the books: they are written after the answer."""
        entries: list[dict[str, Any]] = []
        while len(entries) < count:
            entries = self.http.get("/_simulator/books").json["tasks"][0]["deliveries"]
        return entries


def is_genuine(body: bytes, headers: dict[str, str], secret: str = SECRET) -> bool:
    signed = headers["X-Webhook-Timestamp"].encode() + b"." + body
    digest = hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()
    return headers["X-Webhook-Signature"] == f"sha256={digest}"


def events(received: Iterable[Delivery]) -> list[str]:
    return [headers["X-Webhook-Event"] for _, headers in received]


def test_a_completed_webhook_is_the_poll_body_and_an_envelope() -> None:
    provider = Provider()
    task_id = provider.start().json["task_id"]
    ((body, headers),) = provider.take()
    polled = provider.http.get(f"/api/v1/sonic/task/{task_id}", headers=KEY).json
    envelope = {"task_id": task_id, "platform": "suno", "event": "song.completed"}
    assert json.loads(body) == polled | envelope
    assert is_genuine(body, headers)
    assert headers["Idempotency-Key"] == headers["X-Webhook-Id"]
    assert headers["Content-Type"] == "application/json"


def test_a_failed_webhook_has_neither_code_nor_data() -> None:
    provider = Provider(platform="sonic")
    task_id = provider.start(outcome="fail").json["task_id"]
    ((body, headers),) = provider.take()
    assert headers["X-Webhook-Event"] == "song.failed"
    assert json.loads(body) == {
        "type": "failed",
        "message": "Generation failed",
        "refund_processed": True,
        "task_id": task_id,
        "platform": "sonic",
        "event": "song.failed",
    }


def test_streaming_events_come_before_the_end() -> None:
    provider = Provider(delivery_threads=1)
    provider.start(streaming=2)
    received = provider.take(3)
    assert events(received) == ["song.streaming", "song.streaming", "song.completed"]
    streamed = json.loads(received[0][0])
    assert streamed["message"] == "streaming"
    assert streamed["data"][0]["state"] == "running"
    assert len({headers["X-Webhook-Id"] for _, headers in received}) == 3


def test_a_reordered_streaming_event_comes_after_the_end() -> None:
    provider = Provider()
    provider.start(webhook="reordered")
    assert events(provider.take(2)) == ["song.completed", "song.streaming"]


def test_an_early_webhook_is_there_before_the_submit_is_answered() -> None:
    provider = Provider()
    provider.start(webhook="early", latency_seconds=3600)
    assert provider.received.qsize() == 1


def test_a_duplicate_webhook_has_one_delivery_id() -> None:
    provider = Provider()
    provider.start(webhook="duplicate", copies=3)
    ids = {headers["X-Webhook-Id"] for _, headers in provider.take(3)}
    assert len(ids) == 1


def test_a_lost_webhook_leaves_a_finished_task_and_nothing_in_the_books() -> None:
    provider = Provider()
    provider.start(webhook="lost")
    (task,) = provider.http.get("/_simulator/books").json["tasks"]
    assert (task["state"], task["deliveries"]) == ("succeeded", [])


def test_a_late_webhook_comes_after_a_poll_has_said_so() -> None:
    provider = Provider()
    task_id = provider.start(webhook="late", late_seconds=0.05).json["task_id"]
    polled = provider.http.get(f"/api/v1/sonic/task/{task_id}", headers=KEY).json
    assert polled["data"][0]["state"] == "succeeded"
    (delivery,) = provider.deliveries(1)
    (task,) = provider.http.get("/_simulator/books").json["tasks"]
    assert delivery["at"] - task["done_at"] >= 0.049


@pytest.mark.parametrize("kind", ["forged", "malformed", "nonsense"])
def test_a_wrong_webhook_is_sent_once_even_if_it_is_refused(kind: str) -> None:
    provider = Provider(statuses=[400])
    provider.start(webhook=kind)
    ((body, headers),) = provider.take()
    assert is_genuine(body, headers) is (kind != "forged")
    if kind == "malformed":
        with pytest.raises(ValueError, match="Unterminated"):
            json.loads(body)
    if kind == "nonsense":
        assert isinstance(json.loads(body), list)
    assert [entry["http_status"] for entry in provider.deliveries(1)] == [400]


def test_a_refused_delivery_is_retried_under_the_same_id_until_it_is_taken() -> None:
    provider = Provider(statuses=[500, None, 200])
    provider.start()
    received = provider.take(3)
    assert len({headers["X-Webhook-Id"] for _, headers in received}) == 1
    assert all(is_genuine(body, headers) for body, headers in received)
    statuses = [entry["http_status"] for entry in provider.deliveries(3)]
    assert statuses == [500, None, 200]


def test_retries_end_when_they_are_used_up() -> None:
    provider = Provider(statuses=[500] * 9, retries=2, delivery_threads=1)
    provider.start()
    provider.take(3)
    provider.deliveries(3)
    assert provider.received.empty()


@pytest.mark.parametrize("replay", [False, True])
def test_a_retry_is_signed_again_or_replayed_as_it_is_set(replay: bool) -> None:
    moments = count(1_763_800_000, step=400)
    provider = Provider(statuses=[500], replay_timestamp=replay)
    provider.start(clock=lambda: next(moments))
    stamps = [headers["X-Webhook-Timestamp"] for _, headers in provider.take(2)]
    assert (stamps[0] == stamps[1]) is replay


HOOK: dict[str, Any] = {"webhook_url": URL, "webhook_secret": SECRET}
AUDIO = "https://files.example/a.mp3"


@pytest.mark.parametrize(
    ("path", "body", "platform", "names"),
    [
        ("/producer/create", {"sound": "jazz"}, "producer", {"code", "data", "message"}),
        ("/sonic/create-voice", {"audio_url": AUDIO}, "suno", {"code", "data", "message"}),
        ("/nuro/create", {"type": "vocal", "lyrics": "La"}, "nuro", {"status", "timbre", "theme"}),
    ],
)
def test_a_webhook_names_its_platform_and_tells_what_a_poll_tells(
    path: str, body: dict[str, Any], platform: str, names: set[str]
) -> None:
    provider = Provider(nuro="working")
    provider.start(path=path, body=body | HOOK, streaming=2)
    ((raw, headers),) = [hook for hook in provider.take() if is_genuine(*hook)]
    told = json.loads(raw)
    assert (told["platform"], headers["X-Webhook-Event"]) == (platform, "song.completed")
    assert names <= set(told)


@pytest.mark.parametrize("path", ["/sonic/stems/basic", "/sonic/bpm", "/producer/video-clip"])
def test_what_takes_no_webhook_sends_none(path: str) -> None:
    provider = Provider()
    clip_id = "26c9c592-0566-46cf-bb71-91ac1deaa7b5"
    assert provider.start(path=path, body={"clip_id": clip_id} | HOOK, webhook="early").json
    assert provider.received.empty()


@pytest.mark.parametrize("kind", ["unsigned", "signed"])
def test_an_upload_calls_back_what_it_would_have_answered(kind: str) -> None:
    provider = Provider(upload_callback=kind)
    body = {"url": AUDIO, "callback_url": URL, "webhook_secret": SECRET}
    answer = provider.start(path="/sonic/upload", body=body).json
    ((raw, headers),) = provider.take()
    told = json.loads(raw)
    assert (told["task_id"], told["code"]) == (answer["task_id"], 200)
    polled = provider.http.get(f"/api/v1/sonic/task/{answer['task_id']}", headers=KEY).json
    assert told["clip_id"] == polled["clip_id"] == polled["data"][0]["clip_id"]
    assert ("X-Webhook-Signature" in headers) is (kind == "signed")
    assert kind == "unsigned" or is_genuine(raw, headers)


@contextmanager
def receiver() -> Iterator[tuple[str, Queue[Delivery]]]:
    """A real HTTP server that keeps what it is sent."""
    received: Queue[Delivery] = Queue()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            received.put((body, dict(self.headers)))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/jobs/j-1", received
        server.shutdown()


@contextmanager
def running(settings: Settings) -> Iterator[str]:
    server = serve(create_app(settings), "127.0.0.1", 0)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.port}"
    server.shutdown()
    thread.join()


def test_a_dropped_submit_closes_the_connection_and_is_still_called_back() -> None:
    settings = Settings(scenario=Scenario(latency_seconds=0), delivery_threads=2)
    with receiver() as (hook, received), running(settings) as address:
        rule = {"match": "j-1", "scenario": {"submit": "drop"}}
        requests.post(f"{address}/_simulator/scenarios", json=rule, timeout=5)
        with pytest.raises(requests.ConnectionError):
            requests.post(
                f"{address}/api/v1/sonic/create",
                json=CREATE | {"webhook_url": hook},
                headers=KEY,
                timeout=5,
            )
        body, headers = received.get(timeout=5)
        assert is_genuine(body, headers)


def test_a_port_in_use_is_refused() -> None:
    settings = Settings()
    with running(settings) as address, pytest.raises(OSError, match="in use"):
        serve(create_app(settings), "127.0.0.1", int(address.rsplit(":", 1)[1]))
