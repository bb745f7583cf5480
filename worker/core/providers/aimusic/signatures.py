"""Builds a task's Python signature from its row of the table, for people and programs."""

import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from marshmallow import fields, missing, validate

from worker.core.job.models import JSONObject
from worker.core.providers.aimusic.operations import Operation

_MANY: Final = 6
"""If a choice has more values, the field's text lists them, and the type does not."""

_TYPES: Final[tuple[tuple[type[fields.Field[Any]], str], ...]] = (
    (fields.Boolean, "bool"),
    (fields.Integer, "int"),
    (fields.Float, "float"),
    (fields.List, "list[str]"),
    (fields.String, "str"),
)


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of an operation's task."""

    name: str
    type: str
    """As Python spells it, without ``None``."""
    required: bool
    default: Any
    doc: str
    limits: str
    """In words: ``up to 80 characters``, ``0 to 1``, ``10 to 360 s``."""

    @property
    def annotation(self) -> str:
        return self.type if self.required or self.default is not None else f"{self.type} | None"

    def describe(self) -> JSONObject:
        described: JSONObject = {"name": self.name, "type": self.type, "required": self.required}
        return described | {"default": self.default, "limits": self.limits, "doc": self.doc}


def parameters(operation: Operation) -> list[Parameter]:
    """List an operation's parameters, the required ones first.

    A parameter that the source can bring is not required.
    """
    brought = {operation.clip_field, *operation.carries}
    declared = operation.schema().fields.items()
    found = [_parameter(name, field, name in brought) for name, field in declared]
    return sorted(found, key=lambda parameter: not parameter.required)


def _parameter(name: str, field: Any, brought: bool) -> Parameter:
    default = None if field.load_default is missing else field.load_default
    return Parameter(
        name=name,
        type=_type(field),
        required=bool(field.required) and not brought,
        default=default,
        doc=field.metadata.get("doc", ""),
        limits=" ".join(_limits(field)),
    )


def _type(field: Any) -> str:
    for validator in field.validators:
        if isinstance(validator, validate.OneOf) and len(list(validator.choices)) <= _MANY:
            return f"Literal[{', '.join(_quote(c) for c in validator.choices)}]"
    return next(name for kind, name in _TYPES if isinstance(field, kind))


def _quote(value: str) -> str:
    return f'"{value}"'


def _limits(field: Any) -> Iterator[str]:
    unit = field.metadata.get("unit", "")
    for validator in field.validators:
        match validator:
            case validate.Length(equal=int(equal)):
                yield f"exactly {equal}"
            case validate.Length(max=int(limit)):
                yield f"up to {limit}" + (" characters" if isinstance(field, fields.String) else "")
            case validate.Range():
                yield _range(validator, unit)


def _range(limits: validate.Range, unit: str) -> str:
    low, high = limits.min, limits.max
    if high is not None:
        said = f"{low:g} to {high:g}"
    elif low is None:
        return unit
    else:
        said = f"{low:g} or more" if limits.min_inclusive else f"more than {low:g}"
    return f"{said} {unit}".rstrip()


def signature(operation: Operation) -> inspect.Signature:
    """Build the signature of an operation's task, for a row that has no declaration in tasks/."""
    ours = [inspect.Parameter("source", inspect.Parameter.POSITIONAL_OR_KEYWORD, default=None)]
    theirs = [
        inspect.Parameter(
            each.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=inspect.Parameter.empty if each.required else each.default,
        )
        for each in parameters(operation)
    ]
    last = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None)
        for name in ("pick", "extra")
    ]
    return inspect.Signature([*ours, *theirs, *last])
