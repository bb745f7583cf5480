"""Try: a form for one operation or named flow, made from its parameters, with its price.

The same form shows the call as Python, as a command line and as an HTTP request. Every mistake is
shown beside its field, and nothing is enqueued before there is none.
"""

import json
import shlex
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from flask import abort, redirect, render_template, request, url_for
from marshmallow import fields
from marshmallow.validate import OneOf
from werkzeug.wrappers import Response

from desk.doors import Role, requires, visitor
from desk.pages import pages
from desk.parts import desk
from worker.core.batch import columns, flows
from worker.core.batch.flows import FLOWS, Branch, NamedFlow, find_flow
from worker.core.contract import PRIORITY_HEADER, TENANT_HEADER
from worker.core.errors import InvalidRequest
from worker.core.job.lanes import TENANT, TENANT_FORM, Priority
from worker.core.job.models import JSONObject
from worker.core.providers import chosen

_LONG: Final = frozenset({"prompt", "lyrics", "description", "gpt_description_prompt"})
"""Texts of several lines."""
_CLIENT: Final = """import os

from fermata_client import Fermata

fermata = Fermata(os.environ["BROKER_URL"])
"""


@dataclass(frozen=True, slots=True)
class Input:
    """A field of the form."""

    name: str
    kind: str
    """``text``, ``long``, ``choice``, ``flag``, ``number``, ``list`` or ``json``."""
    doc: str
    required: bool
    choices: tuple[str, ...] = ()


@pages.get("/try")
def trial() -> str:
    """List what can be tried, with its price."""
    families: dict[str, list[tuple[str, str, float]]] = {}
    for name, row in sorted(chosen().operations.items()):
        if not getattr(row, "retired", ""):
            summary = row.summary.partition(". ")[0].rstrip(".").replace("`", "")
            families.setdefault(name.partition(".")[0], []).append((name, summary, row.credits))
    named = [
        (name, " + ".join(flow.plan({}).operations), flow.plan({}).credits)
        for name, flow in FLOWS.items()
    ]
    return render_template("trial.html", families={**families, "flows": named})


@pages.get("/try/<operation>")
def trial_of(operation: str) -> str:
    """Show the form of an operation."""
    return _form(_found(operation), {}, {})


@pages.post("/try/<operation>")
@requires(Role.ENQUEUE)
def enqueue(operation: str) -> str | Response | tuple[str, int]:
    """Enqueue what the form says, or only show it as code."""
    flow, given = _found(operation), request.form
    parameters, wrong = _read(flow, given)
    source = given.get("source", "").strip() or None
    then = _then(given, wrong)
    plan = flow.plan(parameters, source=source, branches=then)
    wrong |= {name: why for name, why in flows.wrong_fields(plan) if name not in wrong}
    headers = _headers(given, wrong)
    if given.get("do") == "show" and not wrong:
        calls = _calls(flow.name, parameters, source, then, headers)
        return _form(flow, given, {}, then=then, calls=calls)
    if wrong:
        return _form(flow, given, wrong, then=then), 422
    enqueued = desk().enqueue(plan, idempotency_key=_once(given), headers=headers)
    return redirect(url_for("pages.job", job_id=enqueued.steps[0].job_id), 303)


def _found(operation: str) -> NamedFlow:
    try:
        return find_flow(operation)
    except InvalidRequest as error:
        abort(404, error.message)


def _form(
    flow: NamedFlow,
    given: Mapping[str, str],
    wrong: Mapping[str, str],
    *,
    then: tuple[Branch, ...] = (),
    calls: Mapping[str, str] | None = None,
) -> str:
    names = {each.name for each in _inputs(flow)} | {"source", "then", "tenant", "priority"}
    return render_template(
        "trial_of.html",
        flow=flow,
        plan=flow.plan({}),
        in_all=flow.plan({}, branches=then).credits,
        summary=chosen().operations[flow.operation].summary,
        inputs=_inputs(flow),
        given=given,
        wrong=wrong,
        elsewhere={name: why for name, why in wrong.items() if name not in names},
        calls=calls or {},
        priorities=list(Priority),
        key=given.get("key") or uuid.uuid4().hex,
    )


def _inputs(flow: NamedFlow) -> list[Input]:
    found = [
        _input(name, field) for name, field in flow.parameters.items() if name not in flow.preset
    ]
    return sorted(found, key=lambda each: not each.required)


def _input(name: str, field: fields.Field[Any]) -> Input:
    choices = next((v.choices for v in field.validators if isinstance(v, OneOf)), ())
    doc = str(field.metadata.get("doc", "")).replace("`", "")
    return Input(name, _kind(name, field, bool(choices)), doc, field.required, tuple(choices))


def _kind(name: str, field: fields.Field[Any], chooses: bool) -> str:
    match field:
        case fields.Boolean():
            return "flag"
        case fields.String():
            return "choice" if chooses else "long" if name in _LONG else "text"
        case fields.Number():
            return "number"
        case fields.List():
            return "list"
    return "json"


def _read(flow: NamedFlow, given: Mapping[str, str]) -> tuple[JSONObject, dict[str, str]]:
    """Read the filled fields of the form as JSON; returns them, and what cannot be read."""
    parameters: JSONObject = {}
    wrong: dict[str, str] = {}
    for each in _inputs(flow):
        text = given.get(each.name, "").replace("\r\n", "\n").strip()
        if text:
            try:
                parameters[each.name] = _typed(each.kind, text)
            except ValueError:
                wrong[each.name] = f"This is not a {each.kind}."
    return parameters, wrong


def _typed(kind: str, text: str) -> Any:
    """Raises ValueError."""
    if kind in {"flag", "number", "json"}:
        return json.loads(text)
    return text.splitlines() if kind == "list" else text


def _then(given: Mapping[str, str], wrong: dict[str, str]) -> tuple[Branch, ...]:
    text = given.get("then", "").strip()
    try:
        return columns.read_branches(text) if text else ()
    except InvalidRequest as error:
        wrong["then"] = error.message
        return ()


def _headers(given: Mapping[str, str], wrong: dict[str, str]) -> dict[str, str]:
    tenant = visitor().tenant or given.get("tenant", "").strip()
    if tenant and not TENANT.fullmatch(tenant):
        wrong["tenant"] = f"A tenant must be {TENANT_FORM}."
    priority = given.get("priority", "")
    if priority and priority not in set(Priority):
        wrong["priority"] = f"There is no such priority; there are: {', '.join(Priority)}."
    named = {TENANT_HEADER: tenant, PRIORITY_HEADER: priority}
    return {name: value for name, value in named.items() if value}


def _once(given: Mapping[str, str]) -> str:
    """Name the form that was posted: if it is posted twice, its flow is enqueued once."""
    return f"desk:{visitor().name}:{given.get('key', '')[:64]}"


def _calls(
    name: str,
    parameters: JSONObject,
    source: str | None,
    then: tuple[Branch, ...],
    headers: Mapping[str, str],
) -> dict[str, str]:
    lane = {key.removeprefix("fermata_"): value for key, value in headers.items()}
    asked = {"operation": name, "parameters": parameters, "source": source}
    return {
        "Python": _python(name, parameters, source, then, lane),
        "Command line": _command(name, parameters, source, then, lane),
        "HTTP": _curl(asked | {"then": [*map("+".join, then)]} | lane),
    }


def _python(
    name: str,
    parameters: JSONObject,
    source: str | None,
    then: tuple[Branch, ...],
    lane: Mapping[str, str],
) -> str:
    call = "enqueue_flow" if name in FLOWS or then else "enqueue"
    given = [repr(name)] + ([repr(source)] if source else [])
    named = parameters | ({"then": [*map(list, then)]} if then else {}) | dict(lane)
    lines = [*given, *(f"{key}={value!r}" for key, value in named.items())]
    return f"{_CLIENT}job = fermata.{call}(\n" + "".join(f"    {line},\n" for line in lines) + ")"


def _command(
    name: str,
    parameters: JSONObject,
    source: str | None,
    then: tuple[Branch, ...],
    lane: Mapping[str, str],
) -> str:
    words = [["fermata", "submit", name]] + ([["--source", source]] if source else [])
    for key, value in parameters.items():
        text = value if isinstance(value, str) else json.dumps(value)
        words.append(["-p", f"{key}={text}"])
    words += [["--then", "+".join(branch)] for branch in then]
    words += [[f"--{key}", value] for key, value in lane.items()]
    return " \\\n    ".join(map(shlex.join, words))


def _curl(body: JSONObject) -> str:
    asked = json.dumps({key: value for key, value in body.items() if value}, ensure_ascii=False)
    lines = (
        shlex.join(["curl", f"{request.host_url}api/v1/jobs"]),
        '-H "Authorization: Bearer $TOKEN"',  # not quoted by shlex: the shell puts the token in
        '-H "Content-Type: application/json"',
        shlex.join(["-d", asked]),
    )
    return " \\\n    ".join(lines)
