"""The one table of operations agrees with itself, and with the tasks."""

import dataclasses
import json
import string
import subprocess
import sys
from typing import Any

import pytest

from worker.core import operations
from worker.core.contract import JOB_ID, task_name
from worker.core.errors import InvalidRequest
from worker.core.models import Event, JobId, JobRecord, Source
from worker.core.operations import OPERATIONS, Operation, find
from worker.core.states import JobState

every_operation = pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)

# Celery reads the settings when it registers a task, once for a process: so in one of its own.
_DECLARED = """
import inspect, json
from worker.app import app
app.loader.import_default_modules()
REQUIRED = inspect.Parameter.empty
print(json.dumps({
    name: {
        "operation": task.operation.name,
        "doc": inspect.getdoc(task.run) or "",
        "parameters": {
            each.name: {"kind": each.kind.name, "required": each.default is REQUIRED,
                        "default": None if each.default is REQUIRED else each.default}
            for each in inspect.signature(task.run).parameters.values()
        },
    }
    for name, task in app.tasks.items() if hasattr(task, "operation")
}))
"""


@pytest.fixture(scope="module")
def declared() -> Any:
    """The provider tasks as a worker registers them: operation, docstring and parameters."""
    done = subprocess.run(
        [sys.executable, "-c", _DECLARED],
        env={"FERMATA_REDIS_URL": "redis://127.0.0.1:1/0"},
        capture_output=True,
        check=True,
        text=True,
    )
    return json.loads(done.stdout)


def parameters(declared: Any, operation: Operation) -> dict[str, Any]:
    found: dict[str, Any] = declared[task_name(operation.name)]["parameters"]
    return found


def test_names_are_unique() -> None:
    names = [row.name for row in operations._TABLE]
    assert len(names) == len(set(names)) == len(OPERATIONS)


@every_operation
def test_a_name_is_a_family_and_a_verb(operation: Operation) -> None:
    family, _, verb = operation.name.partition(".")
    letters = set(string.ascii_lowercase + string.digits + "_")
    assert family
    assert verb
    assert set(family + verb) <= letters


@every_operation
def test_a_row_is_consistent(operation: Operation) -> None:
    assert operation.path.startswith("/")
    assert operation.method in {"GET", "POST"}
    assert operation.synchronous is (operation.poll_path is None)
    assert 0 <= operation.expected_seconds < operation.deadline_seconds
    assert operation.credits >= 0
    assert operation.clip_field in {None, *operation.schema().fields}
    assert set(operation.fixed).isdisjoint(operation.schema().fields)


@every_operation
def test_a_synchronous_operation_takes_no_webhook_and_expects_no_wait(
    operation: Operation,
) -> None:
    if operation.synchronous:
        assert not operation.takes_webhook
        assert operation.expected_seconds == 0
    else:
        assert operation.expected_seconds > 0


@every_operation
def test_only_what_is_free_may_be_repeated(operation: Operation) -> None:
    assert not (operation.repeatable and operation.credits)


def test_stems_take_no_webhook_and_are_polled() -> None:
    # provider-api-2.md §2, §5.
    for name in ("sonic.stems_basic", "sonic.stems_full"):
        assert not OPERATIONS[name].takes_webhook
        assert OPERATIONS[name].poll_path == "/sonic/task/"


def test_the_tasks_are_the_operations(declared: Any) -> None:
    assert {each["operation"]: name for name, each in declared.items()} == {
        name: task_name(name) for name in OPERATIONS
    }


@every_operation
def test_a_task_says_what_it_does_and_how_it_is_called(declared: Any, operation: Operation) -> None:
    documentation = declared[task_name(operation.name)]["doc"]
    summary = documentation.partition("\n")[0]
    assert summary[:1].isupper()
    assert summary.endswith(".")
    assert "delay(" in documentation


@every_operation
def test_a_task_says_what_it_costs(declared: Any, operation: Operation) -> None:
    summary = declared[task_name(operation.name)]["doc"].partition("\n")[0]
    plural = "credits" if operation.credits > 1 else "credit"
    assert (f"{operation.credits} {plural}" if operation.credits else "free") in summary


@every_operation
def test_a_task_takes_the_fields_of_its_schema(declared: Any, operation: Operation) -> None:
    taken = set(parameters(declared, operation)) - {"source", "pick", "extra"}
    assert taken == set(operation.schema().fields)


@every_operation
def test_a_task_takes_its_source_first_and_all_else_by_name(
    declared: Any, operation: Operation
) -> None:
    taken = parameters(declared, operation)
    kinds = {name: each["kind"] for name, each in taken.items()}
    if kinds:
        assert next(iter(kinds)) == "source"
        assert taken["source"]["default"] is None
    assert {kind for name, kind in kinds.items() if name != "source"} <= {"KEYWORD_ONLY"}


@every_operation
def test_a_task_that_takes_a_clip_lets_it_be_picked(declared: Any, operation: Operation) -> None:
    assert ("pick" in parameters(declared, operation)) is (operation.clip_field is not None)


@every_operation
def test_a_default_of_a_task_is_one_its_schema_takes(declared: Any, operation: Operation) -> None:
    fields = operation.schema().fields
    for name, each in parameters(declared, operation).items():
        if name in fields and each["default"] is not None:
            assert fields[name].deserialize(each["default"]) == each["default"]


def test_an_operation_is_found_by_its_name() -> None:
    assert find("sonic.wav") is OPERATIONS["sonic.wav"]


def test_an_unknown_operation_is_an_error_that_names_the_known() -> None:
    with pytest.raises(InvalidRequest, match=r"sonic\.flac") as raised:
        find("sonic.flac")
    assert all(name in raised.value.message for name in OPERATIONS)


def test_a_row_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        OPERATIONS["sonic.wav"].path = "/elsewhere"  # type: ignore[misc]


@pytest.mark.parametrize("job_id", ["a", "468d0e42-f7a6-40ce-9a4c-37db56b13b99", "a" * 128])
def test_a_job_id_may_stand_in_a_url(job_id: str) -> None:
    assert JOB_ID.fullmatch(job_id)


@pytest.mark.parametrize("job_id", ["", "a" * 129, "../x", "a/b", "a b", "é", "a\n", ".", "-a"])
def test_a_job_id_that_does_not_fit_a_url_is_none(job_id: str) -> None:
    assert not JOB_ID.fullmatch(job_id)


@pytest.mark.parametrize(
    "event",
    [
        Event(Source.WEBHOOK, body='{"a": "\\u00e9"}', delivery_id="d-1"),
        Event(Source.SWEEP, error={"type": "DeadlineExceeded", "message": "late"}),
    ],
)
def test_an_event_survives_its_record(event: Event) -> None:
    assert Event.loads(event.dumps()) == event
    assert isinstance(Event.loads(event.dumps()).source, Source)


def test_a_record_is_shown_with_every_field() -> None:
    record = JobRecord(JobId("job-1"), "sonic.wav", JobState.QUEUED, 1.0, 2.0)
    shown = record.to_json()
    assert set(shown) == {field.name for field in dataclasses.fields(JobRecord)}
    assert (shown["job_id"], shown["state"], shown["due_at"]) == ("job-1", "queued", None)
