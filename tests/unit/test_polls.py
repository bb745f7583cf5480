"""What the provider says to a poll and in a delivery: each is read, whatever it is."""

import json
from typing import Any

import pytest
from hypothesis import given

from tests.unit import recorded, wild
from worker.core import errors, wire
from worker.core.errors import InvalidPayload, TaskFailed
from worker.core.providers.aimusic import protocol
from worker.core.providers.aimusic.operations import OPERATIONS
from worker.core.wire import Answer, Failed, Finished, Postponed, Running

CREATE = OPERATIONS["sonic.create_music"]

TASK = "22222222-2222-4222-8222-222222222222"
CLIP_A = "11111111-1111-4111-8111-111111111111"


def answer(status: int, body: Any, **headers: str) -> Answer:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Answer(status, headers, raw)


# -- polls ------------------------------------------------------------------------------------

PRODUCER = OPERATIONS["producer.create_music"]
RIFFUSION = OPERATIONS["riffusion.create_music"]
NURO = OPERATIONS["nuro.create_vocal"]

POLLS: dict[str, type] = {
    "poll_not_ready": Running,
    "poll_not_ready_with_code": Running,
    "poll_code_102": Running,
    "poll_running": Running,
    "poll_one_clip_running": Running,
    "poll_unknown_state": Running,
    "poll_pair_joining": Running,
    "poll_pair_full_running": Running,
    "poll_producer_pending": Running,
    "poll_producer_running": Running,
    "poll_producer_running_with_data": Running,
    "poll_riffusion_one_song": Running,
    "poll_riffusion_processing": Running,
    "poll_nuro_pending": Running,
    "poll_nuro_running": Running,
    "poll_every_clip_failed": Finished,
    "poll_failed_by_type_failed": Finished,
    "poll_failed_by_type_timeout": Finished,
    "poll_failed_by_type_forbidden": Finished,
    "poll_failed_by_type_api_error": Finished,
    "poll_producer_failed": Finished,
    "poll_producer_timeout": Finished,
    "poll_504_refunded": Failed,
    "poll_500_already_refunded": Failed,
    "poll_400_already_refunded": Failed,
    "poll_nuro_language": Failed,
    "poll_500_api_error": Failed,
    "poll_410": Failed,
    "poll_500_plain": Postponed,
    "poll_task_not_found": Postponed,
    "poll_task_not_found_404": Postponed,
    "error_401": Postponed,
    "error_402": Postponed,
    "error_429": Postponed,
    "error_500_retriable": Postponed,
    "error_502": Postponed,
    "error_502_html": Postponed,
    "error_503_empty": Postponed,
}
WITH_A_RESULT = {c for c in recorded.cases("result.json") if c.startswith("poll_")}


def polled(case: str) -> wire.PollOutcome:
    """Read a recorded poll as the family that it was recorded for."""
    family = {"producer": PRODUCER, "riffusion": RIFFUSION, "nuro": NURO}
    operation = family.get(case.split("_")[1], CREATE)
    return protocol.read_poll(operation, recorded.answer(case))


def test_every_recorded_poll_is_read_here() -> None:
    named = {*POLLS, *WITH_A_RESULT}
    assert {case for case in recorded.cases("answer.json") if case.startswith("poll_")} <= named


@pytest.mark.parametrize("case", [*POLLS, *sorted(WITH_A_RESULT)])
def test_a_poll_is_read_as_what_it_means(case: str) -> None:
    outcome = polled(case)
    assert type(outcome) is POLLS.get(case, Finished)
    if isinstance(outcome, Finished):
        assert outcome.body == recorded.answer(case).body.decode()


# An error that speaks of a refund is final, and so is a retired endpoint; else it is about this
# one request (a throttled key, a broken gateway), and the poll is asked again.
FINAL_ERRORS = {
    "error_403_refunded_moderation": Failed,
    "error_410": Failed,
    "error_410_producer": Failed,
}


@pytest.mark.parametrize("operation", [CREATE, PRODUCER, RIFFUSION, NURO], ids=lambda o: o.name)
def test_every_error_shape_is_read_in_a_poll(operation: Any) -> None:
    errors_ = [case for case in recorded.cases("answer.json") if case.startswith("error_")]
    outcomes = {case: protocol.read_poll(operation, recorded.answer(case)) for case in errors_}
    read = {case: type(outcome) for case, outcome in outcomes.items()}
    assert read == dict.fromkeys(errors_, Postponed) | FINAL_ERRORS


def test_a_poll_of_one_song_has_ended_where_one_is_all() -> None:
    said = recorded.answer("poll_riffusion_one_song")
    assert isinstance(protocol.read_poll(CREATE, said), Finished)
    assert {row.songs for row in OPERATIONS.values() if row.family != "riffusion"} == {1}


def test_a_retired_task_says_what_to_use_instead() -> None:
    outcome = protocol.read_poll(NURO, recorded.answer("poll_410"))
    assert isinstance(outcome, Failed)
    assert isinstance(outcome.error, errors.OperationRetired)
    assert outcome.error.details["instead"] == "sonic.create_music"


def test_a_running_poll_shows_what_can_be_heard() -> None:
    outcome = protocol.read_poll(CREATE, recorded.answer("poll_running"))
    assert isinstance(outcome, Running)
    assert outcome.progress is not None
    first = outcome.progress["clips"][0]
    assert (first["clip_id"], first["state"]) == (CLIP_A, "running")
    assert "audiopipe" in first["audio_url"]


def test_a_poll_that_is_rate_limited_keeps_the_providers_word() -> None:
    outcome = protocol.read_poll(CREATE, recorded.answer("error_429"))
    assert isinstance(outcome, Postponed)
    assert outcome.retry_after == 7


@pytest.mark.parametrize(
    "case", ["poll_504_refunded", "poll_500_already_refunded", "poll_400_already_refunded"]
)
def test_an_error_that_speaks_of_a_refund_is_a_failed_task(case: str) -> None:
    outcome = polled(case)
    assert isinstance(outcome, Failed)
    assert isinstance(outcome.error, TaskFailed)
    assert outcome.error.refunded is True
    assert outcome.error.http_status == recorded.answer(case).status


@pytest.mark.parametrize(
    "body",
    [
        {"message": "Generation failed", "already_refunded": False},
        {"message": "Internal Server Error"},
    ],
)
def test_a_5xx_that_speaks_of_no_refund_passes(body: Any) -> None:
    assert isinstance(protocol.read_poll(CREATE, answer(500, body)), Postponed)


@pytest.mark.parametrize("body", wild.UNREADABLE, ids=lambda b: repr(b[:12]))
@pytest.mark.parametrize("status", [200, 500])
def test_an_unreadable_poll_is_asked_again(status: int, body: bytes) -> None:
    assert isinstance(protocol.read_poll(CREATE, answer(status, body)), Postponed)


@pytest.mark.parametrize(
    "data", [None, [], {}, [None], ["clip"], [{}], [{"state": None}], [{"state": "succeeded"}, 7]]
)
def test_a_poll_without_ended_clips_still_runs(data: Any) -> None:
    assert isinstance(protocol.read_poll(CREATE, answer(200, {"code": 200, "data": data})), Running)


def test_a_result_that_is_an_object_has_ended() -> None:
    said = answer(200, {"code": 200, "data": {"persona_id": "p-1", "name": "n"}})
    assert isinstance(protocol.read_poll(CREATE, said), Finished)


# -- deliveries -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("case", "final"),
    [
        ("delivery_completed", True),
        ("delivery_completed_sonic", True),
        ("delivery_failed", True),
        ("delivery_failed_unrefunded", True),
        ("delivery_streaming", False),
        ("delivery_completed_too_soon", False),
        ("delivery_producer", True),
        ("delivery_producer_download", True),
        ("delivery_nuro", True),
        ("delivery_nuro_data", True),
        ("delivery_voice", True),
        ("delivery_pair", True),
        ("delivery_pair_joining", False),
    ],
)
def test_a_delivery_says_whether_it_settles_the_job(case: str, final: bool) -> None:
    raw = recorded.delivery(case)
    read = protocol.read_delivery(raw)
    assert read.final is final
    assert read.event == recorded.load(case, "delivery.json")["event"]
    assert (read.provider_task_id, read.body) == (TASK, raw.decode())


def test_every_recorded_delivery_is_read_by_the_test_above() -> None:
    assert len(recorded.cases("delivery.json")) == 13


def test_a_streaming_delivery_brings_progress() -> None:
    read = protocol.read_delivery(recorded.delivery("delivery_streaming"))
    assert [clip["state"] for clip in read.progress["clips"]] == ["running", "running"]


def test_a_delivery_of_an_object_is_final() -> None:
    said = {"event": "song.completed", "data": {"persona_id": "p-1"}}
    assert protocol.read_delivery(json.dumps(said).encode()).final


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"event": None},
        {"event": "song.paused"},
        {"event": ["song.completed"]},
        {"event": "song.completed", "task_id": 7},
        {"event": {"song.completed": 1}, "data": []},
    ],
)
def test_a_delivery_without_a_known_event_cannot_be_read(body: Any) -> None:
    with pytest.raises(InvalidPayload, match="envelope"):
        protocol.read_delivery(json.dumps(body).encode())


@pytest.mark.parametrize("body", wild.UNREADABLE, ids=lambda b: repr(b[:12]))
def test_an_unreadable_delivery_is_one_error(body: bytes) -> None:
    with pytest.raises(InvalidPayload):
        protocol.read_delivery(body)


@pytest.mark.parametrize("state", [[], {}, 7, None, True])
def test_a_clip_of_a_strange_state_has_not_ended(state: Any) -> None:
    said = {"event": "song.completed", "data": [{"clip_id": CLIP_A, "state": state}]}
    assert not protocol.read_delivery(json.dumps(said).encode()).final


# -- whatever else ----------------------------------------------------------------------------


@given(wild.operations, wild.statuses, wild.headers, wild.bodies)
def test_a_poll_is_read_whatever_the_bytes(
    operation: Any, status: int, headers: dict[str, str], body: bytes
) -> None:
    outcome = protocol.read_poll(operation, Answer(status, headers, body))
    assert isinstance(outcome, Running | Finished | Failed | Postponed)


@given(wild.bodies)
def test_a_delivery_is_read_or_is_one_error_whatever_the_bytes(body: bytes) -> None:
    try:
        read = protocol.read_delivery(body)
    except InvalidPayload:
        return
    assert read.body.encode() == body
