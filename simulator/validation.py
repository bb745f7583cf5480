"""Read a request body, find its row of the table, and check it by that row."""

from __future__ import annotations

import json

from .fields import Body, Case, Flag, present
from .operations import Operation
from .replies import Refused
from .settings import Settings
from .table import TABLE

DEFAULTS = {"task_type": "create_music"}


def read_body(raw: bytes) -> dict[str, object]:
    """Parse a request body. Raises `Refused` (400) unless it is a JSON object."""
    try:
        body = json.loads(raw, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise Refused(400, "The request body should be valid JSON.") from None
    if not isinstance(body, dict):
        raise Refused(400, "The request body should be a JSON object.")
    return body


def _no_constant(name: str) -> object:
    raise ValueError(name)  # NaN and Infinity are no JSON


def find_operation(path: str, body: Body, settings: Settings) -> Operation:
    """Find the row a body means. Raises `Refused`: 400 if there is none, 410 if it is retired."""
    if settings.retires(path):
        raise retired(path)
    rows = [row for row in TABLE if row.path == path]
    chosen = next((row for row in rows if _is_meant(row, body)), None)
    if chosen is None:
        raise Refused(400, f"The '{next(iter(rows[0].when))}' field is invalid.")
    if chosen.retired:
        raise retired(f"{path} with task_type = {chosen.name}")
    return chosen


def retired(what: str) -> Refused:
    return Refused(410, f"{what} is retired.")


def _is_meant(row: Operation, body: Body) -> bool:
    return all(body.get(name, DEFAULTS.get(name)) == value for name, value in row.when.items())


def check(operation: Operation, body: Body, settings: Settings) -> None:
    """Check a body by its row. Raises `Refused` (400) with the first problem."""
    problem = _problem(operation, body, settings)
    if problem:
        raise Refused(400, problem)


def _problem(operation: Operation, body: Body, settings: Settings) -> str | None:
    body = _resolve_alias(operation, body)
    when = f" when task_type = {operation.name}" if "task_type" in operation.when else ""
    case = Case(body, settings, when)
    problems = [_field_problem(operation, name, case) for name in operation.fields]
    problems += [rule.problem(body) for rule in operation.rules]
    if settings.require_use_suno_cdn and operation.path == "/sonic/create":
        problems.append(Flag().problem("use_suno_cdn", body.get("use_suno_cdn"), case))
    return next((problem for problem in problems if problem), None)


def _resolve_alias(operation: Operation, body: Body) -> Body:
    """Read `lyrics` as the prompt if it is its alias here; the prompt wins (part 2 §3.1)."""
    if operation.lyrics_is_prompt and not present(body, "prompt"):
        return {**body, "prompt": body.get("lyrics")}
    return body


def _field_problem(operation: Operation, name: str, case: Case) -> str | None:
    rule, value = operation.fields[name], case.body.get(name)
    missing = name in operation.required and not present(case.body, name)
    if missing and not rule.speaks:
        return operation.missing or f"The '{name}' field is required{case.when}."
    return rule.problem(name, value, case) if missing or value is not None else None
