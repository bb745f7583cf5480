"""The provider's ways of saying no: one parser, one tree of errors."""

from typing import Any

import pytest

from tests.unit import recorded
from worker.core import errors
from worker.core.errors import ProviderError
from worker.core.providers.aimusic import refusals
from worker.core.providers.aimusic.operations import OPERATIONS

CREATE = OPERATIONS["sonic.create_music"]


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


MESSAGES = recorded.load("official_messages", "messages.json")
MEANINGS: dict[str, type[ProviderError]] = {
    "400": errors.RequestRefused,
    "401": errors.KeyRefused,
    "403 credits": errors.OutOfCredits,
    "403 moderation": errors.RequestRefused,
    "500": errors.ProviderUnavailable,
    "504": errors.ProviderUnavailable,
}


@pytest.mark.parametrize(
    ("group", "words"),
    [(group, words) for group in MEANINGS for words in MESSAGES[group]],
)
def test_an_official_message_is_understood_in_each_of_four_shapes(group: str, words: str) -> None:
    status = int(group[:3])
    for body in (
        {"code": status, "message": words},
        {"error": words, "type": "some_type", "detail": "more"},
        {"error": words, "retriable": False},
        {"message": words, "type": "some_type", "already_refunded": True},
    ):
        error = refusals.read_error(CREATE, status, body)
        assert type(error) is MEANINGS[group], body
        assert (error.message, error.http_status) == (words, status)


def test_only_what_may_pass_is_retryable() -> None:
    read = {status: refusals.read_error(CREATE, status, {}) for status in range(400, 600)}
    assert {status for status, error in read.items() if error.retryable} == {
        408,
        429,
        *range(500, 600),
    }


def test_a_retired_operation_says_what_to_use_instead() -> None:
    body = {"type": "endpoint_retired", "error": "Gone."}
    for operation in OPERATIONS.values():
        error = refusals.read_error(operation, 410, body)
        assert isinstance(error, errors.OperationRetired)
        assert error.details["instead"] == operation.retired
        assert operation.name in error.message
        assert ("; use " in error.message) is bool(operation.retired)
        assert "Gone." in error.message


def test_the_header_says_how_long_to_wait() -> None:
    assert refusals.read_error(CREATE, 429, {}, retry_after=7).retry_after == 7
    assert refusals.read_error(CREATE, 500, {}, retry_after=7).retry_after == 7


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"failed_step": "cover", "steps": {"cover": {"error": "no"}}}, "no"),
        ({"steps": {"upload": {"error": "no"}}}, "no"),
        ({"steps": {"upload": {"success": True}, "cover": {"error": "no"}}}, "no"),
        ({"message": "said", "steps": {"upload": {"success": True}}}, "said"),
        ({"message": "said", "steps": ["upload"]}, "said"),
        ({"message": "said", "steps": {"upload": "no"}, "failed_step": 7}, "said"),
    ],
)
def test_the_reason_of_a_step_comes_before_the_rest(body: Any, words: str) -> None:
    assert refusals.find_words(body) == words


@pytest.mark.parametrize(
    ("status", "read"),
    [
        ("PENDING", "running"), ("RUNNING", "running"), ("processing", "running"),
        ("SUCCESS", "succeeded"), ("succeeded", "succeeded"), ("FAILED", "failed"),
        ("dreaming", None), (200, None), (None, None), (["failed"], None),
    ],
)  # fmt: skip
def test_a_tasks_own_status_is_read_in_either_case(status: Any, read: str | None) -> None:
    assert refusals.task_status({"status": status}) == read
    assert refusals.says_failed({"status": status}) is (read == "failed")


@pytest.mark.parametrize("words", ["Credits could not be refunded.", "No credits were refunded."])
def test_a_refund_that_did_not_happen_is_not_taken_for_one(words: str) -> None:
    assert not refusals.says_refunded({"message": words})
