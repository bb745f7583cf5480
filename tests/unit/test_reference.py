"""What is written from the table is what is on the disk: the tasks and the reference page."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from ruff import find_ruff_bin

from tests.unit.recorded import ROOT
from worker import reference
from worker.cli.commands import main
from worker.core.contract import task_name
from worker.core.providers.aimusic.operations import OPERATIONS, Operation
from worker.core.providers.aimusic.signatures import parameters
from worker.core.providers.aimusic.submission import check_parameters

every_operation = pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The modules of tasks/ as `make reference` writes them, in a folder of their own."""
    folder = tmp_path_factory.mktemp("tasks")
    for name, source in {
        **reference.task_modules(),
        "client.py": reference.client_operations(),
    }.items():
        (folder / name).write_text(source)
    config = ["--config", str(ROOT / "pyproject.toml")]
    command = [find_ruff_bin(), "format", "--quiet", "--no-cache", *config, str(folder)]
    subprocess.run(command, check=True)
    return folder


@pytest.mark.parametrize("name", sorted(reference.task_modules()))
def test_a_module_of_tasks_is_current(name: str, written: Path) -> None:
    current = (ROOT / "tasks" / name).read_text()
    assert (written / name).read_text() == current, "run `make reference`"


def test_the_clients_names_are_current(written: Path) -> None:
    current = (ROOT / "fermata_client/operations.py").read_text()
    assert (written / "client.py").read_text() == current, "run `make reference`"


@pytest.fixture(scope="module")
def page() -> str:
    return reference.page()


def test_the_reference_page_is_current(page: str) -> None:
    assert (ROOT / "docs/operations.md").read_text() == page, "run `make reference`"


@every_operation
def test_the_reference_page_says_all_of_an_operation(page: str, operation: Operation) -> None:
    section = page.partition(f"## {operation.name}\n")[2].partition("\n## ")[0]
    assert operation.summary in section
    assert f"`{task_name(operation.name)}`" in section
    assert f"`{operation.method} {operation.path}`" in section
    for each in parameters(operation):
        assert f"| `{each.name}` |" in section
        assert each.limits in section
    assert "delay(" in section
    assert f"$ fermata submit {operation.name}" in section
    assert ("OperationRetired" in section) is bool(operation.retired)


@every_operation
def test_the_example_of_an_operation_is_a_request_that_passes(operation: Operation) -> None:
    source: Any = reference._source(operation)
    if operation.clips == 1:
        source = source[0] if source else None
    check_parameters(operation, reference.example(operation), source=source)


def test_the_reference_is_written_below_a_tree(tmp_path: Path) -> None:
    (tmp_path / "tasks").mkdir()
    (tmp_path / "fermata_client").mkdir()
    reference.write(tmp_path)
    written = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.*")}
    once = {"docs/operations.md", "fermata_client/operations.py"}
    assert written == once | {f"tasks/{n}" for n in reference.task_modules()}


def test_every_operation_is_listed_on_the_command_line() -> None:
    listed = json.loads(CliRunner().invoke(main, ["operations", "--json"]).stdout)
    assert [each["name"] for each in listed] == list(OPERATIONS)
    for each in listed:
        assert {"name", "mode", "method", "path", "fields"} <= set(each)
        fields = OPERATIONS[each["name"]].schema().fields
        assert {field["name"] for field in each["fields"]} == set(fields)
