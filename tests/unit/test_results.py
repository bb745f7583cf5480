"""From the provider's final words to a job's result, in one shape for every operation."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit import recorded, wild
from worker.core import wire
from worker.core.errors import ProviderError, TaskFailed, UnexpectedResponse
from worker.core.job.models import JobId
from worker.core.providers.aimusic import protocol, results
from worker.core.providers.aimusic.operations import OPERATIONS

CREATE = OPERATIONS["sonic.create_music"]
STEMS = OPERATIONS["sonic.stems_basic"]
WAV = OPERATIONS["sonic.wav"]
MIDI = OPERATIONS["sonic.midi"]
CREDITS = OPERATIONS["account.credits"]

CLIP_A = "11111111-1111-4111-8111-111111111111"


def result(case: str, operation: Any = CREATE, *, clip_id: str | None = None) -> dict[str, Any]:
    body = wire.parse(recorded.answer(case).body)
    return results.read_result(operation, body, clip_id=clip_id)


def shown(found: Any, wanted: Any) -> Any:
    """Keep of a result what its recording names, at whatever depth."""
    if isinstance(wanted, dict):
        return {key: shown(found.get(key, "absent"), value) for key, value in wanted.items()}
    if isinstance(wanted, list) and len(found) == len(wanted):
        return [shown(each, want) for each, want in zip(found, wanted, strict=True)]
    return found


def expected(case: str) -> tuple[Any, str | None, dict[str, Any]]:
    """Return a case's operation, the clip it worked on, and its result."""
    wanted = recorded.load(case, "result.json")
    return OPERATIONS[wanted.pop("operation")], wanted.pop("clip_id", None), wanted


@pytest.mark.parametrize("case", sorted(recorded.cases("result.json")))
def test_a_recorded_answer_reads_into_its_result(case: str) -> None:
    operation, clip_id, wanted = expected(case)
    read = result(case, operation, clip_id=clip_id)
    assert shown(read, wanted) == wanted
    assert read["data"] == wanted["data"]
    json.dumps(read, allow_nan=False)


@pytest.mark.parametrize("case", sorted(recorded.cases("result.json")))
def test_a_recorded_answer_ends_its_operation(case: str) -> None:
    operation, _, _ = expected(case)
    said = recorded.answer(case)
    if operation.synchronous:
        outcome: Any = protocol.read_submit(operation, said)
        assert outcome == wire.Completed(said.body.decode())
    else:
        assert protocol.read_poll(operation, said) == wire.Finished(said.body.decode())


def test_every_operation_of_its_own_answer_has_a_recorded_one() -> None:
    read = {expected(case)[0].name for case in recorded.cases("result.json")}
    assert {name for name, row in OPERATIONS.items() if row.synchronous} <= read


NEWS = {"new_flag": True, "new_object": {"a": [1]}, "mv": "sonic-v99", "code": "200"}


@pytest.mark.parametrize("case", sorted(recorded.cases("result.json")))
def test_unknown_fields_of_an_envelope_change_nothing_of_a_result(case: str) -> None:
    operation, clip_id, wanted = expected(case)
    body = wire.parse(recorded.answer(case).body)
    if "data" not in body:
        return
    body |= NEWS
    read = results.read_result(operation, body, clip_id=clip_id)
    assert shown(read, wanted) == wanted


def test_unknown_fields_and_models_of_a_clip_are_no_error() -> None:
    clip = {"clip_id": CLIP_A, "state": "succeeded", **NEWS}
    (read,) = results.read_result(CREATE, {"data": [clip]})["clips"]
    assert read["model"] == "sonic-v99"
    assert "new_object" not in read


def test_a_joined_song_comes_before_its_part() -> None:
    for case in ("poll_pair_replaced", "poll_pair_extended"):
        parts = [clip["part"] for clip in result(case)["clips"]]
        assert parts == ["full", case.removeprefix("poll_pair_")]


def test_a_pair_that_is_not_joined_yet_brings_its_part() -> None:
    assert [clip["part"] for clip in result("poll_pair_joining")["clips"]] == ["replaced"]


@pytest.mark.parametrize("case", ["poll_producer_failed", "poll_producer_timeout"])
def test_a_producer_task_that_failed_is_a_failed_task(case: str) -> None:
    with pytest.raises(TaskFailed, match="credits returned"):
        result(case, OPERATIONS["producer.create_music"])


def test_a_producer_task_that_succeeded_with_nothing_is_unexpected() -> None:
    body = {"code": 200, "status": "SUCCESS", "data": [], "message": "success"}
    with pytest.raises(UnexpectedResponse):
        results.read_result(OPERATIONS["producer.create_music"], body)


@pytest.mark.parametrize(
    ("case", "name", "clips"),
    [
        ("delivery_completed", "sonic.create_music", 2),
        ("delivery_producer", "producer.create_music", 1),
        ("delivery_producer_download", "producer.download", 1),
        ("delivery_nuro", "nuro.create_vocal", 1),
        ("delivery_nuro_data", "nuro.create_vocal", 1),
        ("delivery_voice", "sonic.create_voice", 0),
        ("delivery_pair", "sonic.replace_section", 2),
    ],
)
def test_a_delivery_reads_into_a_result_like_a_poll(case: str, name: str, clips: int) -> None:
    read = results.read_result(OPERATIONS[name], wire.parse(recorded.delivery(case)))
    assert len(read["clips"]) == clips
    assert all(clip["state"] == "succeeded" for clip in read["clips"])
    assert "event" not in read["data"]


def test_a_clip_that_cannot_be_read_does_not_lose_the_one_that_can() -> None:
    good, odd = {"clip_id": CLIP_A, "state": "succeeded"}, {"clip_id": 7, "state": "succeeded"}
    assert results.read_result(CREATE, {"data": [good, odd]})["clips"][0]["clip_id"] == CLIP_A


@pytest.mark.parametrize(
    "duration",
    ["", "long", "NaN", "inf", [], {}, True, 10**400, 1e999],
    ids=lambda value: repr(value)[:12],
)
def test_a_duration_that_is_no_number_of_seconds_is_none(duration: Any) -> None:
    clip = {"clip_id": CLIP_A, "state": "succeeded", "duration": duration}
    read = results.read_result(CREATE, {"data": [clip]})
    assert read["clips"][0]["duration_seconds"] is None
    json.dumps(read, allow_nan=False)


def test_a_clip_is_told_in_our_words() -> None:
    clip = result("poll_integer_duration")["clips"][0]
    assert clip["model"] == "chirp-v3-5"
    assert clip["audio_url"] == f"https://cdn1.suno.ai/{CLIP_A}.mp3"
    assert {"duration", "mv"}.isdisjoint(clip)


def test_code_may_be_absent() -> None:
    assert len(result("poll_without_code")["clips"]) == 2


def test_a_mixed_result_is_a_partial_success() -> None:
    read = result("poll_mixed")
    assert [clip["state"] for clip in read["clips"]] == ["succeeded", "failed"]
    assert read["clips"][1]["error"] == "Generation failed"
    assert read["partial"] is True


def test_a_full_result_is_not_partial() -> None:
    assert result("poll_decimal_string_duration")["partial"] is False


def test_a_task_whose_clips_all_failed_has_failed() -> None:
    with pytest.raises(TaskFailed, match="Lyrics were refused"):
        result("poll_every_clip_failed")


def test_failed_clips_without_a_reason_still_fail_the_task() -> None:
    body = {"data": [{"clip_id": CLIP_A, "state": "failed"}]}
    with pytest.raises(TaskFailed, match="every clip failed"):
        results.read_result(CREATE, body)


def test_stems_are_clips_with_a_type() -> None:
    read = result("poll_stems", STEMS)
    assert [clip["stem_type"] for clip in read["clips"]] == ["vocals", "instrumental"]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"data": None},
        {"data": []},
        {"data": {"x": 1}},
        {"data": ["clip"]},
        {"data": [{"state": "succeeded"}]},
        {"data": [{"clip_id": 7, "state": "succeeded"}]},
        {"data": [{"clip_id": CLIP_A, "state": "dreaming"}]},
    ],
)
def test_an_end_without_a_clip_that_succeeded_is_unexpected(body: Any) -> None:
    with pytest.raises(UnexpectedResponse):
        results.read_result(CREATE, body)


def test_a_failed_clip_without_an_id_does_not_lose_the_one_that_succeeded() -> None:
    good = {"clip_id": CLIP_A, "state": "succeeded"}
    body = {"data": [good, {"clip_id": None, "state": "failed"}]}
    read = results.read_result(CREATE, body)
    assert read["clips"][0]["clip_id"] == CLIP_A
    assert read["partial"] is True


def test_a_wav_passes_its_source_clip_on() -> None:
    read = result("wav_ready", WAV, clip_id=CLIP_A)
    assert [clip["clip_id"] for clip in read["clips"]] == [CLIP_A]
    assert read["clips"][0]["state"] == "succeeded"
    assert read["data"] == {"wav_url": f"https://cdn1.suno.ai/{CLIP_A}.wav"}
    assert read["partial"] is False


def test_a_midi_result_holds_the_notes() -> None:
    data = result("midi_ready", MIDI, clip_id=CLIP_A)["data"]
    assert data["midi_url"].endswith(".mid")
    assert data["instruments"][0]["notes"][0]["pitch"] == 64


@pytest.mark.parametrize(
    ("case", "data"),
    [
        ("credits", {"credits": 50, "extra_credits": 0}),
        ("credits_fractional", {"credits": 99.5, "extra_credits": 50}),
    ],
)
def test_credits_have_no_envelope(case: str, data: dict[str, float]) -> None:
    assert result(case, CREDITS) == {"clips": [], "data": data, "partial": False}


@pytest.mark.parametrize(
    "body",
    [{"message": "success"}, {"message": "success", "data": None}, {"message": "x", "data": {}}],
)
def test_a_synchronous_answer_without_a_result_is_no_success(body: Any) -> None:
    with pytest.raises(ProviderError):
        results.read_result(WAV, body, clip_id=CLIP_A)


@pytest.mark.parametrize(
    "case",
    [c for c in sorted(recorded.cases("answer.json"))
     if c.startswith(("poll_failed_by_type", "poll_500_api"))],
)  # fmt: skip
def test_a_poll_that_names_a_failure_type_ends_in_a_failed_task(case: str) -> None:
    with pytest.raises(TaskFailed, match="Generation failed") as raised:
        result(case)
    assert raised.value.refunded is True


@pytest.mark.parametrize(
    ("case", "refunded"), [("delivery_failed", True), ("delivery_failed_unrefunded", False)]
)
def test_a_failed_delivery_says_whether_it_was_refunded(case: str, refunded: bool) -> None:
    body = wire.parse(recorded.delivery(case))
    with pytest.raises(TaskFailed, match="Generation failed") as raised:
        results.read_result(CREATE, body)
    assert raised.value.refunded is refunded


@given(wild.operations, st.dictionaries(wild.words, wild.values, max_size=6))
def test_a_result_is_read_or_is_a_provider_error_whatever_the_body(
    operation: Any, body: dict[str, Any]
) -> None:
    try:
        read = results.read_result(operation, body, clip_id=CLIP_A)
    except (TaskFailed, UnexpectedResponse):
        return
    assert set(read) == {"clips", "data", "partial"}


@pytest.mark.parametrize(("said", "known"), [("t-said", "t-said"), (None, "t-1"), (7, "t-1")])
def test_a_result_says_which_job_and_provider_task_it_is_of(said: Any, known: str) -> None:
    body = {"task_id": said, "data": [{"clip_id": CLIP_A, "state": "succeeded"}]}
    read = results.job_result(JobId("job-1"), CREATE, body, provider_task_id="t-1")
    assert (read["job_id"], read["operation"], read["provider_task_id"]) == (
        "job-1", CREATE.name, known,
    )  # fmt: skip
    assert [clip["clip_id"] for clip in read["clips"]] == [CLIP_A]
