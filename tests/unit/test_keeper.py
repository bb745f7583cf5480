"""The keeper kills a whole group in the end: its own, and no other."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from worker.cli.dev import keeper


def test_a_keeper_in_the_group_of_another_kills_nobody(tmp_path: Path) -> None:
    told = tmp_path / "dev.env"
    told.touch()
    script = '"$0" "$1" "$2" < /dev/null; echo alive'
    ran = subprocess.run(
        ["sh", "-c", script, sys.executable, keeper.__file__, told],
        capture_output=True, text=True, start_new_session=True, timeout=30, check=False,
    )  # fmt: skip
    assert ran.stdout == "alive\n"
    assert "in one of its own" in ran.stderr
    assert told.exists()


def test_a_process_may_end_while_it_is_told_to(monkeypatch: pytest.MonkeyPatch) -> None:
    with subprocess.Popen([sys.executable, "-c", ""], process_group=os.getpgrp()) as ended:
        pass
    answers = [True, False]
    monkeypatch.setattr(keeper, "_is_ours", lambda _: answers.pop(0))
    keeper._end([ended.pid])
    assert answers == []
