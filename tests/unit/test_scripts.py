"""The dialect of the Lua scripts: every script declares what it takes, and calls name it; and the
lines of a timeline that they are given."""

import hashlib
import json
import re
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.exceptions import NoScriptError

from tests.system import ROOT
from worker.store import records
from worker.store.scripts import Script, declaration, source

LUA = ROOT / "worker" / "store" / "lua"
NAMES = sorted(path.stem for path in LUA.glob("*.lua"))
SHA = hashlib.sha1(source("renew_leases").encode()).hexdigest()
FUNCTION = re.compile(r"^local function (\w+)", re.MULTILINE)


def common(name: str) -> str:
    path = LUA / "common" / f"{name}.lua"
    return path.read_text("utf-8") if path.exists() else ""


def test_keys_and_arguments_are_sent_in_the_order_of_the_declaration() -> None:
    redis = mock.Mock()
    renew = Script(redis, "renew_leases")
    renew(job_ids=["a", "b"], seconds=7, ready="fermata:ready")
    redis.execute_command.assert_called_once_with("EVALSHA", SHA, 1, "fermata:ready", 7, "a", "b")


def test_a_server_that_does_not_know_a_script_is_told_it_once() -> None:
    redis = mock.Mock()
    redis.execute_command.side_effect = [NoScriptError, "renewed"]
    said = Script(redis, "renew_leases")(job_ids=["a"], seconds=7, ready="fermata:ready")
    assert said == "renewed"
    assert redis.mock_calls == [
        mock.call.execute_command("EVALSHA", SHA, 1, "fermata:ready", 7, "a"),
        mock.call.script_load(source("renew_leases")),
        mock.call.execute_command("EVALSHA", SHA, 1, "fermata:ready", 7, "a"),
    ]


ANNOUNCES = dict.fromkeys(("job", "leg", "result", "parked", "seconds"), "")


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"job": "k"}, "leg, parked, result, seconds"),
        ({**ANNOUNCES, "lag": 1}, "lag"),
        ({**ANNOUNCES, "JOB": "k"}, "JOB"),
    ],
)
def test_a_name_that_is_missing_or_misspelt_never_reaches_redis(
    given: dict[str, object], named: str
) -> None:
    redis = mock.Mock()
    with pytest.raises(TypeError, match=rf"announce\.lua: missing or unknown: {named}"):
        Script(redis, "announce")(**given)
    assert redis.mock_calls == []


@pytest.mark.parametrize("name", NAMES)
def test_a_script_takes_nothing_by_its_number(name: str) -> None:
    for text in ((LUA / f"{name}.lua").read_text("utf-8"), *map(common, declaration(name).uses)):
        assert not re.findall(r"(?:ARGV|KEYS)\[\d+\]", text)


@pytest.mark.parametrize("name", NAMES)
def test_no_function_that_a_script_uses_hides_what_it_takes(name: str) -> None:
    said = declaration(name)
    taken = {*said.keys, *said.args, said.rest}
    functions = [each for part in said.uses for each in FUNCTION.findall(common(part))]
    assert taken.isdisjoint(functions)
    assert len(functions) == len(set(functions))


@pytest.mark.parametrize("name", NAMES)
def test_a_script_gets_the_keys_of_what_it_uses(name: str) -> None:
    said = declaration(name)
    assert sorted(set(said.keys)) == sorted(said.keys)
    if "gate" in said.uses:
        assert {"GATE", "FLIGHT", "LANES", "HELD", "WAKE", "DUE"} <= set(said.keys)
    if "receipts" in said.uses:
        assert {"TOTALS", "DELIVERIES"} <= set(said.keys)
    if "tally" in said.uses:
        assert {"BATCH", "ROWS", "ROW_JOBS"} <= set(said.keys)


def test_the_states_that_end_a_job_come_from_the_table() -> None:
    assert "local ENDS = {cancelled = true, expired = true, failed = true, succeeded = true}" in (
        source("lease_due")
    )


def test_every_common_part_is_used() -> None:
    used = {part for name in NAMES for part in declaration(name).uses}
    assert {Path(path).stem for path in (LUA / "common").glob("*.lua")} == used - {"ends"}


@given(now=st.floats(0, 4e9), what=st.text(min_size=1), why=st.text())
def test_a_line_of_the_timeline_is_json(now: float, what: str, why: str) -> None:
    said = {"at": round(now, 3), "what": what} | ({"why": why} if why else {})
    assert records._entry(now, what, why) == json.dumps(said, separators=(",", ":"))
