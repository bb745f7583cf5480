"""Jobs: list, look, follow, cancel, retry, ask the provider."""

import contextlib
from collections.abc import Collection, Iterator
from dataclasses import replace
from typing import Any

from flask import Response, jsonify
from flask_smorest import Blueprint
from marshmallow import RAISE

from desk import live
from desk.api import schemas
from desk.doors import Role, requires, visitor
from desk.parts import desk
from desk.problems import Problem
from worker.core.errors import InvalidRequest, UnknownJob
from worker.core.job.lanes import tenant_of
from worker.core.job.models import JobId, JobRecord
from worker.core.overview import Filter
from worker.core.providers import chosen
from worker.engine.cancel import Cancellation
from worker.engine.describe import record_json
from worker.store.lists import WrongCursor

blueprint = Blueprint("jobs", __name__, description=__doc__)


def visible(job_id: str) -> JobRecord:
    """Read a job's record.

    Raises Problem; another tenant's job is as unknown as one that never was.
    """
    with contextlib.suppress(UnknownJob):
        record = desk().readings.read(JobId(job_id))
        if visitor().sees(tenant_of(record.lane)):
            return record
    raise Problem(404, "There is no record of this job: wrong id, or past its retention.")


def by() -> str:
    """Name the visitor, for the timeline of what they change."""
    return f"{visitor().name} (desk)"


@blueprint.get("/jobs")
@blueprint.doc(operationId="listJobs")
@blueprint.arguments(schemas.JobsQuery, location="query", unknown=RAISE)
@blueprint.response(200, schemas.Rows)
def listed(asked: dict[str, Any]) -> Any:
    """List jobs.

    If a state, an operation or an error is given, those that reached their state last come first;
    else, and for a token with a tenant, the newest.
    """
    cursor, limit = asked.pop("cursor", None), asked.pop("limit")
    wanted, own = _own(Filter(**asked)), visitor().tenant is not None
    with understood():
        page = desk().lists.page(wanted, cursor=cursor, limit=limit, own=own)
    return {"items": page.rows, "cursor": page.cursor}


def _own(wanted: Filter) -> Filter:
    """Narrow a filter to the visitor's tenant.

    Raises Problem if it names another one: for this visitor there is none.
    """
    tenant = visitor().tenant
    if wanted.tenant is not None and not visitor().sees(wanted.tenant):
        raise Problem(404, "There is no such tenant.")
    return replace(wanted, tenant=tenant) if tenant else wanted


@blueprint.get("/jobs/<job_id>")
@blueprint.doc(operationId="getJob")
@blueprint.response(200, schemas.Job)
def one(job_id: str) -> Response:
    """Look at one job: its state, its timeline, its result."""
    return jsonify(record_json(visible(job_id), chosen()))


@blueprint.get("/jobs/<job_id>/events")
@blueprint.doc(operationId="followJob")
@blueprint.response(200, content_type=live.MEDIA_TYPE)
def events(job_id: str) -> Response:
    """Follow one job by server-sent events, until it has ended."""
    at_turn = desk().turns.now()
    return live.of_job(visible(job_id), at_turn=at_turn)


@blueprint.get("/events")
@blueprint.doc(operationId="followJobs")
@blueprint.response(200, content_type=live.MEDIA_TYPE)
def all_events() -> Response:
    """Follow all jobs by server-sent events."""
    return live.of_all()


@blueprint.post("/jobs/<job_id>/cancel")
@blueprint.doc(operationId="cancelJob")
@requires(Role.ENQUEUE)
@blueprint.response(200, schemas.Outcome)
def cancel(job_id: str) -> Any:
    """Cancel a job: it fails with JobCancelled, and what follows it ends too.

    The provider is not told, and may still charge. 409 if the job ends, or has ended.
    """
    outcome = desk().cancellations.cancel(visible(job_id).job_id, by=by())
    if outcome is Cancellation.TOO_LATE:
        raise Problem(409, f"It is too late: {job_id} ends, or has ended.")
    return {"outcome": outcome}


@blueprint.post("/jobs/<job_id>/retry")
@blueprint.doc(operationId="retryJob")
@requires(Role.OPERATE)
@blueprint.arguments(schemas.Retry)
@blueprint.response(202, schemas.Again)
def retry(asked: dict[str, Any], job_id: str) -> Any:
    """Run a failed job again, under another id; the rest of its flow follows it.

    409, with the reason, if it cannot be retried.
    """
    try:
        again = desk().retries.retry(visible(job_id).job_id, by=by(), **asked)
    except InvalidRequest as error:
        raise Problem(409, error.message) from None
    return {"job_id": again}


@blueprint.post("/jobs/<job_id>/poll")
@blueprint.doc(operationId="pollJob")
@requires(Role.OPERATE)
@blueprint.response(200, schemas.Job)
def poll(job_id: str) -> Response:
    """Ask the provider now how a waiting job stands; 409 if it does not wait."""
    record, polls = visible(job_id), desk().polls
    if polls is None:
        raise Problem(409, "This desk has no FERMATA_API_KEY, so it cannot ask the provider.")
    try:
        polls.poll_now(record)
    except InvalidRequest as error:
        raise Problem(409, error.message) from None
    return jsonify(record_json(visible(job_id), chosen()))


@blueprint.post("/jobs/cancel")
@blueprint.doc(operationId="cancelJobs")
@requires(Role.ENQUEUE)
@blueprint.arguments(schemas.CancelMatching)
@blueprint.response(200, schemas.Cancelled)
def cancel_all(asked: dict[str, Any]) -> Any:
    """Cancel all jobs that match a filter and have not ended, for a few seconds.

    Ask again with the `cursor` of the answer while it is not null. A filter that names nothing but
    times is refused: it might match every job.
    """
    cursor = asked.pop("cursor")
    require_narrow(asked)
    wanted = _own(Filter(**asked))
    with understood():
        own = visitor().tenant is not None
        return desk().matching.cancel(wanted, by=by(), cursor=cursor, own=own)


@blueprint.post("/jobs/retry")
@blueprint.doc(operationId="retryJobs")
@requires(Role.OPERATE)
@blueprint.arguments(schemas.RetryMatching)
@blueprint.response(200, schemas.Retried)
def retry_all(asked: dict[str, Any]) -> Any:
    """Run again all jobs that match a filter and have failed, for a few seconds.

    Ask again with the `cursor` of the answer while it is not null. A filter that names nothing but
    times is refused: it might match every job.
    """
    how = {name: asked.pop(name) for name in ("even_if_paid", "cursor")}
    require_narrow(asked)
    wanted = _own(Filter(**asked))
    with understood():
        return desk().matching.retry(wanted, by=by(), own=visitor().tenant is not None, **how)


def require_narrow(given: Collection[str]) -> None:
    """Refuse to change what matches a filter that names nothing, or nothing but times.

    Raises InvalidRequest.
    """
    if not set(given) - {"since", "until"}:
        raise InvalidRequest(
            "An empty filter would match every job, and so may one of times alone: name more."
        )


@contextlib.contextmanager
def understood() -> Iterator[None]:
    """Answer a cursor that is not one of ours with a problem document."""
    try:
        yield
    except WrongCursor as error:
        raise Problem(422, "The query is wrong.", errors={"cursor": [str(error)]}) from None
