"""Cron lines: what cannot be meant is refused, with the words that help to write what is."""

import re
from datetime import UTC, datetime, timedelta

import pytest

from worker.core.batch import cron


def minutes(line: str, day: str = "2026-11-23", count: int = 1440) -> list[str]:
    """List the times of a day (a Monday) that a line matches."""
    begin, due = datetime.fromisoformat(day).replace(tzinfo=UTC), cron.read(line)
    times = (begin + timedelta(minutes=number) for number in range(count))
    return [f"{time:%H:%M}" for time in times if due.matches(time)]


@pytest.mark.parametrize(
    ("line", "times"),
    {
        "5 2 * * *": "02:05",
        "05 02 23 11 1": "02:05",
        "*/20 2 * * *": "02:00 02:20 02:40",
        "10-50/20 2 * * *": "02:10 02:30 02:50",
        "0,7-9 2 * * *": "02:00 02:07 02:08 02:09",
        "0 2 * NOV mon": "02:00",
        "0 2 * November Monday": "02:00",
        "0 2 * oct-dec sat-mon": "02:00",
        "0 2 * jan-oct *": "",
        "0 2 * * tue": "",
        "0 */12 */22 */10 */1": "00:00 12:00",
    }.items(),
)
def test_a_line_is_the_minutes_that_match_all_its_fields(line: str, times: str) -> None:
    assert minutes(line) == times.split()


WRONG = {
    "0 2 * MON *": "'MON' is a day of the week: it belongs in the fifth field",
    "0 2 * mon-fri *": "'mon' is a day of the week: it belongs in the fifth field",
    "0 2 * * dec": "'dec' is a month: it belongs in the fourth field",
    "sun * * * *": "'sun' is a day of the week: it belongs in the fifth field",
    "0 2 * * mno": "'mno' is no day of the week: 0 to 7, or sun to sat; did you mean 'mon'?",
    "0 2 * sept *": "'sept' is no month: 1 to 12, or jan to dec; did you mean 'sep'?",
    "60 * * * *": "'60' is no minute: 0 to 59",
    "0 24 * * *": "'24' is no hour: 0 to 23",
    "0 2 0 * *": "'0' is no day of the month: 1 to 31",
    "0 2 * 0 *": "'0' is no month: 1 to 12, or jan to dec",
    "0 2 * * 8": "'8' is no day of the week: 0 to 7, or sun to sat",
    "-5 2 * * *": "'-5' is no minute: 0 to 59",
    "0 2 L * *": "'L' is no day of the month: 1 to 31",
    "0 2 15W * *": "'15W' is no day of the month: 1 to 31",
    "0 2 ? * *": "'?' is no day of the month: 1 to 31",
    "0 2 * * 5#2": "'5#2' is no day of the week: 0 to 7, or sun to sat",
    "0-10x 2 * * *": "'10x' is no minute: 0 to 59",
    "*/5-10 2 * * *": "'*/5-10' is no minute: 0 to 59",
    "1,,2 * * * *": "'' is no minute: 0 to 59",
    "٣ * * * *": "'٣' is no minute: 0 to 59",
    "*/0 * * * *": "'*/0': no step of 0 fits into 0 to 59",
    "*/70 * * * *": "'*/70': no step of 70 fits into 0 to 59",
    "0 */24 * * *": "'*/24': no step of 24 fits into 0 to 23",
    "10-20/15 * * * *": "'10-20/15': no step of 15 fits into 10 to 20",
    "*/ * * * *": "'*/' is no minute: 0 to 59",
    "5/10 * * * *": "'5/10': a step needs a range; write 5-59/10",
    "50-10 * * * *": "'50-10' runs backwards; write 50-59,0-10",
    "0 22-4/2 * * *": "'22-4/2' runs backwards; write 22-23,0-4",
    "0 2 * nov-feb *": "'nov-feb' runs backwards; write nov-12,1-feb",
    "0 2 30,31 2 *": "it is never due: none of its months has a day 30",
    "0 2 31 feb,4,6 *": "it is never due: none of its months has a day 31",
    "@daily": "a cron line is five fields, as in '0 2 * * *': minute hour day month weekday",
    "0 0 2 * * *": "a cron line is five fields, as in '0 2 * * *': minute hour day month weekday",
}


@pytest.mark.parametrize("line", WRONG)
def test_a_line_that_cannot_be_meant_is_refused_with_what_is(line: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(WRONG[line])}$"):
        cron.read(line)


def test_a_day_that_only_leap_years_have_is_due_in_them() -> None:
    assert minutes("0 2 29 2 *", "2028-02-29") == ["02:00"]


def test_what_a_refusal_says_to_write_instead_is_right() -> None:
    for line, why in WRONG.items():
        if "write " in why:
            fields = line.split()
            wrong = why.partition("'")[2].partition("'")[0]
            fields[fields.index(wrong)] = why.partition("write ")[2]
            cron.read(" ".join(fields))
