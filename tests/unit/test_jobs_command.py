"""``fermata jobs`` and ``status``: what they refuse before they ask anybody, and times."""

import time
from datetime import UTC, datetime
from typing import Any

import pytest
from click.testing import CliRunner

from worker.cli import overview
from worker.cli.commands import main


@pytest.mark.parametrize("limit", ["0", "-1"])
def test_a_limit_that_would_mean_all_jobs_is_refused(limit: str) -> None:
    ran = CliRunner().invoke(main, ["jobs", "--limit", limit])
    assert ran.exit_code == 2
    assert "--limit" in ran.stderr


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["jobs", "--since", "yesterday"], "'yesterday' is neither as 30m, 2h or 7d nor an ISO"),
        (["jobs", "--state", "done"], "'done' is not one of"),
        (["status", "--watch", "--json"], "leave out --json"),
        (["wait"], "Missing argument"),
    ],
    ids=" ".join,
)
def test_a_wrong_option_is_refused(command: list[str], said: str) -> None:
    ran = CliRunner().invoke(main, command)
    assert ran.exit_code == 2
    assert said in ran.stderr


def read(text: str) -> Any:
    return overview._Time().convert(text, None, None)


@pytest.mark.parametrize(
    "text", ["2026-11-29T12:00", "2026-11-29T12:00:00Z", "2026-11-29T13:00+01:00"]
)
def test_a_time_is_read_in_utc_if_it_names_no_zone(text: str) -> None:
    assert read(text) == datetime(2026, 11, 29, 12, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("30m", 1800), ("1.5h", 5400), ("7d", 604800)]
)
def test_a_time_may_be_so_long_ago(text: str, seconds: float) -> None:
    before = time.time()
    assert before - seconds <= read(text) <= time.time() - seconds
