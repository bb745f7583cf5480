"""What is told of a flow's end: which words, under which id, with which signature."""

import json
from datetime import timedelta

import pytest

from worker.core.notices import SCHEME, End, Notice, read_end, read_secret

NOW = 1_790_000_000.5
WELL, BADLY = End("wav"), End("midi", "TaskFailed")


def data(*ends: End) -> dict[str, str | None]:
    told: dict[str, str | None] = json.loads(Notice("first", ends).body(now=NOW))["data"]
    return told


def test_a_flow_that_succeeded_names_its_last_job() -> None:
    assert data(End("stems"), WELL) == {
        "flow_id": "first", "job_id": "wav", "state": "succeeded", "error_type": None,
    }  # fmt: skip


def test_a_flow_that_failed_names_the_first_job_that_did() -> None:
    assert data(WELL, BADLY, End("x", "JobCancelled")) == {
        "flow_id": "first", "job_id": "midi", "state": "failed", "error_type": "TaskFailed",
    }  # fmt: skip


def test_the_message_is_of_a_type_and_a_time() -> None:
    message = json.loads(Notice("first", [WELL]).body(now=NOW))
    assert (message["type"], message["timestamp"]) == ("flow.ended", "2026-09-21T14:13:20+00:00")


def test_an_end_has_an_id_of_its_own_that_does_not_change() -> None:
    assert Notice("first", [WELL]).message_id == Notice("first", [End("wav")]).message_id
    others = [Notice("first", [BADLY]), Notice("first", [WELL, BADLY]), Notice("2", [WELL])]
    assert len({each.message_id for each in (Notice("first", [WELL]), *others)}) == 4


def test_an_end_is_read_as_it_was_written() -> None:
    assert [read_end(end.to_text()) for end in (WELL, BADLY)] == [WELL, BADLY]


def test_the_signature_is_that_of_standard_webhooks() -> None:
    """The vector of its specification."""
    secret = read_secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    body = b'{"test": 2432232314}'
    signed = SCHEME.headers(secret, "1614265330", body, delivery_id="msg_p5jXN8AQM9LWM0D4loKWxJek")
    assert signed["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_a_receiver_can_verify_what_it_is_told() -> None:
    from datetime import UTC, datetime

    notice, body = Notice("first", [WELL]), Notice("first", [WELL]).body(now=NOW)
    headers = notice.headers(b"k" * 32, body, now=NOW)
    assert headers["webhook-id"] == notice.message_id
    SCHEME.verify(
        headers, body, secrets=["k" * 32], now=datetime.fromtimestamp(NOW, UTC),
        tolerance=timedelta(seconds=5),
    )  # fmt: skip


@pytest.mark.parametrize("text", ["", "whsec_AAAA", "whsec_!", "A" * 44, "whsec_" + "A" * 100])
def test_a_secret_of_another_form_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="whsec_"):
        read_secret(text)
