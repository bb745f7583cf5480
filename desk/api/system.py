"""The system: operations and their prices, the gate, schedules, spend, and all of it in figures."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any, Final

from apispec import APISpec
from apispec.ext.marshmallow import MarshmallowPlugin
from flask_smorest import Blueprint
from marshmallow import RAISE

from desk.api import schemas
from desk.api.jobs import by
from desk.doors import Role, requires, system_wide, visitor
from desk.parts import desk, now
from desk.problems import Problem
from worker.core import overview, pauses
from worker.core.batch.flows import FLOWS, find_flow
from worker.core.errors import InvalidRequest
from worker.core.job.models import JSONObject
from worker.core.providers import chosen

blueprint = Blueprint("system", __name__, description=__doc__)

_HOUR: Final = 60
"""In minutes, for which the store keeps counters."""

_json_schema: Final = MarshmallowPlugin()
APISpec("", "", "3.1.0", plugins=[_json_schema])


@blueprint.get("/operations")
@blueprint.doc(operationId="listOperations")
@blueprint.response(200, schemas.Operations)
def operations() -> Any:
    """List what can be enqueued: the operations, then the named flows."""
    return {"items": _operations()}


@cache
def _operations() -> list[JSONObject]:
    return [_described(name) for name in (*chosen().operations, *FLOWS)]


def _described(name: str) -> JSONObject:
    flow, row = find_flow(name), chosen().operations.get(name)
    plan = flow.plan({})
    return {
        "name": name,
        "summary": row.summary if row else f"Run {' → '.join(plan.operations)}.",
        "steps": plan.operations,
        "credits": plan.credits,
        "parameters": json_schema(flow.parameters),
    }


def json_schema(parameters: dict[str, Any]) -> JSONObject:
    """Describe the fields of a request as a JSON Schema."""
    converter: Any = _json_schema.converter
    described = {}
    for name, field in parameters.items():
        doc = {"description": field.metadata["doc"]} if "doc" in field.metadata else {}
        described[name] = converter.field2property(field) | doc
    required = sorted(name for name, field in parameters.items() if field.required)
    return {
        "type": "object",
        "properties": described,
        "required": required,
        "additionalProperties": False,
    }


@blueprint.get("/gate")
@blueprint.doc(operationId="getGate")
@blueprint.response(200, schemas.Gate)
def gate() -> Any:
    """See how the gate before the provider stands, and who waits there."""
    return _gate()


def _gate() -> JSONObject:
    counters, everything = desk().counters, visitor().tenant is None
    found = counters.gate()
    return {
        "closed_for": found.closed_for,
        "closed_at": found.closed_at,
        "probe_at": found.probe_at,
        "paused_by": found.paused_by,
        "paused_at": found.paused_at,
        "pauses": [
            {
                each.kind: each.name,
                "by": each.by,
                "at": each.at,
                "held": each.held if everything else None,
            }
            for each in found.pauses
            if each.kind != "tenant" or visitor().sees(each.name)
        ],
        "in_flight": found.in_flight if everything else None,
        "at_provider": [
            {"operation": operation, "jobs": jobs, "oldest": oldest}
            for operation, jobs, oldest in (counters.at_provider() if everything else ())
        ],
        "credits": found.credits if everything else None,
        "waiting": [
            {"lane": lane, "tenant": tenant, "jobs": jobs}
            for (lane, tenant), jobs in found.waiting.items()
            if visitor().sees(tenant)
        ],
        "history": [asdict(each) for each in (counters.gate_history() if everything else ())],
    }


@blueprint.post("/gate/pause")
@blueprint.doc(operationId="pauseGate")
@requires(Role.OPERATE)
@system_wide
@blueprint.arguments(schemas.Part, required=False, unknown=RAISE)
@blueprint.response(204)
def pause(asked: dict[str, str]) -> None:
    """Let no job pass the gate, of all, of a tenant or of an operation, until it is resumed.

    Jobs at the provider go on.
    """
    desk().gate.pause(by(), now=now(), part=part(asked))


@blueprint.post("/gate/resume")
@blueprint.doc(operationId="resumeGate")
@requires(Role.OPERATE)
@system_wide
@blueprint.arguments(schemas.Part, required=False, unknown=RAISE)
@blueprint.response(200, schemas.Paused)
def resume(asked: dict[str, str]) -> Any:
    """End a pause; another one stays."""
    return {"was_paused": desk().gate.resume(by(), now=now(), part=part(asked))}


def part(asked: Mapping[str, str]) -> str:
    """Read what a pause is about.

    Raises Problem.
    """
    try:
        return pauses.part(tenant=asked.get("tenant"), operation=asked.get("operation"))
    except InvalidRequest as error:
        raise Problem(422, error.message) from None


@blueprint.get("/schedules")
@blueprint.doc(operationId="listSchedules")
@system_wide
@blueprint.response(200, schemas.Schedules)
def schedules() -> Any:
    """List the timetable: when each schedule runs next, and how its last runs went."""
    if desk().settings.timetable is None:
        return {"items": []}
    timetable = desk().timetable
    return {"items": [timetable.describe(each) for each in timetable.schedules.values()]}


@blueprint.post("/schedules/<schedule>/run")
@blueprint.doc(operationId="runSchedule")
@requires(Role.OPERATE)
@system_wide
@blueprint.response(202, schemas.ScheduleRun, headers={"Location": {"schema": {"type": "string"}}})
def run(schedule: str) -> Any:
    """Start a run of a schedule now, as a batch named after this minute; a worker submits it.

    Asked for again within two minutes, it runs once. 409 if that run was cancelled meanwhile, or if
    the run before has not ended, and the schedule skips a run then.
    """
    try:
        batch_id = run_now(schedule)
    except InvalidRequest as error:
        raise Problem(409, error.message) from None
    return {"batch_id": batch_id}, {"Location": f"/api/v1/batches/{batch_id}"}


def run_now(name: str) -> str:
    """Start a run; raises Problem if there is no such schedule, InvalidRequest if it is skipped."""
    timetable = desk().settings.timetable
    if timetable is None or name not in desk().timetable.schedules:
        raise Problem(404, "The timetable has no such schedule.")
    return desk().run_schedule(name)


@blueprint.get("/spend")
@blueprint.doc(operationId="listSpend")
@blueprint.arguments(schemas.Days, location="query", unknown=RAISE)
@blueprint.response(200, schemas.Spend)
def spend(asked: dict[str, Any]) -> Any:
    """See what was spent, by day and tenant, at list prices."""
    return {"items": list(_spent(asked["days"]))}


def _spent(days: int) -> Iterator[JSONObject]:
    found = desk().counters.days(now=now(), count=days)
    today = datetime.fromtimestamp(now(), UTC).date()
    for ago, counts in zip(reversed(range(days)), found, strict=True):
        for name, amount in sorted(counts.items()):
            if name[0] == "credits" and visitor().sees(name[1]):
                day = today - timedelta(days=ago)
                yield {"day": day, "tenant": name[1], "credits": amount / 1000}


@blueprint.get("/overview")
@blueprint.doc(operationId="getOverview")
@system_wide
@blueprint.response(200, schemas.Overview)
def figures() -> Any:
    """See the whole system in figures."""
    hour = overview.added(desk().counters.minutes(now=now(), count=_HOUR))
    [today] = desk().counters.days(now=now(), count=1)
    waits = overview.histogram(hour, "wait", overview.WAIT_BOUNDS)
    states: dict[str, int] = {}
    for (state, _), count in desk().counters.counts().items():
        states[state] = states.get(state, 0) + count
    return {
        "states": states,
        "gate": _gate(),
        "quarantine": desk().quarantine.counts(),
        "oldest": desk().counters.oldest(),
        "workers": desk().counters.workers(),
        "today": [asdict(each) for each in overview.by_tenant(today)],
        "webhook_share": overview.webhook_share(hour, chosen().operations).share,
        "provider_seconds": {"p50": waits.quantile(0.5), "p95": waits.quantile(0.95)},
    }
