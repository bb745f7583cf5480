"""The form in which a record keeps a message: small, whole, and readable by every later version."""

import base64
import json
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.core.job import kept

HEAD: dict[str, Any] = {
    "content-encoding": "utf-8",
    "content-type": "application/json",
    "headers": {"task": "fermata.sonic.remaster", "id": "a5ed90f2-279f-494f-bf83-c880b45c8aa2"},
    "properties": {"delivery_info": {"exchange": "", "routing_key": "fermata"}, "priority": 0},
}
BODY = b'[["ceb3ca15-5799-4c51-89d6-05345415c95f"], {"mv": "chirp-v5"}, {"chain": null}]'
WRITTEN_IN_NOVEMBER_2026 = (
    "1:rdZLCoAwDIThEwX6yNDkMC7S2FxCvLuCm+KiG73CNwz8x4rue3e+P2YYu6YoVJoGsXJQD6nkIqkzXM"
    "zKYzCP9pukj17dMghNldiRSXS/ix6VwRmuiIX2BHluFw=="
)


def test_a_message_of_the_first_version_of_the_form_is_read_for_ever() -> None:
    assert kept.unpack(WRITTEN_IN_NOVEMBER_2026) == (HEAD, BODY)


def test_a_message_in_the_form_before_is_read() -> None:
    plain = json.dumps(HEAD | {"body": base64.b64encode(BODY).decode()})
    assert kept.unpack(plain) == (HEAD, BODY)


def test_a_message_is_kept_small() -> None:
    assert len(kept.pack(json.dumps(HEAD, separators=(",", ":")), BODY)) < 130


@given(st.dictionaries(st.text(), st.text() | st.none()), st.binary())
def test_a_message_comes_back_as_it_was(head: dict[str, Any], body: bytes) -> None:
    assert kept.unpack(kept.pack(json.dumps(head), body)) == (head, body)


@pytest.mark.parametrize("text", ["", "{", "1:", "1:AAAA", "1:no base64!", "2:later"])
def test_what_is_no_message_is_refused(text: str) -> None:
    with pytest.raises((ValueError, zlib.error)):
        kept.unpack(text)


@pytest.mark.parametrize(
    ("body", "asked"),
    [
        ([["clip"], {"mv": "chirp-v5"}, {}], {"source": "clip", "parameters": {"mv": "chirp-v5"}}),
        (
            [[], {"source": "clip", "tags": "x"}, {}],
            {"source": "clip", "parameters": {"tags": "x"}},
        ),
        ([[], {}, {}], {"source": None, "parameters": {}}),
    ],
)
def test_a_message_says_what_it_asks_for(body: Any, asked: dict[str, Any]) -> None:
    assert kept.request(kept.pack(json.dumps(HEAD), json.dumps(body).encode())) == asked


def test_a_message_of_another_form_than_json_says_nothing() -> None:
    head = HEAD | {"content-type": "application/x-python-serialize"}
    assert kept.request(kept.pack(json.dumps(head), b"...")) is None
