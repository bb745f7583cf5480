"""The timetable: what is wrong with it is said at once, and every minute is due once."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.batch.timetable import read
from worker.core.batch.timetable import (
    Overlap,
    Schedule,
    batch_id,
    due_minutes,
    next_minutes,
    parse,
)
from worker.core.errors import ConfigError

NIGHTLY = """
[[schedule]]
name = "nightly"
cron = "30 2 * * 1-5"
timezone = "Europe/Berlin"
manifest = "songs.csv"
overlap = "queue"
"""


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def test_a_timetable_is_read() -> None:
    (schedule,) = parse(NIGHTLY)
    assert schedule == Schedule(
        "nightly", "30 2 * * 1-5", "songs.csv", "Europe/Berlin", Overlap.QUEUE, 3600
    )


def test_an_empty_timetable_is_one_without_schedules() -> None:
    assert parse("") == ()


WRONG = {
    'cron = "* * * *"': "five fields",
    'cron = "99 * * * *"': "cron: '99' is no minute",
    'cron = "0 2 * MON *"': "cron: 'MON' is a day of the week: it belongs in the fifth field",
    'timezone = "Mars/Olympus"': "there is no 'Mars/Olympus'",
    'overlap = "maybe"': "skip, queue",
    "missed_after_seconds = 5": "60 to 86400",
    "missed_after_seconds = true": "60 to 86400",
    'name = "a b"': "name: must match",
    'name = ""': "name: required",
    "name = 7": "name: must be a text",
    'crom = "x"': "crom: unknown; did you mean 'cron'?",
}


@pytest.mark.parametrize("line", WRONG)
def test_what_is_wrong_is_named_with_its_schedule(line: str) -> None:
    key = line.partition(" ")[0]
    kept = [each for each in NIGHTLY.splitlines() if not each.startswith(f"{key} ")]
    with pytest.raises(ConfigError) as caught:
        parse("\n".join([*kept, line]))
    assert "schedule 1" in caught.value.message
    assert WRONG[line] in caught.value.message


def test_all_that_is_wrong_is_named_at_once() -> None:
    text = NIGHTLY + '[[schedule]]\nname = "nightly"\n[other]\n'
    with pytest.raises(ConfigError) as caught:
        parse(text)
    lines = caught.value.message.splitlines()
    assert [line.strip() for line in lines[1:]] == [
        "other: unknown; a timetable has [[schedule]] tables only",
        "schedule 1 (nightly): name: there are two of it",
        "schedule 2 (nightly): cron: required",
        "schedule 2 (nightly): manifest: required",
        "schedule 2 (nightly): name: there are two of it",
    ]


@pytest.mark.parametrize("text", ["[[schedule", "schedule = 3", "schedule = [1]"])
def test_what_is_no_timetable_says_so(text: str) -> None:
    with pytest.raises(ConfigError, match="timetable"):
        parse(text)


def test_a_timetable_that_cannot_be_read_says_so(tmp_path: object) -> None:
    from pathlib import Path

    with pytest.raises(ConfigError, match="cannot be read"):
        read(Path(str(tmp_path)) / "missing.toml")


def due(cron: str, after: str, now: str, timezone: str = "UTC") -> list[str]:
    schedule = Schedule("s", cron, "m.csv", timezone)
    found = due_minutes(schedule, after=at(after), now=at(now))
    return [minute.strftime("%dT%H:%M") for minute in found]


def test_each_minute_is_due_once_however_often_it_is_asked() -> None:
    assert due("* * * * *", "2026-11-23T02:00", "2026-11-23T02:02:59") == ["23T02:01", "23T02:02"]
    assert due("* * * * *", "2026-11-23T02:02", "2026-11-23T02:02:59") == []


def test_a_schedule_keeps_to_its_own_timezone() -> None:
    day = ("2026-11-22T12:00", "2026-11-23T12:00")
    assert due("30 2 * * *", *day, timezone="Europe/Berlin") == ["23T01:30"]


def test_a_time_that_a_clock_change_repeats_is_due_twice_and_one_it_skips_never() -> None:
    autumn = ("2026-10-24T12:00", "2026-10-25T12:00")
    assert due("30 2 * * *", *autumn, timezone="Europe/Berlin") == ["25T00:30", "25T01:30"]
    spring = ("2026-03-28T12:00", "2026-03-29T12:00")
    assert due("30 2 * * *", *spring, timezone="Europe/Berlin") == []


def test_weekdays_are_counted_as_cron_does() -> None:
    week = ("2026-11-22T00:00", "2026-11-22T23:59")
    assert due("0 6 * * 0", *week) == ["22T06:00"]
    assert due("0 6 * * 1", *week) == []


@pytest.mark.parametrize(
    ("weekday", "days"),
    {
        "7": "22",
        "5-7": "20 21 22",
        "7-1": "16 22",
        "0-7": "16 17 18 19 20 21 22",
        "1-7/2": "16 18 20 22",
        "3,7": "18 22",
        "*/7": "22",
        "sat-7": "21 22",
        "sat-mon": "16 21 22",
        "6-2/2": "16 21",
    }.items(),
)
def test_sunday_is_0_and_7_as_in_cron(weekday: str, days: str) -> None:
    """16 November 2026 is a Monday, the 22nd a Sunday."""
    week = range(16, 23)
    on_duty = (due(f"0 6 * * {weekday}", f"2026-11-{day}", f"2026-11-{day}T12") for day in week)
    assert [minute for day in on_duty for minute in day] == [f"{d}T06:00" for d in days.split()]


def test_it_looks_back_a_day_at_most() -> None:
    assert len(due("0 * * * *", "2020-01-01T00:00", "2026-11-23T12:30")) == 24


@given(st.integers(0, 86_400 * 3), st.integers(0, 86_400), st.integers(0, 86_400))
def test_asking_in_two_steps_finds_what_one_step_finds(start: int, one: int, two: int) -> None:
    schedule, base = Schedule("s", "*/7 * * * *", "m.csv"), at("2026-11-23T00:00") + start
    total = one + two
    if total > 86_000:
        return
    both = due_minutes(schedule, after=base, now=base + total)
    first = due_minutes(schedule, after=base, now=base + one)
    assert first + due_minutes(schedule, after=base + one, now=base + total) == both


def test_a_run_is_named_after_its_minute() -> None:
    schedule = Schedule("nightly", "* * * * *", "m.csv")
    minute = datetime(2026, 11, 23, 1, 30, tzinfo=UTC)
    assert batch_id(schedule, minute) == "nightly-20261123T0130Z"


@given(
    start=st.integers(0, 400 * 1440),
    cron=st.sampled_from(["*/7 * * * *", "30 2 * * 1-5", "0 0 1 * *", "59 23 * * sun"]),
    zone=st.sampled_from(["UTC", "Europe/Berlin", "Asia/Kathmandu", "Australia/Lord_Howe"]),
)
def test_what_is_due_next_is_what_will_have_been_due(start: int, cron: str, zone: str) -> None:
    schedule = Schedule("s", cron, "songs.csv", zone)
    now = at("2026-01-01T00:00:30") + start * 60
    due = next_minutes(schedule, after=now, count=2)
    assert len(due) == 2
    until = due[-1].timestamp()
    ends = [now + 86400 * day for day in range(1, int((until - now) // 86400) + 1)]
    found = (due_minutes(schedule, after=now, now=end) for end in (*ends, until))
    assert sorted({minute for each in found for minute in each}) == due


def test_a_schedule_that_is_not_due_within_a_year_has_no_next_time() -> None:
    leap = Schedule("s", "0 0 29 2 *", "songs.csv")
    assert next_minutes(leap, after=at("2026-11-29T00:00"), count=3) == []
    [next_] = next_minutes(leap, after=at("2027-11-29T00:00"), count=3)
    assert next_ == datetime(2028, 2, 29, tzinfo=UTC)
