"""Files that people wrote: UTF-8, with or without a mark; nothing else is paid for."""

import ast
import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.recorded import ROOT
from worker import text
from worker.batch.timetable import read as read_timetable
from worker.cli.commands import main
from worker.core.errors import ConfigError
from worker.core.text import NotText, decode, without_mark
from worker.settings import Role, load
from worker.text import LIMIT, Unreadable

LYRICS = "[Verse]\nHalte die Töne – 保持\n"
NOT_TEXT = {
    "UTF-16": (LYRICS.encode("utf-16"), "is UTF-16"),
    "UTF-16, no mark": ("la".encode("utf-16-le"), "line 1, character 2 is a control character"),
    "Latin-1": ("eins\nTöne".encode("latin-1"), "line 2, byte 2 is not UTF-8: 0xF6"),
    "NUL": (b"one\n\x00", "line 2, character 1 is a control character: U+0000"),
    "a song": (b"ID3\x04\x00\x00", "line 1, character 4 is a control character: U+0004"),
}


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_text_is_read_without_its_mark_and_with_plain_line_ends(
    mark: bytes, end: str, tmp_path: Path
) -> None:
    file = tmp_path / "lyrics.txt"
    file.write_bytes(mark + LYRICS.replace("\n", end).encode())
    assert text.read(file) == LYRICS


@pytest.mark.parametrize("kind", NOT_TEXT)
def test_what_is_no_text_is_refused_with_its_place_and_what_to_do(
    kind: str, tmp_path: Path
) -> None:
    raw, why = NOT_TEXT[kind]
    (tmp_path / "lyrics.txt").write_bytes(raw)
    with pytest.raises(Unreadable) as refused:
        text.read(tmp_path / "lyrics.txt")
    assert "lyrics.txt" in str(refused.value)
    assert why in str(refused.value)
    assert str(refused.value).endswith("save it as UTF-8 text")


@pytest.mark.parametrize("path", ["/nowhere/at/all", "/", "a\0b"])
def test_what_cannot_be_read_is_said_to_be_so(path: str) -> None:
    with pytest.raises(Unreadable, match="cannot be read"):
        text.read(Path(path))


def test_a_file_without_an_end_is_not_read_to_its_end() -> None:
    with pytest.raises(Unreadable, match=f"longer than {LIMIT:,} bytes"):
        text.read(Path("/dev/zero"))


@given(st.binary())
def test_any_bytes_are_text_or_refused(raw: bytes) -> None:
    with contextlib.suppress(NotText):
        assert decode(without_mark(raw)).encode() == raw.removeprefix(b"\xef\xbb\xbf")


# -- each place where such a file is read ------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder without settings."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FERMATA_REDIS_URL", "redis://127.0.0.1:1/0")
    return tmp_path


def submit(value: str) -> Result:
    song = ("submit", "sonic.create_music", "-p", "custom_mode=false")
    return CliRunner().invoke(main, [*song, "-p", f"gpt_description_prompt={value}"])


@pytest.mark.parametrize("kind", NOT_TEXT)
def test_a_prompt_that_is_no_text_is_wrong_usage(kind: str, folder: Path) -> None:
    raw, why = NOT_TEXT[kind]
    (folder / "lyrics.txt").write_bytes(raw)
    ran = submit("@lyrics.txt")
    assert ran.exit_code == 2
    assert "gpt_description_prompt: lyrics.txt" in ran.stderr
    assert why in ran.stderr


def test_an_argument_that_is_no_text_is_wrong_usage(folder: Path) -> None:
    ran = submit("T\udcf6ne")  # as Python reads Latin-1 from a UTF-8 terminal
    assert (ran.exit_code, "0xF6" in ran.stderr) == (2, True)


@pytest.mark.parametrize("kind", NOT_TEXT)
def test_settings_that_are_no_text_are_wrong_settings(kind: str, folder: Path) -> None:
    raw, why = NOT_TEXT[kind]
    (folder / ".env").write_bytes(raw)
    ran = CliRunner().invoke(main, ["jobs"])
    assert ran.exit_code == 3
    assert ran.stderr.startswith("fermata: settings: .env")
    assert why in ran.stderr


def test_the_first_setting_is_not_lost_behind_a_mark(folder: Path) -> None:
    (folder / ".env").write_text("FERMATA_IN_FLIGHT=7\n", "utf-8-sig")
    assert load(Role.CLIENT).limits.in_flight == 7


@pytest.mark.parametrize("kind", NOT_TEXT)
def test_a_key_that_is_no_text_is_a_wrong_setting(
    kind: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw, why = NOT_TEXT[kind]
    (folder / "secret").write_bytes(raw)
    monkeypatch.setenv("FERMATA_API_KEY_FILE", "secret")
    with pytest.raises(ConfigError, match=f"FERMATA_API_KEY_FILE: secret.*{re.escape(why)}"):
        load(Role.CLIENT)


@pytest.mark.parametrize("saved_as", ["utf-8", "utf-8-sig"])
def test_a_key_is_read_without_its_mark(
    saved_as: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "secret").write_text("sk_secret\r\n", saved_as)
    monkeypatch.setenv("FERMATA_API_KEY_FILE", "secret")
    assert load(Role.CLIENT).api_key == "sk_secret"


@pytest.mark.parametrize("key", ["sk_seçret", "sk_\u200bsecret", "Bearer sk_secret"])
def test_a_key_that_no_header_can_hold_is_a_wrong_setting(
    key: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FERMATA_API_KEY", key)
    with pytest.raises(ConfigError, match="visible ASCII") as refused:
        load(Role.CLIENT)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("kind", NOT_TEXT)
def test_a_timetable_that_is_no_text_is_a_wrong_setting(kind: str, folder: Path) -> None:
    raw, why = NOT_TEXT[kind]
    (folder / "timetable.toml").write_bytes(raw)
    with pytest.raises(ConfigError, match=f"the timetable: timetable.toml.*{re.escape(why)}"):
        read_timetable(Path("timetable.toml"))


# -- whatever we write is UTF-8 ----------------------------------------------------------------

_OPENERS = {"open", "fdopen", "TemporaryFile", "NamedTemporaryFile"}
PACKAGES = ("worker", "tasks", "webhook_receiver", "simulator", "fermata_client", "benchmarks")


def left_to_the_locale(source: str) -> Iterator[int]:
    """Yield the lines on which a file is opened as text, and the locale decides as which."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and not any(k.arg == "encoding" for k in node.keywords):
            name = ast.unparse(node.func).rpartition(".")[2]
            words = [a.value for a in node.args if isinstance(a, ast.Constant)]
            modes = [each for each in words if re.fullmatch("[rwaxbt+]+", str(each))]
            plain = isinstance(node.func, ast.Name) or not node.args  # open(path), path.open()
            if (
                (name in {"read_text", "write_text"} and not {"utf-8", "utf-8-sig"} & set(words))
                or (name == "open" and not modes and plain)
                or (name in _OPENERS and modes and "b" not in str(modes[0]))
            ):
                yield node.lineno


@pytest.mark.parametrize("package", [*PACKAGES, "examples"])
def test_no_file_is_written_or_read_as_the_locale_has_it(package: str) -> None:
    files = {file: file.read_text("utf-8") for file in (ROOT / package).rglob("*.py")}
    found = {str(file): list(left_to_the_locale(source)) for file, source in files.items()}
    assert not {file: lines for file, lines in found.items() if lines}


@pytest.mark.parametrize(
    "rude",
    ["p.open('w')", "p.open()", "p.write_text(s)", "p.read_text()", "open(p)", "open(p, 'a')"],
)
def test_the_test_above_would_notice(rude: str) -> None:
    assert list(left_to_the_locale(rude)) == [1]
