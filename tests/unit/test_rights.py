"""The rights that are asked for: no command of ours is forgotten, whatever a server calls it."""

import re
from pathlib import Path
from unittest import mock

import pytest
from redis.exceptions import ResponseError

from worker.doctor import rights

LUA = Path(__file__).parent.parent.parent / "worker" / "store" / "lua"


def commands(held: str) -> set[str]:
    return {each.split()[0] for each in rights.NEEDS[held].commands}


@pytest.mark.parametrize("path", sorted(LUA.rglob("*.lua")), ids=lambda path: path.stem)
def test_every_command_of_a_script_is_asked_for(path: Path) -> None:
    called = set(re.findall(r"redis\.p?call\(\s*'(\w+)'", path.read_text()))
    # Announced where the results are too, a job has its PARKED state stored by the script.
    assert called <= commands("state") | (commands("results") if path.stem == "announce" else set())


@pytest.mark.parametrize(
    ("said", "rule"),
    [
        ("User me has no permissions to run the 'hset' command", "+hset"),
        ("User me has no permissions to run the 'script|load' command", "+script|load"),
        ("this user has no permissions to run the 'hset' command or its subcommand", "+hset"),
        ("No permissions to access a key", "~fermata:*"),
        ("this user has no permissions to access one of the keys used as arguments", "~fermata:*"),
    ],
)
def test_what_is_missing_is_read_from_the_words_of_any_version(said: str, rule: str) -> None:
    assert rights._lacking(said, "~fermata:*") == rule


def test_a_server_without_transactions_is_asked_nothing_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[str] = []

    def run(_: object, commands: list[str]) -> list[object]:
        asked.extend(commands)
        return ["OK", "PONG", ResponseError("DISCARD without MULTI")]

    monkeypatch.setattr(rights, "_ask", run)
    assert rights.missing(mock.Mock(), ["state", "broker", "results"]) == []
    assert asked == ["MULTI", "PING", "DISCARD"]
