"""What the provider says: every documented shape, and whatever else it may send."""

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit import recorded
from worker.core import errors, protocol, refusals, results
from worker.core.errors import InvalidPayload, ProviderError, TaskFailed, UnexpectedResponse
from worker.core.models import Answer
from worker.core.operations import OPERATIONS
from worker.core.protocol import (
    Accepted,
    Completed,
    Failed,
    Finished,
    Postponed,
    Refused,
    Running,
    Unknown,
)

CREATE = OPERATIONS["sonic.create_music"]
STEMS = OPERATIONS["sonic.stems_basic"]
WAV = OPERATIONS["sonic.wav"]
MIDI = OPERATIONS["sonic.midi"]
CREDITS = OPERATIONS["account.credits"]

TASK = "22222222-2222-4222-8222-222222222222"
CLIP_A = "11111111-1111-4111-8111-111111111111"
CLIP_B = "33333333-3333-4333-8333-333333333333"


def answer(status: int, body: Any, **headers: str) -> Answer:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Answer(status, headers, raw)


def result(case: str, operation: Any = CREATE, *, clip_id: str | None = None) -> dict[str, Any]:
    body = protocol.parse(recorded.answer(case).body)
    return results.read_result(operation, body, clip_id=clip_id)


# -- submits ----------------------------------------------------------------------------------


@pytest.mark.parametrize("case", ["submit_accepted", "submit_accepted_with_code"])
@pytest.mark.parametrize("operation", [CREATE, STEMS])
def test_a_200_with_a_task_id_is_accepted(case: str, operation: Any) -> None:
    assert protocol.read_submit(operation, recorded.answer(case)) == Accepted(TASK)


@pytest.mark.parametrize("task_id", [None, "", 7, ["x"], {"id": "x"}])
def test_a_200_without_a_usable_task_id_is_unknown(task_id: Any) -> None:
    said = answer(200, {"message": "success", "task_id": task_id})
    assert isinstance(protocol.read_submit(CREATE, said), Unknown)


def test_a_task_id_of_any_length_is_not_taken() -> None:
    for length, kind in ((256, Accepted), (257, Unknown)):
        said = answer(200, {"message": "success", "task_id": "t" * length})
        assert type(protocol.read_submit(CREATE, said)) is kind


def test_a_step_that_failed_in_a_200_has_started_nothing() -> None:
    outcome = protocol.read_submit(CREATE, recorded.answer("submit_without_task_id"))
    assert isinstance(outcome, Refused)
    assert isinstance(outcome.error, TaskFailed)


REFUSALS = {
    "error_400_code_message": errors.RequestRefused,
    "error_400_message": errors.RequestRefused,
    "error_400_type": errors.RequestRefused,
    "error_400_string_code": errors.RequestRefused,
    "error_401": errors.RequestRefused,
    "error_402": errors.OutOfCredits,
    "error_403_credits": errors.OutOfCredits,
    "error_403_subscription": errors.OutOfCredits,
    "error_403_moderation": errors.RequestRefused,
    "error_403_retriable": errors.RequestRefused,
    "error_404": errors.RequestRefused,
    "error_404_html": errors.RequestRefused,
    "error_405_html": errors.RequestRefused,
    "error_410": errors.OperationRetired,
    "error_413": errors.RequestRefused,
    "wav_unknown_clip": errors.RequestRefused,
}
AMBIGUOUS = ["error_500", "error_502", "error_502_html", "error_503_empty", "error_504"]
POSTPONED = ["error_429", "error_429_without_retry_after"]


def test_every_recorded_error_is_read_here() -> None:
    named = {*REFUSALS, *AMBIGUOUS, *POSTPONED}
    assert {case for case in recorded.cases("answer.json") if case.startswith("error_")} <= named


@pytest.mark.parametrize("operation", [CREATE, WAV], ids=lambda o: o.name)
@pytest.mark.parametrize("case", REFUSALS)
def test_a_4xx_is_certainly_refused(case: str, operation: Any) -> None:
    said = recorded.answer(case)
    outcome = protocol.read_submit(operation, said)
    assert isinstance(outcome, Refused)
    assert type(outcome.error) is REFUSALS[case]
    assert outcome.error.http_status == said.status
    assert not outcome.error.retryable


@pytest.mark.parametrize("operation", [CREATE, WAV], ids=lambda o: o.name)
@pytest.mark.parametrize("case", AMBIGUOUS)
def test_a_5xx_leaves_the_outcome_unknown(case: str, operation: Any) -> None:
    said = recorded.answer(case)
    outcome = protocol.read_submit(operation, said)
    assert isinstance(outcome, Unknown)
    assert str(said.status) in outcome.reason


@pytest.mark.parametrize(
    ("case", "words"),
    [
        ("error_400_code_message", "The prompt character length should be less than 3000."),
        ("error_400_type", "continue_clip_id is required"),
        ("error_402", "Not enough credits"),
        ("error_403_retriable", "artist names"),
        ("error_404_html", "no reason given"),
    ],
)
def test_an_error_says_what_the_provider_said(case: str, words: str) -> None:
    outcome = protocol.read_submit(CREATE, recorded.answer(case))
    assert isinstance(outcome, Refused)
    assert outcome.error.message == words


def test_the_providers_own_code_is_kept() -> None:
    outcome = protocol.read_submit(CREATE, recorded.answer("error_400_type"))
    assert isinstance(outcome, Refused)
    assert outcome.error.details["provider_type"] == "validation_error"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"detail": "Only this"}, "Only this"),
        ({"type": "forbidden"}, "forbidden"),
        ({"error": "", "message": "Then this"}, "Then this"),
        ({"error": {"nested": True}, "message": "Then this"}, "Then this"),
        ({"error": ["list"]}, "no reason given"),
        ({"message": "x" * 10_000}, "x" * 500),
    ],
)
def test_words_are_found_wherever_they_stand_and_bounded(body: Any, words: str) -> None:
    assert refusals.read_error(CREATE, 400, body).message == words


@pytest.mark.parametrize(
    ("case", "after"), [("error_429", 7.0), ("error_429_without_retry_after", None)]
)
def test_a_429_is_postponed_by_the_providers_word(case: str, after: float | None) -> None:
    outcome = protocol.read_submit(CREATE, recorded.answer(case))
    assert isinstance(outcome, Postponed)
    assert outcome.retry_after == after
    assert outcome.backoff
    assert outcome.reason.startswith("HTTP 429")


@pytest.mark.parametrize("value", ["", "soon", "-1", "1.5", "²", "Wed, 21 Oct 2026 07:28:00 GMT"])
def test_a_retry_after_that_is_not_a_number_of_seconds_is_ignored(value: str) -> None:
    outcome = protocol.read_submit(CREATE, Answer(429, {"Retry-After": value}, b"{}"))
    assert isinstance(outcome, Postponed)
    assert outcome.retry_after is None


@pytest.mark.parametrize("status", [408, 500, 502, 503, 504, 520, 599])
def test_only_an_answer_that_may_hide_an_acceptance_is_unknown(status: int) -> None:
    assert isinstance(protocol.read_submit(CREATE, answer(status, {})), Unknown)


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_refused_with_a_hint_at_the_setting(status: int) -> None:
    outcome = protocol.read_submit(CREATE, answer(status, b"", Location="https://elsewhere"))
    assert isinstance(outcome, Refused)
    assert isinstance(outcome.error, UnexpectedResponse)
    assert "FERMATA_PROVIDER_URL" in outcome.error.message


@pytest.mark.parametrize("digits", [10, 400])
def test_an_absurd_retry_after_is_still_a_finite_number(digits: int) -> None:
    outcome = protocol.read_submit(CREATE, Answer(429, {"Retry-After": "9" * digits}, b"{}"))
    assert isinstance(outcome, Postponed)
    assert outcome.retry_after is None or math.isfinite(outcome.retry_after)


UNREADABLE = [
    b"", b"<html></html>", b"\xff\xfe", b"\x00", b"[]", b'"text"', b"7", b"null", b"true",
    b'{"a": NaN}', b'{"a": -Infinity}', b"{" * 100_000, b"[" * 100_000, b'{"a":' * 100_000,
    b'{"task_id": "x"', b"\xef\xbb\xbf{}", b'{"n": ' + b"9" * 5000 + b"}",
]  # fmt: skip


@pytest.mark.parametrize("body", UNREADABLE, ids=lambda b: repr(b[:12]))
def test_a_body_that_is_no_json_object_is_one_error(body: bytes) -> None:
    with pytest.raises(InvalidPayload):
        protocol.parse(body)


@pytest.mark.parametrize("body", UNREADABLE, ids=lambda b: repr(b[:12]))
@pytest.mark.parametrize("operation", [CREATE, WAV], ids=lambda o: o.name)
def test_an_unreadable_200_leaves_the_outcome_unknown(operation: Any, body: bytes) -> None:
    assert isinstance(protocol.read_submit(operation, answer(200, body)), Unknown)


# -- synchronous operations -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("case", "operation"),
    [("wav_ready", WAV), ("midi_ready", MIDI), ("credits", CREDITS)],
)
def test_a_synchronous_answer_is_the_result(case: str, operation: Any) -> None:
    said = recorded.answer(case)
    assert protocol.read_submit(operation, said) == Completed(said.body.decode())


@pytest.mark.parametrize("operation", [WAV, MIDI], ids=lambda o: o.name)
def test_a_derivative_that_is_not_ready_is_asked_again(operation: Any) -> None:
    outcome = protocol.read_submit(operation, recorded.answer("midi_not_ready"))
    assert outcome == Postponed("not ready", operation.again_seconds, backoff=False)


@pytest.mark.parametrize("kind", ["failed", "timeout", "forbidden", "api_error"])
def test_a_synchronous_200_with_a_failure_type_is_refused(kind: str) -> None:
    said = recorded.answer(f"poll_failed_by_type_{kind}")
    outcome = protocol.read_submit(WAV, said)
    assert isinstance(outcome, Refused)
    assert isinstance(outcome.error, TaskFailed)
    assert outcome.error.refunded is True


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


# -- polls ------------------------------------------------------------------------------------

POLLS: dict[str, type] = {
    "poll_not_ready": Running,
    "poll_not_ready_with_code": Running,
    "poll_code_102": Running,
    "poll_running": Running,
    "poll_one_clip_running": Running,
    "poll_unknown_state": Running,
    "poll_integer_duration": Finished,
    "poll_decimal_string_duration": Finished,
    "poll_null_duration": Finished,
    "poll_without_code": Finished,
    "poll_mixed": Finished,
    "poll_every_clip_failed": Finished,
    "poll_stems": Finished,
    "poll_failed_by_type_failed": Finished,
    "poll_failed_by_type_timeout": Finished,
    "poll_failed_by_type_forbidden": Finished,
    "poll_failed_by_type_api_error": Finished,
    "poll_504_refunded": Failed,
    "poll_500_already_refunded": Failed,
    "poll_500_api_error": Finished,
    "poll_500_plain": Postponed,
    "poll_task_not_found": Postponed,
    "poll_task_not_found_404": Postponed,
    "error_401": Postponed,
    "error_429": Postponed,
    "error_502_html": Postponed,
    "error_503_empty": Postponed,
}


def test_every_recorded_poll_is_read_here() -> None:
    assert {case for case in recorded.cases("answer.json") if case.startswith("poll_")} <= {*POLLS}


@pytest.mark.parametrize("case", POLLS)
def test_a_poll_is_read_as_what_it_means(case: str) -> None:
    said = recorded.answer(case)
    outcome = protocol.read_poll(CREATE, said)
    assert type(outcome) is POLLS[case]
    if isinstance(outcome, Finished):
        assert outcome.body == said.body.decode()


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
    "case", [case for case in POLLS if case.startswith(("poll_failed_by_type", "poll_500_api"))]
)
def test_a_poll_that_names_a_failure_type_ends_in_a_failed_task(case: str) -> None:
    with pytest.raises(TaskFailed, match="Generation failed") as raised:
        result(case)
    assert raised.value.refunded is True


@pytest.mark.parametrize("case", ["poll_504_refunded", "poll_500_already_refunded"])
def test_a_5xx_that_speaks_of_a_refund_is_a_failed_task(case: str) -> None:
    outcome = protocol.read_poll(CREATE, recorded.answer(case))
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


@pytest.mark.parametrize("body", UNREADABLE, ids=lambda b: repr(b[:12]))
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


# -- results ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("case", "seconds"),
    [
        ("poll_integer_duration", [179.0]),
        ("poll_decimal_string_duration", [104.88, 98.2]),
        ("poll_null_duration", [None]),
    ],
)
def test_a_duration_is_read_in_every_spelling(case: str, seconds: list[float | None]) -> None:
    assert [clip["duration_seconds"] for clip in result(case)["clips"]] == seconds


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


# -- errors -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (302, errors.UnexpectedResponse),
        (400, errors.RequestRefused),
        (402, errors.OutOfCredits),
        (429, errors.RateLimited),
        (500, errors.ProviderUnavailable),
    ],
)
def test_a_status_says_who_must_act(status: int, error: type[ProviderError]) -> None:
    assert type(refusals.read_error(CREATE, status, {})) is error


@pytest.mark.parametrize("key", ["refund_processed", "already_refunded"])
@pytest.mark.parametrize("flag", [True, False])
def test_a_refund_is_what_the_provider_says(key: str, flag: bool) -> None:
    assert refusals.read_error(CREATE, 400, {"message": "no", key: flag}).refunded is flag


def test_a_refund_flag_outweighs_the_words() -> None:
    body = {"message": "Refunded soon", "refund_processed": False}
    assert refusals.read_error(CREATE, 400, body).refunded is False


def test_words_that_deny_a_refund_are_not_taken_for_one() -> None:
    body = {"message": "Task failed. Credits were not refunded."}
    assert refusals.read_error(CREATE, 500, body).refunded is not True


def test_a_refund_that_nobody_speaks_of_is_not_known() -> None:
    assert (
        refusals.read_error(CREATE, 400, {"message": "no", "refund_processed": "yes"}).refunded
        is None
    )


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
    ],
)
def test_a_delivery_says_whether_it_settles_the_job(case: str, final: bool) -> None:
    raw = recorded.delivery(case)
    read = protocol.read_delivery(raw)
    assert read.final is final
    assert read.event == recorded.load(case, "delivery.json")["event"]
    assert (read.provider_task_id, read.body) == (TASK, raw.decode())


def test_every_recorded_delivery_is_read_by_the_test_above() -> None:
    assert len(recorded.cases("delivery.json")) == 6


@pytest.mark.parametrize(
    ("case", "refunded"), [("delivery_failed", True), ("delivery_failed_unrefunded", False)]
)
def test_a_failed_delivery_says_whether_it_was_refunded(case: str, refunded: bool) -> None:
    body = protocol.parse(recorded.delivery(case))
    with pytest.raises(TaskFailed, match="Generation failed") as raised:
        results.read_result(CREATE, body)
    assert raised.value.refunded is refunded


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


@pytest.mark.parametrize("body", UNREADABLE, ids=lambda b: repr(b[:12]))
def test_an_unreadable_delivery_is_one_error(body: bytes) -> None:
    with pytest.raises(InvalidPayload):
        protocol.read_delivery(body)


@pytest.mark.parametrize("state", [[], {}, 7, None, True])
def test_a_clip_of_a_strange_state_has_not_ended(state: Any) -> None:
    said = {"event": "song.completed", "data": [{"clip_id": CLIP_A, "state": state}]}
    assert not protocol.read_delivery(json.dumps(said).encode()).final


# -- whatever else ----------------------------------------------------------------------------

scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
words = st.sampled_from(
    ["code", "type", "data", "event", "state", "clip_id", "task_id", "message", "error",
     "duration", "already_refunded"]
)  # fmt: skip
values = st.recursive(
    scalars
    | st.sampled_from(["failed", "succeeded", "song.completed", "song.streaming", "refunded"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=4),
    max_leaves=10,
)
objects = st.dictionaries(words, values, max_size=6).map(lambda each: json.dumps(each).encode())
bodies = st.binary(max_size=200) | objects
statuses = st.integers(100, 599) | st.sampled_from([200, 202, 400, 403, 429, 500, 504])
operations = st.sampled_from(list(OPERATIONS.values()))
headers = st.dictionaries(st.just("Retry-After"), st.text(max_size=8))


@given(operations, statuses, headers, bodies)
def test_a_submit_is_read_whatever_the_bytes(
    operation: Any, status: int, headers: dict[str, str], body: bytes
) -> None:
    outcome = protocol.read_submit(operation, Answer(status, headers, body))
    assert isinstance(outcome, Accepted | Completed | Refused | Postponed | Unknown)
    if not 200 <= status < 300:
        assert not isinstance(outcome, Accepted | Completed)


@given(statuses, headers, bodies)
def test_a_poll_is_read_whatever_the_bytes(
    status: int, headers: dict[str, str], body: bytes
) -> None:
    outcome = protocol.read_poll(CREATE, Answer(status, headers, body))
    assert isinstance(outcome, Running | Finished | Failed | Postponed)


@given(bodies)
def test_a_delivery_is_read_or_is_one_error_whatever_the_bytes(body: bytes) -> None:
    try:
        read = protocol.read_delivery(body)
    except InvalidPayload:
        return
    assert read.body.encode() == body


@given(operations, st.dictionaries(words, values, max_size=6))
def test_a_result_is_read_or_is_a_provider_error_whatever_the_body(
    operation: Any, body: dict[str, Any]
) -> None:
    try:
        read = results.read_result(operation, body, clip_id=CLIP_A)
    except (TaskFailed, UnexpectedResponse):
        return
    assert set(read) == {"clips", "data", "partial"}
