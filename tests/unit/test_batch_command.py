"""``fermata batch check``: what it prints, and its exit codes."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from worker.cli.commands import main

ROOT = Path(__file__).parent.parent.parent
EXAMPLES = sorted((ROOT / "examples").glob("songs.*"))
MISTAKES = sorted((ROOT / "tests/samples/manifests").glob("mistakes.[a-z]*[!n]"))


def check(*arguments: Any, text: str = "") -> Result:
    return CliRunner().invoke(main, ["batch", "check", *map(str, arguments)], input=text)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.suffix)
def test_an_example_is_right_and_priced_as_the_page_says(example: Path) -> None:
    checked = check(example)
    assert checked.exit_code == 0
    assert checked.stdout in (ROOT / "docs/batches.md").read_text()


def test_a_program_reads_the_same() -> None:
    found = json.loads(check(EXAMPLES[0], "--json").stdout)
    assert (found["rows"], found["jobs"], found["credits"]) == (4, 13, 148)
    assert found["errors"] == []
    assert found["operations"]["flows.master_pack"] == 1


@pytest.mark.parametrize("mistakes", MISTAKES, ids=lambda path: path.suffix)
def test_every_mistake_is_listed_and_the_exit_code_is_2(mistakes: Path) -> None:
    wanted = json.loads(Path(f"{mistakes}.json").read_text())
    shown = check(mistakes)
    assert shown.exit_code == 2
    lines = shown.stdout.splitlines()
    assert lines[0].split() == ["line", "column", "reason"]
    for listed, (line, column, reason) in zip(lines[1:], wanted, strict=False):
        assert listed.split()[0] == str(line)
        assert (column or "") in listed
        assert reason in listed
    assert f"{len(wanted)} errors: nothing would be submitted" in shown.stderr
    found = json.loads(check(mistakes, "--json").stdout)
    assert [(e["line"], e["column"]) for e in found["errors"]] == [(w[0], w[1]) for w in wanted]


def test_standard_input_is_read_and_its_format_told() -> None:
    row = '{"operation": "account.credits"}'
    assert check("-", "--format", "jsonl", text=row).exit_code == 0
    untold = check("-", text=row)
    assert untold.exit_code == 2
    assert "--format" in untold.stderr


def test_one_of_a_thing_is_counted_as_one() -> None:
    right = check("-", "--format", "jsonl", text='{"operation": "sonic.wav", "clip_id": "c-1"}')
    assert "\n1 row, 1 job, " in right.stdout
    wrong = check("-", "--format", "jsonl", text='{"operation": "sonic.wav"}')
    assert "1 error: nothing would be submitted" in wrong.stderr


def test_the_mistakes_of_a_document_come_in_the_order_of_its_lines() -> None:
    text = "- operation: sonic.remaster\n  mv: nope\n  foo: 1\n  variation_category: bad\n"
    found = json.loads(check("-", "--format", "yaml", "--json", text=text).stdout)["errors"]
    assert [each["line"] for each in found] == [1, 2, 3, 4]


def test_a_file_that_is_not_there_is_exit_code_2() -> None:
    assert check("nowhere.csv").exit_code == 2
