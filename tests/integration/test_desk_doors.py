"""Who gets into the desk, and who does not: tokens, sessions, forms, names, guesses."""

import html
import re
from typing import Any

import pytest
from flask import Flask

from desk.app import create_app
from desk.doors.throttle import EACH, WINDOW_SECONDS
from tests.integration import desk
from worker.core.errors import ConfigError
from worker.core.visitors import Role, Token, Visitor


@pytest.fixture
def app(valkey: Any) -> Flask:
    return desk.build(valkey.url)


def test_healthz_is_open_and_says_nothing(app: Flask) -> None:
    answer = app.test_client().get("/healthz")
    assert (answer.status_code, answer.data) == (204, b"")


def test_without_a_token_a_program_gets_a_problem_and_a_person_the_login_form(app: Flask) -> None:
    client: Any = app.test_client()
    for path in ("/api/v1/jobs", "/api/v1/none", "/metrics"):
        answer = client.get(path)
        assert (answer.status_code, answer.json["status"]) == (401, 401)
        assert answer.content_type == "application/problem+json"
        assert answer.headers["WWW-Authenticate"].startswith("Bearer ")
    page = client.get("/jobs/x?state=failed")
    assert (page.status_code, page.location) == (303, "/login?next=/jobs/x%3Fstate%3Dfailed")
    assert client.post("/jobs").location == "/login?next=/"


def test_a_link_to_a_file_leads_to_the_login_form_when_the_session_has_ended(app: Flask) -> None:
    client, path = app.test_client(), "/api/v1/jobs/x/files/x/song.mp3"
    browser = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}
    followed = client.get(path, headers=browser)
    assert (followed.status_code, followed.location) == (303, f"/login?next={path}")
    for other in (
        {"Accept": "*/*"},
        {"Accept": "application/json"},
        browser | {"Authorization": "Bearer nobodys"},
        browser | {"Authorization": "Basic YTpi"},
    ):
        assert client.get(path, headers=other).status_code == 401, other
    assert client.post("/api/v1/jobs", headers=browser).status_code == 401


@pytest.mark.parametrize(
    "path",
    ["/api/v1/jobs/x/files/x/Backing%20Vocals.mp3", "/jobs?q=%C3%BC&p=a%20b", "/jobs/a%253Ab"],
)
def test_a_path_with_any_character_comes_through_the_login_form(app: Flask, path: str) -> None:
    client = app.test_client()
    form = client.get(client.get(path, headers={"Accept": "text/html"}).location).text
    wanted = re.search(r'name="next" value="([^"]*)"', form)
    assert wanted
    assert desk.log_in(client, "operator", next=html.unescape(wanted[1])).location == path


@pytest.mark.parametrize("path", ["/jobs", "/api/v1/jobs"])
def test_a_query_that_is_no_text_leads_to_the_login_form(app: Flask, path: str) -> None:
    raw = {"QUERY_STRING": "q=\xff"}
    asked = app.test_client().get(path, environ_overrides=raw, headers={"Accept": "text/html"})
    assert (asked.status_code, asked.location.startswith("/login?next=")) == (303, True)


def test_a_wrong_token_is_refused_even_beside_a_good_session(app: Flask) -> None:
    client = app.test_client()
    desk.log_in(client, "operator")
    wrong = {"Authorization": f"Bearer {'x' * 40}"}
    assert client.get("/api/v1/nothing").status_code == 404
    refused: Any = client.get("/api/v1/nothing", headers=wrong)
    assert (refused.status_code, refused.json["detail"]) == (401, "This is no token of the desk.")
    basic = {"Authorization": "Basic b3BlcmF0b3I6eA=="}
    assert app.test_client().get("/api/v1/nothing", headers=basic).status_code == 401


def test_a_person_logs_in_and_goes_on_where_they_wanted(app: Flask) -> None:
    client = app.test_client()
    answer = desk.log_in(client, "operator", next="/jobs?state=failed")
    assert (answer.status_code, answer.location) == (303, "/jobs?state=failed")
    cookie = answer.headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert "Secure" not in cookie
    missing = client.get("/nothing")
    assert missing.status_code == 404
    for shown in ("Not found", "The desk has no such page.", 'aria-label="Screens"'):
        assert shown in missing.text


def test_over_tls_the_cookie_is_never_sent_without(app: Flask) -> None:
    client = app.test_client()
    answer = client.get("/login", base_url="https://localhost")
    assert "Secure" in answer.headers["Set-Cookie"]


def test_behind_a_proxy_that_ends_tls_the_cookie_is_secure_too(valkey: Any) -> None:
    client = desk.build(valkey.url, FERMATA_DESK_HOSTS="desk.example").test_client()
    for host, secure in (("desk.example", True), ("127.0.0.1:8002", False), ("[::1]", False)):
        answer = client.get("/login", headers={"Host": host})
        assert ("Secure" in answer.headers["Set-Cookie"]) == secure, host


@pytest.mark.parametrize(
    "wanted", ["//evil.example", "/\\evil.example", "https://evil.example", ""]
)
def test_a_login_never_leads_to_another_site(app: Flask, wanted: str) -> None:
    assert desk.log_in(app.test_client(), "operator", next=wanted).location == "/"


def test_a_session_ends_with_its_logout(app: Flask) -> None:
    client = app.test_client()
    desk.log_in(client, "reader")
    assert client.post("/logout", data={"csrf_token": desk.csrf(client)}).location == "/login"
    assert client.get("/nothing").status_code == 303


def test_a_session_ends_with_its_token(valkey: Any, app: Flask) -> None:
    client: Any = app.test_client()
    desk.log_in(client, "operator")
    cookie = client.get_cookie("fermata_desk", domain="localhost")
    left = ",".join(t for t in desk.TOKENS.split(",") if not t.startswith("operator"))
    for tokens, status in ((desk.TOKENS, 404), (left, 303)):
        restarted = desk.build(valkey.url, FERMATA_DESK_TOKENS=tokens).test_client()
        restarted.set_cookie("fermata_desk", cookie.value, domain="localhost")
        assert restarted.get("/nothing").status_code == status


def test_a_session_follows_its_token_within_a_run(app: Flask) -> None:
    client = app.test_client()
    desk.log_in(client, "operator")
    with client.session_transaction() as session:
        session["name"] = "nobody"
    assert client.get("/nothing").status_code == 303


@pytest.mark.parametrize("form", [{}, {"csrf_token": ""}, {"csrf_token": "é" * 43}])
def test_a_form_without_its_csrf_token_is_refused(app: Flask, form: dict[str, str]) -> None:
    client = app.test_client()
    assert client.post("/login", data=form | {"token": desk.SECRETS["operator"]}).status_code == 403
    desk.log_in(client, "operator")
    for path in ("/logout", "/api/v1/nothing"):
        refused = client.post(path, data=form)
        assert refused.status_code == 403
        assert ("<h1>Not allowed</h1>" in refused.text) is (path == "/logout")
    basic = {"Authorization": "Basic b3BlcmF0b3I6eA=="}
    assert client.post("/logout", data=form, headers=basic).status_code == 403
    right = {"X-CSRF-Token": desk.csrf(client)}
    assert client.post("/api/v1/nothing", headers=right).status_code == 404
    assert client.post("/logout", headers=right).status_code == 303


def test_who_may_only_read_changes_nothing_even_where_a_view_forgot_to_ask(app: Flask) -> None:
    client = app.test_client()
    answers = [client.post("/api/v1/none", headers=desk.bearer(n)) for n in ("reader", "enqueuer")]
    assert [answer.status_code for answer in answers] == [403, 404]


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "desk.internal:8010"])
def test_a_name_that_is_not_ours_is_refused(app: Flask, host: str) -> None:
    for path in ("/healthz", "/login", "/api/v1/jobs"):
        answer = app.test_client().get(path, headers={"Host": host, **desk.bearer("operator")})
        assert answer.status_code == 400


def test_the_desk_goes_by_loopback_names_and_those_of_the_settings(valkey: Any) -> None:
    app = desk.build(valkey.url, FERMATA_DESK_HOSTS="Desk.Internal., other")
    for host in ("localhost", "127.0.0.1:8010", "[::1]:8010", "desk.internal:8010", "other"):
        assert app.test_client().get("/healthz", headers={"Host": host}).status_code == 204


def test_guesses_are_slowed_down_for_each_address_and_in_all(valkey: Any) -> None:
    now = [0.0]
    app = create_app(desk.settings(valkey.url), clock=lambda: now[0])
    client = app.test_client()
    token = desk.csrf(client)

    def guess(address: str, secret: str = "x") -> Any:
        form = {"token": secret, "csrf_token": token}
        return client.post("/login", data=form, environ_base={"REMOTE_ADDR": address})

    assert [guess("192.0.2.1").status_code for _ in range(EACH + 1)] == [401] * EACH + [429]
    refused = guess("192.0.2.1")
    assert (refused.status_code, refused.headers["Retry-After"]) == (429, str(WINDOW_SECONDS))
    assert 'name="token"' in refused.text
    assert "Too many failed logins from this address. Try again in a minute." in refused.text
    others = [guess(f"192.0.2.{n}").status_code for n in range(2, 60)]
    assert others.count(401) == 45
    assert others[-1] == 429
    now[0] = WINDOW_SECONDS + 1.0
    assert guess("192.0.2.1").status_code == 401


def test_a_right_token_gets_in_however_many_others_guess(app: Flask) -> None:
    client = app.test_client()
    token = desk.csrf(client)
    for number in range(60):
        form = {"token": "x", "csrf_token": token}
        address = {"REMOTE_ADDR": f"192.0.2.{number % 12}"}
        refused = client.post("/login", data=form, environ_base=address)
    assert refused.status_code == 429
    assert desk.log_in(client, "operator").status_code == 303


def test_every_answer_says_what_a_browser_may_load(app: Flask) -> None:
    for path in ("/login", "/healthz", "/nothing", "/api/v1/nothing"):
        headers = app.test_client().get(path).headers
        policy = dict(rule.split(" ", 1) for rule in headers["Content-Security-Policy"].split("; "))
        assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == "'none'"
        assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
        assert "https://*.suno.ai" in policy["media-src"]
        assert policy["img-src"] == f"{policy['media-src']} data:"
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert headers["Cache-Control"] == "no-store"
        assert not [name for name, _ in headers if name.startswith("Access-Control")]


def test_sound_may_come_from_a_simulator_on_this_machine(valkey: Any) -> None:
    app = desk.build(valkey.url, FERMATA_PROVIDER_URL="http://127.0.0.1:8001/api/v1")
    policy = app.test_client().get("/healthz").headers["Content-Security-Policy"]
    assert " http://127.0.0.1:8001;" in policy


def test_without_tokens_the_link_of_this_run_opens_the_desk(valkey: Any) -> None:
    token = Token(Visitor("this-machine", Role.OPERATE), "made-at-start-0123456789abcdefghij")
    without = desk.settings(valkey.url, FERMATA_DESK_TOKENS="")
    client = create_app(without, this_run=token).test_client()
    printed = "Open the link that the desk printed when it started"
    assert printed in client.get("/login").text
    assert client.get(f"/login?token={token.secret}x").status_code == 401
    assert client.get("/nothing").status_code == 303
    assert client.get(f"/login?token={token.secret}").location == "/"
    assert client.get("/nothing").status_code == 404
    with pytest.raises(ConfigError):
        create_app(without)


def test_a_token_of_the_settings_opens_nothing_by_a_link(app: Flask) -> None:
    client = app.test_client()
    form = client.get(f"/login?token={desk.SECRETS['operator']}")
    assert form.status_code == 200
    assert "the link that the desk printed" not in form.text
    assert client.get("/nothing").status_code == 303
