"""Batches: list, look, cancel, report."""

import contextlib
from typing import Any

from flask import Response
from flask_smorest import Blueprint
from marshmallow import RAISE

from desk.api import schemas
from desk.api.jobs import by
from desk.doors import Role, requires, visitor
from desk.parts import desk
from desk.problems import Problem
from worker.batch import Batch, report
from worker.core.errors import UnknownBatch

blueprint = Blueprint("batches", __name__, description=__doc__)


def visible(batch_id: str) -> Batch:
    """Read a batch.

    Raises Problem; to a tenant, a batch with rows of another one is as unknown as none.
    """
    with contextlib.suppress(UnknownBatch):
        found = desk().ledger.read(batch_id)
        if _is_seen(found):
            return found
    raise Problem(404, "There is no such batch, or it is past its retention.")


def _is_seen(found: Batch) -> bool:
    return visitor().tenant is None or found.tenants == (visitor().tenant,)


@blueprint.get("/batches")
@blueprint.arguments(schemas.Paging, location="query", unknown=RAISE)
@blueprint.response(200, schemas.Batches)
def listed(asked: dict[str, Any]) -> Any:
    """List the newest batches. A page may be short, or empty, and still have a cursor."""
    limit = asked["limit"]
    found = desk().ledger.recent(limit, after=asked.get("cursor"))
    cursor = found[-1].batch_id if len(found) == limit else None
    return {"items": [*filter(_is_seen, found)], "cursor": cursor}


@blueprint.get("/batches/<batch_id>")
@blueprint.response(200, schemas.Batch)
def one(batch_id: str) -> Any:
    """See how a batch stands."""
    return visible(batch_id)


@blueprint.post("/batches/<batch_id>/cancel")
@requires(Role.ENQUEUE)
@blueprint.response(200, schemas.CancelledBatch)
def cancel(batch_id: str) -> Any:
    """Cancel all jobs of a batch that have not ended; a run that still submits it stops."""
    return {"cancelled": desk().runs.cancel(visible(batch_id).batch_id, by=by())}


@blueprint.get("/batches/<batch_id>/report")
@blueprint.response(200, {"type": "string"}, content_type="text/csv")
def reported(batch_id: str) -> Response:
    """Report each row of a batch, as CSV: how it ended, with its files and its error."""
    lines = report.csv_lines(report.lines(desk().batch_rows, visible(batch_id).batch_id))
    response = Response(lines, content_type="text/csv; charset=utf-8")
    response.headers["Content-Disposition"] = "attachment; filename=report.csv"
    return response
