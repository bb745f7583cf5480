"""What each check says of addresses, keys and files, of the receiver and the provider."""

import json
from typing import Any

import pytest

from worker.core import wire
from worker.core.errors import FermataError, InvalidPayload, OutOfCredits, RequestRefused
from worker.core.health import surroundings
from worker.core.health.checks import Level
from worker.core.visitors import Role, Visitor
from worker.core.wire import Answer

KEY = "k4JtXb0PZqv7LwY2cRn8sUe6hDf3aGm1"
OTHER_KEY = "Zr8wQm2Nf5xLc7Vb0TkYs3HdGj6Pa9Ue"
FORGED = {"error": "invalid signature"}


def answered(status: int, body: Any) -> Answer:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Answer(status, {}, raw)


def test_the_providers_address_is_fine_by_https_and_else_a_simulators() -> None:
    assert surroundings.check_provider_url("https://api.example/v1").level is Level.OK
    assert surroundings.check_provider_url("http://127.0.0.1:8001").level is Level.NOTE


@pytest.mark.parametrize(
    ("url", "level"),
    [
        ("https://fermata.example", Level.OK),
        ("http://127.0.0.1:8000", Level.NOTE),
        ("", Level.DANGER),
    ],
)
def test_the_provider_needs_a_way_back(url: str, level: Level) -> None:
    assert surroundings.check_public_url(url).level is level


@pytest.mark.parametrize("scheme", ["https", "http"])
def test_no_password_of_a_url_is_shown(scheme: str) -> None:
    url = f"{scheme}://user:secret@[::1]:8080/in?a=b"
    for check in (surroundings.check_public_url, surroundings.check_provider_url):
        said = check(url).said
        assert said.startswith(f"{scheme}://[::1]:8080/in?a=b")
        assert "secret" not in said
        assert "user" not in said


@pytest.mark.parametrize(
    ("keys", "api_key", "level"),
    [
        ((KEY,), "sk", Level.OK),
        ((KEY, OTHER_KEY), "sk", Level.NOTE),
        ((), "", Level.DANGER),
        ((OTHER_KEY, KEY), KEY, Level.DANGER),
    ],
)
def test_signing_keys_are_ours_alone(keys: tuple[str, ...], api_key: str, level: Level) -> None:
    finding = surroundings.check_keys(keys, api_key)
    assert finding.level is level
    assert KEY not in finding.said + finding.do


# -- the receiver -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "signed", "level"),
    [
        (answered(200, {"status": "without effect"}), True, Level.OK),
        (answered(401, FORGED), False, Level.OK),
        (answered(401, FORGED), True, Level.DANGER),
        (answered(401, {"error": "log in first"}), True, Level.DANGER),
        (answered(200, {"status": "ok"}), True, Level.DANGER),
        (answered(200, b"<html>Welcome to nginx!</html>"), True, Level.DANGER),
        (answered(301, b""), True, Level.DANGER),
        ("ConnectTimeout", True, Level.DANGER),
    ],
)
def test_the_receiver_is_told_from_a_stranger(
    answer: Answer | str, signed: bool, level: Level
) -> None:
    assert surroundings.check_receiver(answer, signed=signed).level is level


@pytest.mark.parametrize(
    ("answer", "level"),
    [
        (answered(200, {"status": "ok"}), Level.OK),
        (answered(503, {"status": "redis is away"}), Level.DANGER),
        (answered(503, b"no healthy upstream"), Level.NOTE),
        (answered(404, b""), Level.NOTE),
        ("ReadTimeout", Level.NOTE),
    ],
)
def test_the_receiver_says_whether_it_can_store(answer: Answer | str, level: Level) -> None:
    assert surroundings.check_health(answer).level is level


# -- the provider -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("left", "level"), [(1000.0, Level.OK), (3.0, Level.WARNING), (0.0, Level.WARNING)]
)
def test_credits_are_enough_for_any_operation_or_not(left: float, level: Level) -> None:
    assert surroundings.check_account(left).level is level


def test_the_balance_is_said() -> None:
    assert "1234.5 credits" in surroundings.check_account(1234.5).said


@pytest.mark.parametrize(
    ("why", "level"),
    [
        (RequestRefused("bad key", {"http_status": 401}), Level.DANGER),
        (RequestRefused("teapot", {"http_status": 418}), Level.WARNING),
        (OutOfCredits("none", {"http_status": 403}), Level.WARNING),
        (InvalidPayload("HTTP 429"), Level.WARNING),
        (wire.NeverSent("cannot connect to the provider"), Level.DANGER),
        (wire.AnswerLost("no readable answer"), Level.DANGER),
    ],
)
def test_an_api_key_is_wrong_only_when_the_provider_says_so(
    why: FermataError, level: Level
) -> None:
    assert surroundings.check_account(why).level is level


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(
    ("apart", "level"), [(150, Level.OK), (151, Level.WARNING), (301, Level.DANGER)]
)
def test_webhooks_are_refused_where_the_clocks_are_too_far_apart(
    apart: float, sign: int, level: Level
) -> None:
    assert surroundings.check_provider_clock(sign * apart, 300).level is level


# -- files ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "level"), [(0o100600, Level.OK), (0o100640, Level.OK), (0o100644, Level.WARNING)]
)
def test_secrets_are_not_for_everyone(mode: int, level: Level) -> None:
    assert surroundings.check_file(".env", mode).level is level


# -- the desk ---------------------------------------------------------------------------------


STARTS_ONE = "`fermata desk` starts one here"


@pytest.mark.parametrize(
    ("answer", "level", "said"),
    [
        (answered(204, b""), Level.OK, "It answers at http://desk:8002."),
        (answered(400, b""), Level.WARNING, "does not go by the name in http://desk:8002"),
        (answered(200, b"<html>"), Level.WARNING, "not by our desk"),
        ("ConnectionRefusedError", Level.NOTE, STARTS_ONE),
    ],
)
def test_the_desk_is_told_from_a_stranger(answer: Answer | str, level: Level, said: str) -> None:
    found = surroundings.check_desk("http://desk:8002", answer)
    assert found.level is level
    assert said in found.said


def test_who_may_enter_the_desk_is_said() -> None:
    ada, shop = Visitor("ada", Role.OPERATE), Visitor("shop", Role.READ, "acme")
    found = surroundings.check_visitors([ada, shop])
    assert (found.level, found.said) == (Level.OK, "ada (operate), shop (read for acme).")
    assert surroundings.check_visitors([]).level is Level.NOTE
