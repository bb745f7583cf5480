"""Enqueue jobs and flows; see how a flow stands."""

from collections.abc import Iterator
from typing import Any, Final

from flask_smorest import Blueprint

from desk.api import schemas
from desk.api.jobs import by, visible
from desk.doors import Role, requires, visitor
from desk.parts import desk
from desk.problems import Problem
from worker.core.batch import Row, check_request
from worker.core.contract import PRIORITY_HEADER, TENANT_HEADER
from worker.core.errors import InvalidRequest
from worker.core.job.lanes import tenant_of
from worker.core.job.models import JobId, JobRecord, JSONObject
from worker.messages import watch
from worker.messages.flow import Flow
from worker.messages.watch import Sight

blueprint = Blueprint("flows", __name__, description=__doc__)

_WRONG: Final = "The request is wrong; nothing was submitted."


@blueprint.post("/jobs")
@blueprint.doc(operationId="enqueueJob", tags=["jobs"])
@requires(Role.ENQUEUE)
@blueprint.arguments(schemas.JobRequest)
@blueprint.arguments(schemas.Key, location="headers")
@blueprint.response(202, schemas.Enqueued, headers={"Location": {"schema": {"type": "string"}}})
def enqueue_job(asked: JSONObject, key: JSONObject) -> Any:
    """Enqueue an operation, and follow-ups on its result."""
    enqueued = _enqueue(asked, key["idempotency_key"], name="operation")
    return enqueued, {"Location": f"/api/v1/jobs/{enqueued['job_id']}"}


@blueprint.post("/flows")
@blueprint.doc(operationId="enqueueFlow")
@requires(Role.ENQUEUE)
@blueprint.arguments(schemas.FlowRequest)
@blueprint.arguments(schemas.Key, location="headers")
@blueprint.response(202, schemas.Enqueued, headers={"Location": {"schema": {"type": "string"}}})
def enqueue_flow(asked: JSONObject, key: JSONObject) -> Any:
    """Enqueue a named flow, and further branches beside its own."""
    enqueued = _enqueue(asked, key["idempotency_key"], name="name")
    return enqueued, {"Location": f"/api/v1/flows/{enqueued['job_id']}"}


def _enqueue(asked: JSONObject, key: str | None, *, name: str) -> JSONObject:
    """Check a request, and enqueue it.

    Args:
        name: the field with the name of the operation or flow.
    """
    row = _checked(asked, name)
    # Not the row's own: a request that names no priority is no batch's.
    lane = {PRIORITY_HEADER: asked["priority"], TENANT_HEADER: visitor().tenant or asked["tenant"]}
    flow: Flow = desk().enqueue(
        row.plan,
        # Tenants choose their keys themselves: equal ones must not meet.
        idempotency_key=f"{visitor().tenant}:{key}" if key and visitor().tenant else key,
        headers={header: value for header, value in lane.items() if value},
        notify=asked["notify"],
    )
    steps = [{"job_id": s.job_id, "operation": s.operation, "after": s.after} for s in flow.steps]
    return {"job_id": flow.steps[0].job_id, "steps": steps}


def _checked(asked: JSONObject, name: str) -> Row:
    """Read a request as a manifest's row is read. Raises Problem with every mistake, by field."""
    errors: dict[str, list[str]] = {}
    if asked["tenant"] is not None and not visitor().sees(asked["tenant"]):
        errors["tenant"] = [f"your token is for {visitor().tenant} alone"]
    if asked["notify"] is not None:
        try:
            desk().notices.check(asked["notify"])
        except InvalidRequest as error:
            errors["notify"] = [error.message]
    own = {own: asked[own] for own in ("source", "pick", "then", "priority", "tenant")}
    row = check_request(asked[name], asked["parameters"], **own)
    for field, why in [] if isinstance(row, Row) else row:
        errors.setdefault(name if field == "operation" else field, []).append(why)
    if errors or not isinstance(row, Row):
        raise Problem(422, _WRONG, errors=errors)
    return row


@blueprint.get("/flows/<flow_id>")
@blueprint.doc(operationId="getFlow")
@blueprint.response(200, schemas.Flow)
def one(flow_id: str) -> Any:
    """See how the jobs of a flow stand; its id is that of its first job, or of any other.

    A step that is no job, as `archive.store`, leaves no record, and a link without an id cannot be
    found: whether these have ended is not known.
    """
    sights = list(seen(look_around(visible(flow_id))))
    jobs = [sight for sight in sights if sight.state != watch.NO_RECORD]
    return {
        "flow_id": sights[0].step.job_id,
        "ended": all(sight.ended for sight in jobs),
        "succeeded": all(sight.succeeded for sight in jobs),
        "steps": [_step(sight) for sight in sights],
    }


@blueprint.post("/flows/<flow_id>/retry")
@blueprint.doc(operationId="retryFlow")
@requires(Role.OPERATE)
@blueprint.arguments(schemas.Retry)
@blueprint.response(202, schemas.FlowAgain)
def retry(asked: JSONObject, flow_id: str) -> Any:
    """Run again what failed of a flow, and let the rest follow; what succeeded is not run again."""
    record = visible(flow_id)
    sights = look_around(record)
    if len(list(seen(sights))) < len(sights):
        raise Problem(403, "Some jobs of this flow are another tenant's.")
    return desk().retries.retry_flow(record.job_id, by=by(), **asked)


def look_around(record: JobRecord, *only: str) -> list[Sight]:
    """Look at the flow that a job is part of; ``only`` is what else of each record is needed."""
    readings = desk().readings
    return watch.look(readings, watch.flow_of(readings, record), only=only)


def seen(sights: list[Sight]) -> Iterator[Sight]:
    """Leave out jobs of other tenants: a task of the user's may have enqueued them.

    A step without a record belongs to whom the job before it belongs to.
    """
    hidden: set[JobId | None] = set()
    for sight in sights:
        step, record = sight.step, sight.record
        if step.after in hidden if record is None else not visitor().sees(tenant_of(record.lane)):
            hidden.add(step.job_id)
        else:
            yield sight


def _step(sight: Sight) -> JSONObject:
    step = sight.step
    return {
        "job_id": step.job_id,
        "operation": step.operation,
        "after": step.after,
        "joins": step.joins,
        "state": sight.state,
    }
