"""What the provider says to a submit: each answer is read, whatever it is."""

import json
import math
from typing import Any

import pytest
from hypothesis import given

from tests.unit import recorded, wild
from worker.core import errors, wire
from worker.core.errors import InvalidPayload, TaskFailed, UnexpectedResponse
from worker.core.job.models import ProviderTaskId
from worker.core.providers.aimusic import protocol
from worker.core.providers.aimusic.operations import OPERATIONS
from worker.core.wire import Accepted, Answer, Completed, Postponed, Refused, Unknown

CREATE = OPERATIONS["sonic.create_music"]
STEMS = OPERATIONS["sonic.stems_basic"]
WAV = OPERATIONS["sonic.wav"]
UPLOAD_COVER = OPERATIONS["sonic.upload_cover"]
LYRICS = OPERATIONS["lyrics.generate"]
MIDI = OPERATIONS["sonic.midi"]
CREDITS = OPERATIONS["account.credits"]

TASK = "22222222-2222-4222-8222-222222222222"

in_every_mode = pytest.mark.parametrize("operation", [CREATE, STEMS, WAV], ids=lambda o: o.mode)


def answer(status: int, body: Any, **headers: str) -> Answer:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Answer(status, headers, raw)


# -- submits ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "case",
    ["submit_accepted", "submit_accepted_with_code", "submit_with_steps", "submit_with_warning"],
)
@pytest.mark.parametrize("operation", [CREATE, STEMS], ids=lambda o: o.mode)
def test_a_200_with_a_task_id_is_accepted(case: str, operation: Any) -> None:
    assert protocol.read_submit(operation, recorded.answer(case)) == Accepted(ProviderTaskId(TASK))


@pytest.mark.parametrize("task_id", [None, "", 7, ["x"], {"id": "x"}])
def test_a_200_without_a_usable_task_id_is_unknown(task_id: Any) -> None:
    said = answer(200, {"message": "success", "task_id": task_id})
    assert isinstance(protocol.read_submit(CREATE, said), Unknown)


def test_a_task_id_of_any_length_is_not_taken() -> None:
    for length, kind in ((256, Accepted), (257, Unknown)):
        said = answer(200, {"message": "success", "task_id": "t" * length})
        assert type(protocol.read_submit(CREATE, said)) is kind


@pytest.mark.parametrize(
    ("case", "words"),
    [
        ("submit_without_task_id", "success"),
        ("submit_upload_step_failed", "Audio URL is not accessible"),
        ("submit_cover_step_failed", "inappropriate lyrics"),
    ],
)
def test_a_step_that_failed_in_a_200_has_started_nothing(case: str, words: str) -> None:
    outcome = protocol.read_submit(UPLOAD_COVER, recorded.answer(case))
    assert isinstance(outcome, Refused)
    assert isinstance(outcome.error, TaskFailed)
    assert outcome.error.message.startswith(words)


def test_every_recorded_submit_is_read_above() -> None:
    assert len([c for c in recorded.cases("answer.json") if c.startswith("submit_")]) == 7


REFUSALS = {
    "error_400_code_message": errors.RequestRefused,
    "error_400_message": errors.RequestRefused,
    "error_400_type": errors.RequestRefused,
    "error_400_string_code": errors.RequestRefused,
    "error_401": errors.KeyRefused,
    "error_402": errors.OutOfCredits,
    "error_403_credits": errors.OutOfCredits,
    "error_403_subscription": errors.OutOfCredits,
    "error_403_moderation": errors.RequestRefused,
    "error_403_retriable": errors.RequestRefused,
    "error_404": errors.RequestRefused,
    "error_404_html": errors.RequestRefused,
    "error_405_html": errors.RequestRefused,
    "error_403_refunded_moderation": errors.RequestRefused,
    "error_403_credits_in_detail": errors.OutOfCredits,
    "error_400_steps_error": errors.RequestRefused,
    "error_400_steps_message": errors.RequestRefused,
    "error_410": errors.OperationRetired,
    "error_410_producer": errors.OperationRetired,
    "error_413": errors.RequestRefused,
    "wav_unknown_clip": errors.RequestRefused,
}
AMBIGUOUS = [
    "error_500", "error_500_retriable", "error_502", "error_502_html", "error_503_empty",
    "error_504", "error_504_lyrics",
]  # fmt: skip
POSTPONED = ["error_429", "error_429_without_retry_after"]


def test_every_recorded_error_is_read_here() -> None:
    named = {*REFUSALS, *AMBIGUOUS, *POSTPONED}
    assert {case for case in recorded.cases("answer.json") if case.startswith("error_")} <= named


@in_every_mode
@pytest.mark.parametrize("case", REFUSALS)
def test_a_4xx_is_certainly_refused(case: str, operation: Any) -> None:
    said = recorded.answer(case)
    outcome = protocol.read_submit(operation, said)
    assert isinstance(outcome, Refused)
    assert type(outcome.error) is REFUSALS[case]
    assert outcome.error.http_status == said.status
    assert not outcome.error.retryable


@in_every_mode
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
        ("error_400_steps_error", "Audio URL is not accessible"),
        ("error_400_steps_message", "matches an existing recording in our catalog"),
        ("error_403_credits_in_detail", "Forbidden"),
    ],
)
def test_an_error_says_what_the_provider_said(case: str, words: str) -> None:
    outcome = protocol.read_submit(CREATE, recorded.answer(case))
    assert isinstance(outcome, Refused)
    assert outcome.error.message.startswith(words)


def test_the_providers_own_code_is_kept() -> None:
    outcome = protocol.read_submit(CREATE, recorded.answer("error_400_type"))
    assert isinstance(outcome, Refused)
    assert outcome.error.details["provider_type"] == "validation_error"


@pytest.mark.parametrize(
    ("case", "after"), [("error_429", 7.0), ("error_429_without_retry_after", None)]
)
@in_every_mode
def test_a_429_is_postponed_by_the_providers_word(
    operation: Any, case: str, after: float | None
) -> None:
    outcome = protocol.read_submit(operation, recorded.answer(case))
    assert isinstance(outcome, Postponed)
    assert outcome.retry_after == after
    assert outcome.backoff
    assert outcome.reason.startswith("HTTP 429")


@pytest.mark.parametrize("value", ["", "soon", "-1", "1.5", "²", "Wed, 21 Oct 2026 07:28:00 GMT"])
def test_a_retry_after_that_is_not_a_number_of_seconds_is_ignored(value: str) -> None:
    outcome = protocol.read_submit(CREATE, Answer(429, {"Retry-After": value}, b"{}"))
    assert isinstance(outcome, Postponed)
    assert outcome.retry_after is None


def test_only_what_the_provider_fails_at_counts_against_it() -> None:
    busy = protocol.read_submit(LYRICS, recorded.answer("error_429"))
    failed = protocol.read_submit(LYRICS, recorded.answer("error_504_lyrics"))
    assert isinstance(busy, wire.Postponed)
    assert isinstance(failed, wire.Postponed)
    assert (busy.failed, failed.failed) == (False, True)


@pytest.mark.parametrize("status", [408, 500, 501, 502, 503, 504, 505, 520, 525, 530, 599])
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


@pytest.mark.parametrize("body", wild.UNREADABLE, ids=lambda b: repr(b[:12]))
def test_a_body_that_is_no_json_object_is_one_error(body: bytes) -> None:
    with pytest.raises(InvalidPayload):
        wire.parse(body)


@pytest.mark.parametrize("body", wild.UNREADABLE, ids=lambda b: repr(b[:12]))
@in_every_mode
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


# provider-api.md §2, §3.6: where the provider says that asking again is not charged, or is needed.
ASKED_AGAIN = {"sonic.midi", "sonic.download", "sonic.lyrics_timeline", "account.credits"}
DIRECT = {name: row for name, row in OPERATIONS.items() if row.synchronous}


@pytest.mark.parametrize("said", [Answer(202, {}, b""), answer(200, {"status": "processing"})])
@pytest.mark.parametrize("name", DIRECT)
def test_what_is_not_ready_is_asked_again_only_where_that_is_free(name: str, said: Any) -> None:
    outcome = protocol.read_submit(DIRECT[name], said)
    if name in ASKED_AGAIN:
        assert outcome == Postponed("not ready", DIRECT[name].again_seconds, backoff=False)
    else:
        assert isinstance(outcome, Unknown)


@pytest.mark.parametrize("kind", ["failed", "timeout", "forbidden", "api_error"])
def test_a_synchronous_200_with_a_failure_type_is_refused(kind: str) -> None:
    said = recorded.answer(f"poll_failed_by_type_{kind}")
    outcome = protocol.read_submit(WAV, said)
    assert isinstance(outcome, Refused)
    assert isinstance(outcome.error, TaskFailed)
    assert outcome.error.refunded is True


@pytest.mark.parametrize(
    ("case", "name", "seconds"),
    [("midi_not_ready", "sonic.midi", 6), ("download_preparing", "sonic.download", 3)],
)
def test_each_operation_is_asked_again_in_its_own_time(
    case: str, name: str, seconds: float
) -> None:
    outcome = protocol.read_submit(OPERATIONS[name], recorded.answer(case))
    assert outcome == Postponed("not ready", seconds, backoff=False)


def test_the_provider_may_say_when_to_ask_again() -> None:
    said = Answer(202, {"retry-after": "11"}, b"")
    assert protocol.read_submit(MIDI, said) == Postponed("not ready", 11, backoff=False)


@pytest.mark.parametrize("code", [102, "202"])
def test_a_direct_answer_whose_body_is_not_ready_is_asked_again(code: Any) -> None:
    said = answer(200, {"code": code, "type": "not_ready", "error": "being built"})
    assert isinstance(protocol.read_submit(MIDI, said), Postponed)


def test_a_timeout_of_lyrics_is_not_charged_and_so_is_asked_again() -> None:
    # provider-api-2.md §3.7; elsewhere a 504 leaves the outcome unknown.
    outcome = protocol.read_submit(LYRICS, recorded.answer("error_504_lyrics"))
    assert isinstance(outcome, Postponed)
    assert outcome.backoff
    charged = {name for name, row in OPERATIONS.items() if 504 not in row.uncharged}
    assert charged == {*OPERATIONS} - {"lyrics.generate"}


@pytest.mark.parametrize("case", ["lyrics_timeline_without_lyrics", "download_purged"])
def test_a_clip_that_cannot_be_used_is_refused(case: str) -> None:
    outcome = protocol.read_submit(WAV, recorded.answer(case))
    assert isinstance(outcome, Refused)
    assert type(outcome.error) is errors.RequestRefused
    assert outcome.error.http_status == 404


# -- whatever else ----------------------------------------------------------------------------


@given(wild.operations, wild.statuses, wild.headers, wild.bodies)
def test_a_submit_is_read_whatever_the_bytes(
    operation: Any, status: int, headers: dict[str, str], body: bytes
) -> None:
    outcome = protocol.read_submit(operation, Answer(status, headers, body))
    assert isinstance(outcome, Accepted | Completed | Refused | Postponed | Unknown)
    if not 200 <= status < 300:
        assert not isinstance(outcome, Accepted | Completed)
