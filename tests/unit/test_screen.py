"""What ``fermata dev`` shows, and to whom: readers that are slow, full or gone."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import pytest

from worker.cli.dev.screen import Log, Screen, link_of_the_desk, summary

AT = "2026-11-28T19:13:44.470234Z"
JOB = "3b926ce6-9929-4632-bd2e-984a11bb9779"


@pytest.fixture
def pipe() -> Iterator[tuple[TextIO, TextIO]]:
    """A pipe: its reader, and its writer."""
    reading, writing = os.pipe()
    with open(reading) as reader, open(writing, "w", encoding="ascii") as writer:
        yield reader, writer


def test_lines_are_shown_and_what_the_console_cannot_encode_is_replaced(
    pipe: tuple[TextIO, TextIO],
) -> None:
    screen = Screen(pipe[1])
    screen.tell("Ready …")
    screen.close(5)
    assert pipe[0].readline() == "Ready ?\n"
    assert not screen.gone


def test_a_reader_that_does_not_read_holds_nobody_up(pipe: tuple[TextIO, TextIO]) -> None:
    screen = Screen(pipe[1])
    for _ in range(50_000):
        screen.tell("x" * 100)
    screen.close(0.1)
    assert not screen.gone
    pipe[0].close()  # and the thread, which waits in a write, ends
    assert screen.gone


def test_a_reader_that_has_gone_is_noticed_without_a_write(pipe: tuple[TextIO, TextIO]) -> None:
    screen = Screen(pipe[1])
    pipe[0].close()
    assert screen.gone
    screen.tell("nobody reads this")
    screen.close(5)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has a disk that is always full")
def test_a_full_disk_loses_lines_and_no_more() -> None:
    with open("/dev/full", "w") as full:
        screen = Screen(full)
        screen.tell("no room")
        screen.close(5)
        assert not screen.gone


def test_without_a_standard_output_nothing_is_shown() -> None:
    screen = Screen(None)
    screen.tell("to nobody")
    screen.close(5)
    assert not screen.gone
    assert not screen.is_terminal


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        (f"{AT} [info     ] job_submitted                  job_id={JOB} operation=sonic.wav "
         "outcome=completed provider_task_id=None",
         "3b926ce6 job_submitted operation=sonic.wav outcome=completed"),
        (f"{AT} [info     ] job_settled                    job_id={JOB} operation=sonic.wav "
         "outcome=fail why='out of credits'",
         "3b926ce6 job_settled operation=sonic.wav outcome=fail why='out of credits'"),
        (f"{AT} [info     ] delivery_received              job_id=order-2026-0001 "
         "receipt='without effect'",
         "order-2026-0001 delivery_received receipt='without effect'"),
        (f"{AT} [info     ] schedule_submitted             schedule=nightly rows=3",
         "-------- schedule_submitted schedule=nightly rows=3"),
        (f"{AT} [warning  ] gate_closed                    why=credits",
         "worker: warning: gate_closed                    why=credits"),
        (f"{AT} [info     ] Connected to redis://:**@127.0.0.1:30912/0", ""),
        (f"{AT} [info     ] dev@collider ready.", ""),
        ("2026-11-28 19:13:44,427 submit /sonic/create 5a49a885 ok", ""),
        ("Traceback (most recent call last):", "worker: Traceback (most recent call last):"),
        ("", ""),
    ],
)  # fmt: skip
def test_job_events_and_what_is_wrong_are_shown(line: str, shown: str) -> None:
    assert summary("worker", line, started=True) == shown


def test_before_it_is_up_lines_of_no_known_form_are_a_banner() -> None:
    assert summary("worker", " -------------- celery@vm v5.7.0", started=False) == ""


def test_a_log_is_read_as_it_grows_a_whole_line_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "worker.log"
    path.write_bytes(b"one\ntw")
    log = Log("worker", path)
    assert list(log.lines()) == ["one"]
    with path.open("ab") as file:
        file.write(b"o\n\xff\n")
    assert list(log.lines()) == ["two", "\ufffd"]
    assert list(log.lines()) == []


def test_the_cause_of_an_end_is_the_last_grave_line_or_the_last(tmp_path: Path) -> None:
    path = tmp_path / "worker.log"
    path.write_text("Error: wrong settings:\n  FERMATA_API_KEY: Required.\n\n")
    assert Log("worker", path).cause() == "FERMATA_API_KEY: Required."
    path.write_text(f"{AT} [critical ] worker_refuses_to_start why=risk\nbye\n")
    assert Log("worker", path).cause() == "worker_refuses_to_start why=risk"
    path.write_text("")
    assert Log("worker", path).cause() == ""


@pytest.mark.parametrize("quote", ["", "'"])
def test_the_link_of_the_desk_is_found_and_not_shown_as_news(quote: str) -> None:
    link = "http://127.0.0.1:8002/login?token=a-B_9"
    line = f"{AT} [warning  ] desk_open_on_this_machine      url={quote}{link}{quote}"
    assert link_of_the_desk(line) == link
    assert summary("desk", line, started=True) == ""
    assert link_of_the_desk(f"{AT} [info     ] another_event  url={link}") == ""
