"""What a person sees in the terminal, of every recorded result."""

import base64
import io
import json
import zlib
from typing import Any

import pytest
from rich.console import Console

from tests.unit import recorded
from worker import show
from worker.core import protocol, results
from worker.core.models import JobId, JobRecord, JSONObject
from worker.core.operations import OPERATIONS
from worker.core.states import JobState
from worker.quarantine import Entry, Kind


def printed(renderable: Any) -> str:
    console = Console(width=200, file=io.StringIO())
    console.print(renderable)
    return console.file.getvalue()  # type: ignore[attr-defined]


@pytest.mark.parametrize("case", sorted(recorded.cases("result.json")))
def test_a_job_is_shown_with_whatever_its_result_is(case: str) -> None:
    wanted = recorded.load(case, "result.json")
    body = protocol.parse(recorded.answer(case).body)
    result = results.read_result(
        OPERATIONS[wanted["operation"]], body, clip_id=wanted.get("clip_id")
    )
    record = JobRecord(
        JobId("job-1"), wanted["operation"], JobState.SUCCEEDED, 1.0, 2.0, result=result
    )
    shown = printed(show.job(record))
    assert wanted["operation"] in shown
    assert all(str(clip["clip_id"] or "") in shown or clip["title"] for clip in result["clips"])


def test_every_operation_is_shown_with_what_to_use_instead() -> None:
    shown = printed(show.operations_table(OPERATIONS.values()))
    assert all(name in shown for name in OPERATIONS)
    assert "retired: use sonic.create_music" in shown


SONG = {"clip_id": "c-1", "state": "succeeded", "title": "Late", "audio_url": "https://x.test/a"}
FAILED = {"type": "failed", "message": "Generation failed", "event": "song.failed"}


def ended(body: JSONObject) -> JobRecord:
    late = {"at": 3.0, "delivery_id": "d-1", "body": json.dumps(body)}
    error = {"type": "DeadlineExceeded", "message": "too slow", "details": {}}
    return JobRecord(
        JobId("job-1"), "sonic.remaster", JobState.EXPIRED, 1.0, 2.0, error=error, late=late
    )


def test_what_came_late_is_shown_with_its_links_beside_the_error() -> None:
    record = ended({"event": "song.completed", "task_id": "t-1", "data": [SONG]})
    shown = printed(show.job(record))
    assert all(word in shown for word in ("too slow", "came late", "Late", "https://x.test/a"))
    late = show.record_json(record)["late"]
    assert late["delivery_id"] == "d-1"
    assert (late["result"]["provider_task_id"], late["result"]["job_id"]) == ("t-1", "job-1")
    assert late["result"]["clips"][0]["audio_url"] == "https://x.test/a"


def test_what_came_late_and_is_no_result_is_shown_as_the_error_it_is() -> None:
    record = ended(FAILED)
    assert "TaskFailed: Generation failed" in printed(show.job(record))
    assert show.record_json(record)["late"]["error"]["type"] == "TaskFailed"


ESCAPES = "\x1b]0;owned\x07\x9b2J\u202e\ud800[red]\r\n"


def test_no_text_of_others_reaches_the_terminal_as_a_command() -> None:
    song = SONG | {"title": ESCAPES, "state": ESCAPES, "audio_url": [ESCAPES]}
    timeline = ({"at": 1.0, "what": ESCAPES, "why": ESCAPES},)
    record = JobRecord(
        JobId("job-1"), "sonic.remaster", JobState.FAILED, 1.0, 2.0, timeline=timeline,
        result={"clips": [song], "data": {ESCAPES: ESCAPES}, "partial": True},
    )  # fmt: skip
    for shown in (printed(show.job(record)), printed(show.jobs_table([record]))):
        assert all(c.isprintable() or c == "\n" for c in shown)
    assert "owned" in printed(show.job(record))


def entry(body: bytes) -> Entry:
    packed = base64.b64encode(zlib.compress(body)).decode()
    headers = {"X-Webhook-Id": ESCAPES}
    return Entry("1-0", 1.0, Kind.UNREADABLE, JobId("job-1"), ESCAPES, len(body), headers, packed)


BODIES = [
    b"",
    b"\x1b[2J\x00\xff\n",
    bytes(range(256)),
    b"[" * 10_000,
    ESCAPES.encode("utf-8", "replace"),
    json.dumps({"title": ESCAPES}).encode(),
]


@pytest.mark.parametrize("body", BODIES)
def test_any_bytes_in_quarantine_can_be_shown(body: bytes) -> None:
    shown = printed(show.quarantined(entry(body))) + printed(show.quarantine_table([entry(body)]))
    assert all(c.isprintable() or c in "\n" for c in shown)


def test_json_in_quarantine_is_indented() -> None:
    assert '\n  "title": "Café"' in printed(show.quarantined(entry(b'{"title": "Caf\\u00e9"}')))


def test_a_held_job_is_shown_with_what_it_waits_for() -> None:
    turn = {"at": 1.0, "what": "hold", "state": "held", "why": "the credits left are not enough"}
    record = JobRecord(JobId("job-1"), "sonic.wav", JobState.HELD, 1.0, 2.0, timeline=(turn,))
    assert "the credits left are not enough" in printed(show.jobs_table([record]))
    assert "the credits left are not enough" in printed(show.job(record))
