"""The provider's door: what it hands to the use case, and how it answers."""

import io
import json
from collections.abc import Mapping
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from tests.unit.lab import JOB, Lab
from webhook_receiver import callbacks
from worker.engine.receive import Receipt

LIMIT = 1000
PATH = f"/webhooks/aimusic/{JOB}"


def door(deliveries: Any) -> FlaskClient:
    app = Flask(__name__)
    app.config["MAX_CONTENT_LENGTH"] = LIMIT
    app.extensions["deliveries"] = deliveries
    app.register_blueprint(callbacks.blueprint)
    return app.test_client()


class Heard:
    """A use case that notes what it is given."""

    def __init__(self, receipt: Receipt = Receipt.RESUMED) -> None:
        self.receipt = receipt
        self.bodies: list[bytes] = []

    def receive(self, _job_id: str, _headers: Mapping[str, str], raw: bytes) -> Receipt:
        self.bodies.append(raw)
        return self.receipt


@pytest.mark.parametrize("receipt", Receipt)
def test_every_receipt_is_told_as_json(receipt: Receipt) -> None:
    answer = door(Heard(receipt)).post(PATH, data=b"{}")
    assert (answer.status_code, answer.mimetype) == (200, "application/json")
    assert answer.json == {"status": receipt.value}


@pytest.mark.parametrize(
    ("size", "status"), [(0, 200), (1, 200), (LIMIT, 200), (LIMIT + 1, 413), (100 * LIMIT, 413)]
)
def test_a_body_is_read_up_to_the_limit(size: int, status: int) -> None:
    heard, body = Heard(), b"x" * size
    assert door(heard).post(PATH, data=body).status_code == status
    assert heard.bodies == ([body] if status == 200 else [])


class InPieces(io.BytesIO):
    """A server's stream that hands out what has come; gunicorn's waits for all of it."""

    def read(self, size: int | None = -1) -> bytes:
        return super().read(min(size or 0, 7))


def test_a_body_that_comes_in_pieces_is_read_whole() -> None:
    heard, body = Heard(), bytes(range(100))
    answer = door(heard).post(PATH, input_stream=InPieces(body), content_length=len(body))
    assert (answer.status_code, heard.bodies) == (200, [body])


@pytest.mark.parametrize(("size", "status"), [(0, 200), (LIMIT - 1, 200), (LIMIT, 413)])
def test_a_body_without_a_length_is_read_up_to_the_limit_too(size: int, status: int) -> None:
    heard, body = Heard(), b"x" * size
    chunked = {"wsgi.input_terminated": True, "HTTP_TRANSFER_ENCODING": "chunked"}
    answer = door(heard).post(PATH, input_stream=io.BytesIO(body), environ_overrides=chunked)
    assert answer.status_code == status
    assert heard.bodies == ([body] if status == 200 else [])


def test_a_body_that_is_shorter_than_announced_is_refused_unread() -> None:
    heard = Heard()
    answer = door(heard).post(
        PATH, input_stream=io.BytesIO(b"abc"), environ_overrides={"CONTENT_LENGTH": "4"}
    )
    assert answer.status_code == 400
    assert heard.bodies == []


def test_of_a_longer_body_only_what_was_announced_is_read() -> None:
    heard = Heard()
    door(heard).post(
        PATH, input_stream=io.BytesIO(b"abcdef"), environ_overrides={"CONTENT_LENGTH": "3"}
    )
    assert heard.bodies == [b"abc"]


def test_the_headers_are_found_in_any_case_and_kept_as_evidence() -> None:
    lab, body = Lab(), b"{"
    headers = lab.headers(body)
    shouted = {name.upper(): value for name, value in headers.items()}
    agent = {"User-Agent": "them", "Cookie": "secret"}
    answer = door(lab.deliveries).post(PATH, data=body, headers=shouted | agent)
    assert json.loads(answer.data) == {"status": "quarantined"}
    assert lab.quarantine.headers == [headers | {"User-Agent": "them"}]
