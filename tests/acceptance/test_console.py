"""Whatever a terminal cannot show, or a disk not hold: one line, and no failed job's exit code."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from tests.unit.recorded import ROOT
from worker.cli import commands, console
from worker.cli.group import EXIT_FILE, EXIT_HUNG_UP

BARE = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT)}


def fermata(
    *arguments: str, out: int = subprocess.PIPE, **environment: str
) -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run(
        [sys.executable, "-m", "worker", *arguments],
        env=BARE | environment, stdout=out, stderr=subprocess.PIPE, timeout=60, check=False,
    )  # fmt: skip


SHOW = """
import sys
from worker.cli import console, show
from worker.core.job.canvas import Step
from worker.cli.group import errors, out
console.prepare()
steps = [Step("a", "é – 保持"), Step("b", "sonic.wav", "a"), Step("c", "sonic.midi", "a")]
for each in (out, errors):
    for line in show.enqueued(steps):
        each.print(line)
"""


@pytest.mark.parametrize(
    ("encoding", "shown"),
    [
        ("utf-8", ["a  é – 保持", "b  ├ sonic.wav", "c  └ sonic.midi"]),
        ("latin-1", ["a  é - ??", "b  | sonic.wav", "c  ` sonic.midi"]),
        ("ascii", ["a  ? - ??", "b  | sonic.wav", "c  ` sonic.midi"]),
    ],
)
def test_what_a_console_cannot_encode_is_replaced(encoding: str, shown: list[str]) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", SHOW],
        env=BARE | {"PYTHONIOENCODING": encoding}, capture_output=True, timeout=60, check=False,
    )  # fmt: skip
    assert ran.stdout.decode(encoding).splitlines() == shown
    assert ran.stderr.decode(encoding).splitlines() == shown


def test_the_locale_of_nobody_in_particular_is_no_traceback() -> None:
    plain: dict[str, Any] = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    for command in (["operations"], ["--help"], ["submit", "--help"], ["submit", "no…such"]):
        assert b"Traceback" not in fermata(*command, **plain).stderr


def test_the_handler_is_for_what_is_written_alone() -> None:
    console.prepare()
    with pytest.raises(UnicodeDecodeError):
        b"\xff".decode(errors="fermata.replace")


COMMANDS = (["operations"], ["operations", "--json"], ["--help"], ["jobs", "--help"])


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_full_disk_is_one_line_and_a_code_of_its_own(command: Sequence[str]) -> None:
    with Path("/dev/full").open("wb") as full:
        ran = fermata(*command, out=full.fileno())
    said = b"fermata: the output cannot be written: No space left on device\n"
    assert (ran.returncode, ran.stderr) == (EXIT_FILE, said)


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_reader_that_has_gone_ends_it_quietly(command: Sequence[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        ran = fermata(*command, out=writer)
    finally:
        os.close(writer)
    assert (ran.returncode, ran.stderr) == (EXIT_HUNG_UP, b"")


def test_no_folder_for_temporary_files_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere() -> None:
        raise FileNotFoundError(2, "No usable temporary directory found in ['/tmp']")

    monkeypatch.setattr("tempfile.NamedTemporaryFile", nowhere)
    command = ["batch", "check", "-", "--format", "jsonl"]
    ran = CliRunner().invoke(commands.main, command, input="{}")
    assert ran.exit_code == EXIT_FILE
    assert "set TMPDIR to a folder that can be written to" in ran.stderr
    assert ran.stderr.count("\n") == 1
