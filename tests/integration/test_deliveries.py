"""Webhook deliveries: early, late, twice, out of order, forged, hostile and unreadable."""

import http.client
import json
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
from redis import Redis

from tests.integration import flow as provider
from tests.integration.conftest import Flows
from tests.integration.flow import (
    GET_SECONDS,
    Flow,
    completed,
    deliver,
    failed,
    signed,
    streaming,
    who,
)
from tests.system import System, stop
from worker.core import signing
from worker.core.errors import TaskFailed
from worker.core.providers.aimusic.signing import SCHEME

DEEP = b'{"event":"song.completed","data":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
TWO_MEGABYTES = b"x" * 2 * 1024 * 1024
NOT_UTF8 = b'{"event":"song.completed","title":"\xff\xfe"}'


def test_a_webhook_before_the_submits_answer_settles_the_job(flow: Flow) -> None:
    job = flow.job(provider.clip(), rule={"webhook": "early"})

    result = (job | flow.note()).apply_async().get(timeout=GET_SECONDS)

    [task] = flow.accepted(job.id)
    assert result["provider_task_id"] == task["provider_task_id"]
    flow.ends()
    flow.delivered(job.id, "song.completed")
    assert flow.record(job.id).polls == 0


RECEIVE = """
import json, sys
from webhook_receiver.wsgi import app
path, headers, body = json.load(sys.stdin)
answer = app.test_client().post(path, headers=headers, data=body)
print(json.dumps([answer.json, [name.partition(".")[0] for name in sys.modules]]))
"""


def test_a_receiver_takes_a_webhook_without_celery_and_kombu(flow: Flow) -> None:
    job, body = flow.hold(), provider.raw(completed())
    result = job.apply_async()
    flow.waits(job.id)

    given = [f"/webhooks/aimusic/{job.id}", signed(job.id, body), body.decode()]
    done = subprocess.run(
        [sys.executable, "-c", RECEIVE], input=json.dumps(given), env=flow.system.environment,
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    answer, loaded = json.loads(done.stdout.splitlines()[-1])

    assert answer == {"status": "resumed"}
    assert {"celery", "kombu"}.isdisjoint(loaded)
    assert who(result.get(timeout=GET_SECONDS)) == job.id
    flow.ends()


def test_one_delivery_ten_times_at_once_resumes_once(flow: Flow) -> None:
    job, body, start = flow.hold(), completed(), Barrier(10)
    result = (job | flow.note() | flow.note()).apply_async()
    flow.waits(job.id)

    def send(_: int) -> str:
        start.wait()
        answer = flow.deliver(job.id, body, delivery_id="the-one")
        return f"{answer.status_code} {answer.json()['status']}"

    with ThreadPoolExecutor(10) as threads:
        receipts = sorted(threads.map(send, range(10)))

    assert receipts == ["200 resumed"] + ["200 without effect"] * 9
    assert who(result.get(timeout=GET_SECONDS)) == job.id
    flow.ends()
    flow.paid_once()
    assert flow.record(job.id).claims == 1


def test_two_different_endings_at_once_settle_once(flow: Flow) -> None:
    job, start = flow.hold(), Barrier(2)
    result = (job | flow.note()).apply_async()
    flow.waits(job.id)

    def send(delivery_id: str) -> tuple[str, str]:
        start.wait()
        answer = flow.deliver(job.id, completed(task_id=delivery_id), delivery_id=delivery_id)
        return answer.json()["status"], delivery_id

    with ThreadPoolExecutor(2) as threads:
        (_, winner), (lost, _) = sorted(threads.map(send, ["one", "two"]))

    assert lost == "without effect"
    assert result.get(timeout=GET_SECONDS)["provider_task_id"] == winner
    flow.ends()


def test_a_stream_is_progress_and_wakes_nothing(flow: Flow) -> None:
    job, stream = flow.hold(), streaming()
    result = (job | flow.note()).apply_async()
    flow.waits(job.id)

    assert flow.deliver(job.id, stream).json() == {"status": "progress"}

    [heard] = stream["data"]
    assert flow.record(job.id).progress == {"clips": [heard]}
    assert (flow.state(job.id), flow.record(job.id).claims) == ("waiting", 0)
    assert set(flow.runs().values()) == {0}
    assert flow.deliver(job.id, completed()).json() == {"status": "resumed"}
    [song] = result.get(timeout=GET_SECONDS)["clips"]
    assert (song["state"], song["duration_seconds"]) == ("succeeded", 7.5)
    flow.ends()


def test_streams_of_the_provider_are_followed_by_the_result(flow: Flow) -> None:
    job = flow.job(provider.clip(), rule={"streaming": 2})

    result = (job | flow.note()).apply_async().get(timeout=GET_SECONDS)

    flow.ends()
    [task] = flow.accepted(job.id)
    assert [c["clip_id"] for c in result["clips"]] == task["clip_ids"]
    flow.delivered(job.id, "song.streaming", "song.streaming", "song.completed")
    assert flow.turns(job.id).count("song.streaming") == 2
    progress = flow.record(job.id).progress or {}
    assert {c["state"] for c in progress["clips"]} == {"running"}


@pytest.mark.parametrize("late", [streaming, completed, failed])
def test_what_comes_after_settlement_has_no_effect(flow: Flow, late: Callable[[], Any]) -> None:
    job = flow.job(provider.clip())
    result = (job | flow.note()).apply_async()
    first = result.get(timeout=GET_SECONDS)
    flow.ends()
    before = flow.record(job.id)

    assert flow.deliver(job.id, late()).status_code == 200

    after = flow.record(job.id)
    assert (after.state, after.result, after.progress, after.claims, after.due_at) == (
        before.state, before.result, before.progress, before.claims, None,
    )  # fmt: skip
    assert result.get(timeout=GET_SECONDS) == first
    flow.ends()


def test_a_stream_sent_after_the_end_is_out_of_order_and_harmless(flow: Flow) -> None:
    job = flow.job(provider.clip(), rule={"webhook": "reordered"})

    result = (job | flow.note()).apply_async().get(timeout=GET_SECONDS)

    assert who(result) == job.id
    flow.ends()
    flow.paid_once()
    assert flow.state(job.id) == "succeeded"


def test_a_failure_delivered_raises_and_says_that_it_was_refunded(flow: Flow) -> None:
    job, errback = flow.hold(), flow.errback()
    result = (job | flow.note(runs=0)).apply_async(link_error=errback)
    flow.waits(job.id)

    assert flow.deliver(job.id, failed()).json() == {"status": "resumed"}

    with pytest.raises(TaskFailed, match="Generation failed") as raised:
        result.get(timeout=GET_SECONDS)
    assert (raised.value.refunded, raised.value.details["provider_type"]) == (True, "failed")
    assert flow.deliver(job.id, failed()).json() == {"status": "without effect"}
    flow.ends()
    assert flow.ran(errback) == ["TaskFailed"]
    assert (flow.state(job.id), result.state) == ("failed", "FAILURE")


@pytest.mark.parametrize("webhook", ["malformed", "nonsense"])
def test_an_unreadable_webhook_is_kept_and_the_job_settles_by_polling(
    flow: Flow, webhook: str
) -> None:
    job = flow.job(provider.clip(), rule={"webhook": webhook})

    result = (job | flow.note()).apply_async().get(timeout=GET_SECONDS)

    assert who(result) == job.id
    flow.ends()
    flow.paid_once()
    [body] = flow.quarantined(job.id)
    assert body.startswith(b'{"code":200,' if webhook == "malformed" else b'["song"')
    flow.delivered(job.id, "song.completed")


UNREADABLE = {
    "empty": b"",
    "not JSON": b"song.completed",
    "not UTF-8": NOT_UTF8,
    "100,000 levels deep": DEEP,
    "a list": b"[1, 2]",
    "NaN": b'{"event":"song.completed","data":[{"duration":NaN}]}',
    "a number of 5,000 digits": b'{"event":"song.completed","x":' + b"9" * 5000 + b"}",
    "an unknown event": b'{"event":"song.exploded"}',
    "no event": b'{"data":[]}',
    "an event that is a list": b'{"event":["song.completed"]}',
    "a task id that is a number": b'{"event":"song.completed","task_id":7}',
    "a lone surrogate for an event": b'{"event":"\\ud800"}',
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_an_authentic_but_unreadable_body_is_kept_whole(flow: Flow, name: str) -> None:
    job = flow.hold()
    result = job.apply_async()
    flow.waits(job.id)

    answer = flow.deliver(job.id, UNREADABLE[name])

    assert (answer.status_code, answer.json()) == (200, {"status": "quarantined"})
    assert flow.quarantined(job.id) == [UNREADABLE[name]]
    assert flow.state(job.id) == "waiting"
    assert "quarantined" in flow.turns(job.id)
    assert flow.deliver(job.id, completed()).json() == {"status": "resumed"}
    assert who(result.get(timeout=GET_SECONDS)) == job.id


ODD = {
    "an ending without clips": completed(data=[]),
    "clips that still run": completed(data=[{"clip_id": "c", "state": "running"}]),
    "a clip that is null": completed(data=[None]),
    "data that is a text": completed(data="soon"),
}


@pytest.mark.parametrize("name", ODD)
def test_an_ending_that_ends_nothing_leaves_the_job_waiting(flow: Flow, name: str) -> None:
    job = flow.hold()
    result = job.apply_async()
    flow.waits(job.id)

    assert flow.deliver(job.id, ODD[name]).json() == {"status": "progress"}

    assert (flow.state(job.id), flow.record(job.id).claims) == ("waiting", 0)
    assert flow.deliver(job.id, completed(title="\ud800")).json() == {"status": "resumed"}
    assert who(result.get(timeout=GET_SECONDS)) == job.id


@pytest.mark.parametrize("levels", [500, 955, 975, 995])
def test_a_deep_body_is_used_or_kept_but_never_fails_a_song_that_succeeded(
    flow: Flow, levels: int
) -> None:
    """How deep a parser goes depends on its stack: receiver and worker must not disagree."""
    job = flow.hold()
    result = job.apply_async()
    flow.waits(job.id)
    body = provider.raw(completed())[:-1] + b',"x":' + b"[" * levels + b"]" * levels + b"}"

    if flow.deliver(job.id, body).json() == {"status": "quarantined"}:
        assert flow.deliver(job.id, completed()).json() == {"status": "resumed"}

    assert who(result.get(timeout=GET_SECONDS)) == job.id


# What must change nothing: a Redis that only the receiver talks to, compared byte for byte.


class Calm:
    """A parked job and a settled one, and no worker: nothing else moves."""

    def __init__(self, system: System, redis: "Redis", parked: str, settled: str) -> None:
        self.system = system
        self.parked = parked
        self.settled = settled
        self._redis = redis

    def dump(self) -> dict[bytes, Any]:
        """Every key with its value, as Redis serialises it."""
        return {key: self._redis.dump(key) for key in sorted(self._redis.scan_iter("*"))}


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Calm]:
    with System(tmp_path_factory.mktemp("calm"), FERMATA_POLL_FIRST_SECONDS="600") as system:
        worker = system.worker(concurrency=1)
        flows = Flows(system)
        flow = flows.open()
        parked, settled = flow.hold(), flow.song()
        parked.apply_async()
        flow.waits(parked.id)
        settled.apply_async().get(timeout=GET_SECONDS)
        flow.jobs = [settled.id]
        flow.ends()
        stop(worker)
        with Redis.from_url(system.redis_url) as redis:
            yield Calm(system, redis, parked.id, settled.id)
        flows.close()


def _without(header: str) -> Callable[[str, bytes], dict[str, Any]]:
    return lambda job_id, body: {k: v for k, v in signed(job_id, body).items() if k != header}


def _with(header: str, value: str | bytes) -> Callable[[str, bytes], dict[str, Any]]:
    return lambda job_id, body: signed(job_id, body) | {header: value}


def _signing(**options: Any) -> Callable[[str, bytes], dict[str, Any]]:
    return lambda job_id, body: signed(job_id, body, **options)


def _of_another_job(_: str, body: bytes) -> dict[str, Any]:
    return signed(str(uuid.uuid4()), body)


FORGED: dict[str, Callable[[str, bytes], dict[str, Any]]] = {
    "a wrong secret": _signing(secret="not-the-secret"),
    "another job's secret": _of_another_job,
    "the signing key itself": _signing(secret="k4JtXb0PZqv7LwY2cRn8sUe6hDf3aGm1"),
    "a signature of another body": lambda job_id, _: signed(job_id, b"{}"),
    "a stale timestamp": _signing(age_seconds=301),
    "a future timestamp": _signing(age_seconds=-302),
    "a timestamp that was changed": lambda j, b: signed(j, b) | {
        SCHEME.timestamp_header: signed(j, b, age_seconds=1)[SCHEME.timestamp_header]
    },
    "no headers at all": lambda *_: {},
    "no signature": _without(SCHEME.signature_header),
    "no timestamp": _without(SCHEME.timestamp_header),
    "an empty signature": _with(SCHEME.signature_header, ""),
    "a signature without its prefix": _with(SCHEME.signature_header, "0" * 64),
    "a signature in capitals": lambda j, b: signed(j, b) | {
        SCHEME.signature_header: signed(j, b)[SCHEME.signature_header].upper()
    },
    "a signature that is not ASCII": _with(SCHEME.signature_header, b"sha256=" + b"\xe9" * 64),
    "a signature of 8,000 characters": _with(SCHEME.signature_header, "sha256=" + "a" * 8000),
    "a timestamp of 5,000 digits": _with(SCHEME.timestamp_header, "1" * 5000),
    "a timestamp that is not ASCII": _with(SCHEME.timestamp_header, "١٧٠٠".encode()),
    "a timestamp of superscripts": _with(SCHEME.timestamp_header, b"\xb2\xb3\xb9"),
    "a negative timestamp": _with(SCHEME.timestamp_header, "-1"),
    "an exponent for a timestamp": _with(SCHEME.timestamp_header, "1e9"),
    "a timestamp with an underscore": _with(SCHEME.timestamp_header, "1_800_000_000"),
    "NaN for a timestamp": _with(SCHEME.timestamp_header, "NaN"),
    "two timestamps": _with(SCHEME.timestamp_header, "1, 2"),
}  # fmt: skip


@pytest.mark.parametrize("target", ["parked", "settled", "unknown"])
@pytest.mark.parametrize("name", FORGED)
def test_a_forged_delivery_is_401_and_writes_nothing(calm: Calm, name: str, target: str) -> None:
    job_id = getattr(calm, target, "never-heard-of")
    body, before = provider.raw(completed()), calm.dump()

    answer = deliver(calm.system, job_id, body, headers=FORGED[name](job_id, body))

    assert (answer.status_code, answer.json()) == (401, {"error": "invalid signature"})
    assert calm.dump() == before


BODIES = {"100,000 levels": DEEP, "not UTF-8": NOT_UTF8, "empty": b"", "zeros": b"\0" * 1000}


@pytest.mark.parametrize("name", BODIES)
def test_a_forged_body_is_never_read(calm: Calm, name: str) -> None:
    before = calm.dump()

    answer = deliver(calm.system, calm.parked, BODIES[name], secret="not-the-secret")

    assert answer.status_code == 401
    assert calm.dump() == before


@pytest.mark.parametrize("secret", ["", "not-the-secret"], ids=["authentic", "forged"])
def test_two_megabytes_are_413(calm: Calm, secret: str) -> None:
    before = calm.dump()

    answer = deliver(calm.system, calm.parked, TWO_MEGABYTES, secret=secret)

    assert (answer.status_code, answer.json()) == (413, {"error": "request entity too large"})
    assert calm.dump() == before


def test_two_megabytes_in_chunks_are_413(calm: Calm) -> None:
    before, headers = calm.dump(), signed(calm.parked, TWO_MEGABYTES)
    chunks = (TWO_MEGABYTES[:65536] for _ in range(32))

    url = f"{calm.system.receiver_url}/webhooks/aimusic/{calm.parked}"
    answer = requests.post(url, data=chunks, headers=headers, timeout=10)

    assert answer.status_code == 413
    assert calm.dump() == before


@pytest.mark.parametrize("job_id", ["never-heard-of", str(uuid.UUID(int=7)), "a" * 128])
def test_progress_of_an_unknown_job_is_not_worth_keeping(calm: Calm, job_id: str) -> None:
    before = calm.dump()

    answer = deliver(calm.system, job_id, streaming())

    assert (answer.status_code, answer.json()) == (200, {"status": "without effect"})
    assert calm.dump() == before


@pytest.mark.parametrize(
    "path", ["a" * 129, "%0d%0a", "%00", "-", "a%20b", "é", "%ff", "..%2f..", "a/b", "", "*"]
)
def test_an_id_that_no_job_can_have_is_404(calm: Calm, path: str) -> None:
    before = calm.dump()

    answer = deliver(calm.system, path, completed())

    assert answer.status_code == 404
    assert calm.dump() == before


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "PATCH", "DELETE"])
def test_another_method_is_405(calm: Calm, method: str) -> None:
    before = calm.dump()

    answer = deliver(calm.system, calm.parked, completed(), method=method)

    assert answer.status_code == 405
    assert calm.dump() == before


HOSTILE = {
    "X-Webhook-Id": ["", "x" * 8000, "a\tb", "ÿ", '"}{'],
    "X-Webhook-Event": ["song.failed", "x" * 8000, "ÿ"],
    "Content-Type": ["text/html; charset=nonsense", "multipart/form-data; boundary=x", "ÿ"],
    "Content-Encoding": ["gzip"],
    "Expect": ["100-continue"],
    "X-Forwarded-For": ["' OR 1=1"],
}


@pytest.mark.parametrize(
    ("header", "value"), [(name, each) for name, values in HOSTILE.items() for each in values]
)
def test_hostile_headers_on_an_authentic_stream_do_no_harm(
    calm: Calm, header: str, value: str
) -> None:
    body = provider.raw(streaming())
    headers: dict[str, str | bytes] = {**signed(calm.parked, body), header: value.encode("latin-1")}

    answer = deliver(calm.system, calm.parked, body, headers=headers)

    assert (answer.status_code, answer.json()) == (200, {"status": "progress"})


@pytest.mark.parametrize(
    "line",
    [b"X-Webhook-Id: a\x00b", b"X Webhook: x", b": x", b"\xff\xfe: x", b"X-Webhook-Id: \x7f"],
)
def test_a_broken_header_line_is_refused_by_the_server(calm: Calm, line: bytes) -> None:
    before, host = calm.dump(), urlsplit(calm.system.receiver_url).netloc
    connection = http.client.HTTPConnection(host, timeout=10)
    path = f"/webhooks/aimusic/{calm.parked}".encode()
    head = [b"POST " + path + b" HTTP/1.1", b"Host: x", b"Content-Length: 2", line, b"", b"{}"]

    connection.connect()
    connection.sock.sendall(b"\r\n".join(head))
    status = connection.sock.recv(64).split()[1]
    connection.close()

    assert status == b"400"
    assert calm.dump() == before


def test_no_answer_of_the_receiver_says_more_than_it_must(calm: Calm) -> None:
    answer = deliver(calm.system, calm.parked, completed(), secret="not-the-secret")

    assert json.loads(answer.text) == {"error": "invalid signature"}
    log = calm.system.log("receiver")
    assert "Traceback" not in log
    for private in (signing.derive_secret("k4JtXb0PZqv7LwY2cRn8sUe6hDf3aGm1", calm.parked),):
        assert private not in log
