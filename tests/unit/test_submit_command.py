"""``fermata submit``: what it refuses, and that it names every mistake at once."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from worker.cli.commands import main


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FERMATA_REDIS_URL", "redis://127.0.0.1:1/0")


def refused(*arguments: str) -> str:
    ran = CliRunner().invoke(main, ["submit", *arguments])
    assert ran.exit_code == 2, ran.output
    return ran.stderr


def test_every_mistake_is_named_at_once() -> None:
    told = refused(
        "sonic.remaster", "-p", "mv=v0", "-p", "stile=calm", "--tenant", "a b",
        "--then", "sonic.wave+sonic.mdi", "--then", "sonic.bmp",
    )  # fmt: skip
    for mistake in (
        "continue_clip_id", "mv: Must be one of", "stile: ", "tenant: must be 1 to 64 letters",
        "did you mean 'sonic.wav'", "did you mean 'sonic.midi'", "did you mean 'sonic.bpm'",
    ):  # fmt: skip
        assert mistake in " ".join(told.split()), told


def test_an_unknown_operation_does_not_hide_what_else_is_wrong() -> None:
    told = refused("sonic.remastr", "-p", "mv=chirp-v5", "--then", "sonic.wave")
    assert "did you mean 'sonic.remaster'" in told
    assert "did you mean 'sonic.wav'" in told


def test_a_pick_needs_something_to_pick_from() -> None:
    assert "nothing to pick from" in refused("account.credits", "--pick", "1")
    assert "no clip for pick=1" in refused("sonic.wav", "--source", "abc", "--pick", "1")
