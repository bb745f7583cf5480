"""From a row of the table to a task: its parameters, its signature, its docstring."""

import inspect
import typing
from typing import Any

import pytest

from tests.unit.processes import DECLARED, python
from worker.core.contract import task_name
from worker.core.providers.aimusic import fields
from worker.core.providers.aimusic.operations import OPERATIONS, Operation
from worker.core.providers.aimusic.signatures import Parameter, parameters, signature

every_operation = pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)


@pytest.fixture(scope="module")
def declared() -> Any:
    """The provider tasks as a worker registers them: operation, docstring and parameters."""
    return python(DECLARED)


def of(declared: Any, operation: Operation) -> dict[str, Any]:
    found: dict[str, Any] = declared[task_name(operation.name)]
    return found


# -- the tasks --------------------------------------------------------------------------------


def test_the_tasks_are_the_operations(declared: Any) -> None:
    assert {each["operation"]: name for name, each in declared.items()} == {
        name: task_name(name) for name in OPERATIONS
    }


def test_a_task_is_declared_in_the_module_of_its_family(declared: Any) -> None:
    for operation in OPERATIONS.values():
        assert of(declared, operation)["module"] == f"tasks.{operation.family}"


@every_operation
def test_a_task_says_what_it_does_and_how_it_is_called(declared: Any, operation: Operation) -> None:
    documentation = of(declared, operation)["doc"]
    summary = " ".join(documentation.partition("\n\n")[0].split())
    assert summary[:1].isupper()
    assert summary.endswith(".")
    assert summary == operation.summary.replace("`", "``")
    assert "delay(" in documentation


@every_operation
def test_a_task_says_what_it_costs(declared: Any, operation: Operation) -> None:
    facts = of(declared, operation)["doc"].split("\n\n")[1]
    unit = "credit" if operation.credits == 1 else "credits"
    price = f"{operation.credits:g} {unit};" if operation.credits else "Free;"
    assert facts.startswith(price)
    assert operation.retired in facts


@every_operation
def test_a_task_takes_exactly_the_parameters_of_its_row(
    declared: Any, operation: Operation
) -> None:
    taken = list(of(declared, operation)["parameters"])
    assert taken == ["source", *(each.name for each in parameters(operation)), "pick", "extra"]
    assert set(taken) - {"source", "pick", "extra"} == set(operation.schema().fields)


@every_operation
def test_a_parameter_of_a_task_has_the_type_and_default_of_its_row(
    declared: Any, operation: Operation
) -> None:
    taken = of(declared, operation)["parameters"]
    for each in parameters(operation):
        found = taken[each.name]
        assert (found["required"], found["default"]) == (each.required, each.default)
        annotation = str(eval(each.annotation, vars(typing)))
        assert found["type"] == annotation.removeprefix("typing.")


@every_operation
def test_a_task_takes_its_source_first_and_all_else_by_name(
    declared: Any, operation: Operation
) -> None:
    taken = of(declared, operation)["parameters"]
    kinds = {name: each["kind"] for name, each in taken.items()}
    assert next(iter(kinds)) == "source"
    assert kinds.pop("source") == "POSITIONAL_OR_KEYWORD"
    assert set(kinds.values()) == {"KEYWORD_ONLY"}
    assert all(taken[name]["default"] is None for name in ("source", "pick", "extra"))


@every_operation
def test_a_docstring_names_every_parameter_with_its_limit(
    declared: Any, operation: Operation
) -> None:
    documentation = " ".join(of(declared, operation)["doc"].split())
    for each in parameters(operation):
        assert each.doc, each.name
        said = f"{each.name}: {each.doc}" + (f"; {each.limits}" if each.limits else "")
        assert said.replace("`", "``") in documentation


def test_a_default_of_a_task_is_one_its_schema_takes() -> None:
    for operation in OPERATIONS.values():
        taken = operation.schema().fields
        for each in parameters(operation):
            if each.default is not None:
                assert taken[each.name].deserialize(each.default) == each.default


def test_a_slow_task_has_a_queue_and_time_limits_of_its_own(declared: Any) -> None:
    for operation in OPERATIONS.values():
        task = of(declared, operation)
        assert task["queue"] == ("fermata.slow" if operation.slow else None)
        if operation.submit_seconds:
            assert task["soft_time_limit"] > operation.submit_seconds


# -- parameters -------------------------------------------------------------------------------


def parameter(operation: str, name: str) -> Parameter:
    return next(each for each in parameters(OPERATIONS[operation]) if each.name == name)


@pytest.mark.parametrize(
    ("operation", "name", "type_", "limits"),
    [
        ("sonic.create_music", "custom_mode", "bool", ""),
        ("sonic.create_music", "mv", "str", ""),
        ("sonic.create_music", "title", "str", "up to 80 characters"),
        ("sonic.create_music", "vocal_gender", 'Literal["f", "m"]', ""),
        ("sonic.create_music", "duration", "int", "10 to 360 s"),
        ("sonic.create_music", "style_weight", "float", "0 to 1"),
        ("sonic.extend", "continue_at", "float", "more than 0 s"),
        ("sonic.vox", "vocal_start_s", "float", "0 or more s"),
        ("sonic.mashup", "mashup_clip_ids", "list[str]", "exactly 2"),
        ("sonic.upload", "url", "str", ""),
        ("nuro.create_instrumental", "genre", "list[str]", "up to 5"),
        ("producer.create_music", "bpm", "float", "more than 0"),
    ],
)
def test_a_parameter_is_described_in_words(
    operation: str, name: str, type_: str, limits: str
) -> None:
    found = parameter(operation, name)
    assert (found.type, found.limits) == (type_, limits)


def test_a_number_without_limits_is_described_by_its_unit() -> None:
    class Loose(fields.RequestSchema):
        depth = fields.number("how deep", unit="m")
        names = fields.several("some names")

    row = Operation("test.loose", "/loose", Loose, "Do it.")
    assert [each.limits for each in parameters(row)] == ["m", ""]


def test_what_a_source_can_bring_is_not_required_of_the_caller() -> None:
    for operation, name in (
        ("sonic.wav", "clip_id"),
        ("sonic.mashup", "mashup_clip_ids"),
        ("sonic.persona_music", "persona_id"),
    ):
        assert OPERATIONS[operation].schema().fields[name].required
        assert not parameter(operation, name).required


def test_a_parameter_is_described_for_programs() -> None:
    assert parameter("sonic.extend", "continue_at").describe() == {
        "name": "continue_at",
        "type": "float",
        "required": True,
        "default": None,
        "limits": "more than 0 s",
        "doc": "where to go on",
    }


@every_operation
def test_a_signature_binds_what_the_schema_requires(operation: Operation) -> None:
    built = signature(operation)
    required = {n: "x" for n, p in built.parameters.items() if p.default is inspect.Parameter.empty}
    built.bind("source", **required)
    built.bind(**required, pick=1, extra={})
    if required:
        with pytest.raises(TypeError):
            built.bind()
    with pytest.raises(TypeError):
        built.bind("source", "a second one", **required)


def test_the_signature_is_that_of_the_declared_task(declared: Any) -> None:
    for operation in OPERATIONS.values():
        taken = of(declared, operation)["parameters"]
        built = signature(operation).parameters
        assert list(built) == list(taken)
        for name, each in built.items():
            assert each.kind.name == taken[name]["kind"]
            assert (each.default is inspect.Parameter.empty) is taken[name]["required"]
