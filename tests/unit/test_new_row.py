"""One row more in the table is a working operation: all else is derived from it."""

import json
from typing import Any

import pytest
from click.testing import CliRunner

from tests.unit.processes import DECLARED, python
from worker import reference
from worker.cli.commands import main
from worker.core.errors import InvalidRequest
from worker.core.providers.aimusic.operations import OPERATIONS, Operation, find
from worker.core.providers.aimusic.signatures import signature
from worker.core.providers.aimusic.submission import check_parameters

ROW = """
from worker.core.providers.aimusic import fields, operations
from worker.core.providers.aimusic.operations import Operation

class Transpose(fields.RequestSchema):
    clip_id = fields.clip()
    semitones = fields.whole("how far", -12, 12, unit="semitones")
    style = fields.text("in words", limit=20, required=True)

ROW = Operation(
    name="sonic.transpose", path="/sonic/transpose", schema=Transpose,
    summary="Transpose a clip.", clip_field="clip_id", poll_path="/sonic/task/",
    takes_webhook=True, expected_seconds=30, credits=3,
)
"""


ADDED = ROW + "operations.OPERATIONS[ROW.name] = ROW\n"


@pytest.fixture
def new_row(monkeypatch: pytest.MonkeyPatch) -> Operation:
    """One row more in this process's table."""
    names: dict[str, Any] = {}
    exec(ROW, names)
    row: Operation = names["ROW"]
    monkeypatch.setitem(OPERATIONS, row.name, row)
    return row


def test_a_new_row_is_checked_like_the_others(new_row: Operation) -> None:
    body = check_parameters(find("sonic.transpose"), {"style": "x", "semitones": -12}, source="c")
    assert body == {"clip_id": "c", "style": "x", "semitones": -12}
    with pytest.raises(InvalidRequest) as raised:
        check_parameters(new_row, {"semitones": 13, "style": "x" * 21, "key": "C"})
    assert set(raised.value.fields) == {"clip_id", "semitones", "style", "key"}


def test_a_new_row_is_in_the_reference(new_row: Operation) -> None:
    assert "## sonic.transpose\n" in reference.page()
    assert "-12 to 12 semitones" in reference.page()
    assert '@provider_task(app, "sonic.transpose")' in reference.task_modules()["sonic.py"]
    spelled = "source=None, *, style, clip_id=None, semitones=None, pick=None, extra=None"
    assert str(signature(new_row)) == f"({spelled})"


def test_a_new_row_has_a_task_without_a_declaration() -> None:
    new = python(ADDED + DECLARED)["fermata.sonic.transpose"]
    assert new["operation"] == "sonic.transpose"
    assert new["doc"] == "Transpose a clip."
    taken = {name: each["required"] for name, each in new["parameters"].items()}
    assert list(taken) == ["source", "style", "clip_id", "semitones", "pick", "extra"]
    assert [name for name, required in taken.items() if required] == ["style"]


def test_a_new_row_is_listed_on_the_command_line(new_row: Operation) -> None:
    listed = json.loads(CliRunner().invoke(main, ["operations", "--json"]).stdout)
    (new,) = [each for each in listed if each["name"] == new_row.name]
    assert (new["mode"], new["method"], new["path"]) == ("webhook", "POST", "/sonic/transpose")
    assert [each["name"] for each in new["fields"]] == ["style", "clip_id", "semitones"]
