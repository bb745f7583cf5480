"""When a paid task has ended, and what of it can be used."""

import json
from typing import Any

import pytest

from worker.core import wire
from worker.core.providers.aimusic import protocol
from worker.core.providers.aimusic.operations import find
from worker.core.providers.aimusic.results import read_result
from worker.core.providers.aimusic.sources import choose
from worker.core.wire import Answer, Completed, Failed, Finished, Postponed, Running

REMASTER, VOICE, WAV = find("sonic.remaster"), find("sonic.create_voice"), find("sonic.wav")


def polled(body: Any, *, status: int = 200, operation: Any = REMASTER) -> wire.PollOutcome:
    return protocol.read_poll(operation, Answer(status, {}, json.dumps(body).encode()))


@pytest.mark.parametrize(
    "body",
    [
        {"code": 200, "data": {"clip_id": "a", "state": "running"}},
        {"code": 200, "data": {"status": "RUNNING", "progress": 2}},
        {"code": 200, "data": {"persona_id": "p", "status": "pending"}},
        {"code": 200, "data": None, "message": "processing"},
        {"code": 200, "message": "processing", "progress": 40},
        {"code": 200, "data": "a text"},
        {"code": 200, "data": ["a text"]},
    ],
)
def test_an_object_that_still_runs_has_not_ended(body: Any) -> None:
    assert isinstance(polled(body), Running)


@pytest.mark.parametrize(
    "body",
    [
        {"code": 200, "clip_id": "u", "message": "success"},
        {"code": 200, "persona_id": "p"},
        {"results": [{"title": "t", "lyrics": "l"}]},
        {"status": "COMPLETED", "data": []},
        {"type": "failed", "error": "no", "data": []},
    ],
)
def test_a_result_at_the_top_or_of_an_unknown_kind_has_ended(body: Any) -> None:
    assert isinstance(polled(body), Finished)


@pytest.mark.parametrize(
    ("status", "kind"), [(403, "forbidden"), (429, "failed"), (500, "api_error")]
)
def test_an_error_about_the_poll_itself_does_not_end_the_task(status: int, kind: str) -> None:
    outcome = polled({"type": kind, "error": "QPS limit"}, status=status)
    assert isinstance(outcome, Failed if kind == "failed" and status != 429 else Postponed)


def test_what_has_succeeded_can_be_used_before_all_has() -> None:
    half = {"data": [{"clip_id": "a", "state": "succeeded"}, {"clip_id": "b", "state": "running"}]}
    joining = {"data": [{"replaced": {"clip_id": "a", "state": "succeeded"}, "full": None}]}
    for body in (half, joining):
        outcome = polled(body)
        assert isinstance(outcome, Running)
        assert outcome.usable is not None
        assert read_result(REMASTER, json.loads(outcome.usable))["partial"]
    assert polled({"data": [{"clip_id": "a", "state": "running"}]}) == Running(
        {"clips": [{"clip_id": "a", "state": "running", "audio_url": None}]}
    )


@pytest.mark.parametrize(
    "body", [{"type": "not_ready"}, {"status": "processing"}, {"data": {"status": "pending"}}]
)
def test_a_direct_answer_that_is_not_ready_is_asked_again(body: Any) -> None:
    said = Answer(200, {}, json.dumps(body).encode())
    assert isinstance(protocol.read_submit(find("sonic.midi"), said), Postponed)


def test_an_upload_that_was_done_at_once_is_its_result() -> None:
    said = b'{"code": 200, "clip_id": "u", "message": "success"}'
    upload = find("sonic.upload_async")
    assert isinstance(protocol.read_submit(upload, Answer(200, {}, said)), Completed)
    assert read_result(upload, json.loads(said))["clips"][0]["clip_id"] == "u"


def test_a_persona_alone_in_a_list_is_the_data() -> None:
    result = read_result(VOICE, {"code": 200, "data": [{"persona_id": "p", "name": "n"}]})
    assert result["data"] == {"persona_id": "p", "name": "n"}


# -- a clip's state: the webhook, the poll and the result read it alike -----------------------

LINK = "https://cdn1.suno.ai/a.mp3"
STATES = {
    "succeeded": "succeeded", "SUCCEEDED": "succeeded", "Completed": "succeeded",
    "success": "succeeded", "failed": "failed", "ERROR": "failed", "pending": "running",
    "running": "running", "processing": "running", "streaming": "running", "wibble": "running",
}  # fmt: skip
UNSAID: list[dict[str, Any]] = [{}, {"state": None}, {"state": ""}, {"state": "  "}]


def states(clip: dict[str, Any], **task: Any) -> set[str]:
    """Read a clip in every way there is; returns all that was said of its state."""
    done = {"clip_id": "done", "state": "succeeded", "audio_url": LINK}
    body = task | {"data": [clip]}
    delivered = json.dumps(body | {"event": "song.completed"}).encode()
    ended = {protocol.read_delivery(delivered).final, isinstance(polled(body), Finished)}
    read = read_result(REMASTER, task | {"data": [done, clip]})
    (shown,) = (each["state"] for each in read["clips"] if each["clip_id"] != "done")
    assert ended == {shown in {"succeeded", "failed"}}
    assert read["partial"] is (shown != "succeeded")
    return {shown}


@pytest.mark.parametrize("state", STATES)
def test_a_clips_state_is_read_alike_by_webhook_poll_and_result(state: str) -> None:
    clip = {"clip_id": "a", "audio_url": LINK, "state": state}
    assert states(clip) == {STATES[state]}


@pytest.mark.parametrize("state", [[], {}, 7, 0, True, False, 1.5])
def test_a_state_that_is_no_word_still_runs(state: Any) -> None:
    assert states({"clip_id": "a", "audio_url": LINK, "state": state}) == {"running"}


@pytest.mark.parametrize("unsaid", UNSAID, ids=str)
def test_a_clip_whose_state_is_not_said_has_succeeded_when_it_can_be_fetched(unsaid: Any) -> None:
    for name in ("audio_url", "video_url", "wav_url"):
        assert states({"clip_id": "a", name: LINK} | unsaid) == {"succeeded"}


@pytest.mark.parametrize("unsaid", UNSAID[1:], ids=str)
def test_a_clip_whose_state_is_not_said_yet_and_that_has_no_address_still_runs(unsaid: Any) -> None:
    assert states({"clip_id": "a", "audio_url": None} | unsaid) == {"running"}


@pytest.mark.parametrize("unsaid", UNSAID, ids=str)
@pytest.mark.parametrize(("status", "state"), [("COMPLETED", "succeeded"), ("running", "running")])
def test_a_clip_whose_state_is_not_said_is_as_its_own_status_says_or_its_tasks(
    unsaid: Any, status: str, state: str
) -> None:
    assert states({"clip_id": "a", "status": status} | unsaid) == {state}
    assert states({"clip_id": "a"} | unsaid, status=status) == {state}


def test_at_the_deadline_a_clip_is_used_whose_state_is_not_said() -> None:
    ready = {"clip_id": "a", "audio_url": LINK, "state": None}
    outcome = polled({"data": [ready, {"clip_id": "b", "state": "running"}]})
    assert isinstance(outcome, Running)
    assert outcome.usable is not None
    assert read_result(REMASTER, json.loads(outcome.usable))["clips"][0]["state"] == "succeeded"


def test_a_source_is_read_as_a_result_is() -> None:
    failed, running = {"clip_id": "f", "state": "FAILED"}, {"clip_id": "r", "state": None}
    for ready in ({"state": "SUCCEEDED"}, {"state": None, "audio_url": LINK}, {}):
        assert choose([failed, running, {"clip_id": "a"} | ready]) == "a"
