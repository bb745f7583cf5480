"""How the desk says things, and what it does not say: secrets, and addresses that are no links."""

import pytest

from desk.pages import wording
from worker.core import amounts

NOW = 1_763_800_000.0


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.306, "0.31 s"), (-1, "0.00 s"), (42.4, "42 s"), (60, "1 min"), (260, "4 min 20 s"),
     (3600, "1 h"), (7500, "2 h 5 min"), (86400 * 3, "3 d")],
)  # fmt: skip
def test_durations_are_as_exact_as_they_deserve(seconds: float, said: str) -> None:
    assert amounts.duration(seconds) == said


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.314, "0.31 s"), (4.75, "4.8 s"), (5.0, "5 s"), (9.6, "10 s"), (130.4, "2 min 10 s")],
)
def test_an_estimate_is_not_written_as_if_it_were_exact(seconds: float, said: str) -> None:
    assert amounts.about(seconds) == said


@pytest.mark.parametrize(
    ("amount", "said"), [(1840, "1,840"), (0.5, "0.5"), (12.0, "12"), (1.25, "1.25")]
)
def test_numbers_are_written_for_people(amount: float, said: str) -> None:
    assert amounts.number(amount) == said


def test_a_time_holds_utc_for_programs_and_for_the_pointer() -> None:
    told = str(wording.ago(NOW - 150, now=NOW))
    assert 'datetime="2025-11-22T08:24:10.000+00:00"' in told
    assert 'title="2025-11-22 08:24:10 UTC"' in told
    assert ">2 min<" in told
    assert ">0 s<" in str(wording.ago(NOW + 5, now=NOW))
    assert wording.moment(None) == "–"


@pytest.mark.parametrize("url", ["https://cdn.example/a.mp3?x=1", "http://127.0.0.1:8000/a"])
def test_web_addresses_are_links(url: str) -> None:
    assert wording.link(url) == url


@pytest.mark.parametrize(
    "text",
    ["javascript:alert(1)", "data:text/html,x", "//host/a", "/a", "https://", "http://[", "", None,
     7, " javascript:x", "JAVASCRIPT:x"],
)  # fmt: skip
def test_nothing_else_is_a_link(text: object) -> None:
    assert wording.link(text) is None


def test_secrets_are_hidden_wherever_they_stand() -> None:
    asked = {
        "api_key": "hush",
        "title": "A key change",
        "inner": [{"Token": "hush", "url": "https://host/a.wav?X-Signature=hush#hush"}],
        "password": "",
    }
    hidden = wording.hide(asked)
    assert "hush" not in wording.document(hidden)
    assert hidden["title"] == "A key change"
    assert hidden["inner"][0]["url"] == "https://host/a.wav?…"
    assert hidden["password"] == ""


def test_a_password_in_an_address_is_hidden() -> None:
    assert wording.hide("https://me:hush@host/a") == "https://host/a"
    assert wording.hide("http://me:hush@[::1]:8080/a?b=hush") == "http://[::1]:8080/a?…"


def test_an_address_keeps_its_port() -> None:
    assert wording.hide("http://127.0.0.1:5050/media/a.wav") == "http://127.0.0.1:5050/media/a.wav"


def test_a_body_of_any_bytes_is_shown() -> None:
    assert wording.readable(b'{"a":1}') == '{\n  "a": 1\n}'
    assert wording.readable(b"\xff\x1b[2J <b>") == "\\xff\\x1b[2J <b>"
    assert len(wording.readable(b"x" * 10**6)) <= 20_000
    assert wording.readable(b"[" * 100_000).startswith("[[[")


def test_a_long_document_is_cut_and_says_so() -> None:
    assert wording.document("x" * 50_000).endswith("… (50,002 characters)")


def test_a_name_breaks_after_dots_and_underscores_and_is_escaped() -> None:
    assert wording.breakable("a.b_<c>") == "a.<wbr>b_<wbr>&lt;c&gt;"
