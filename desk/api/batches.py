"""Batches: submit a manifest, list, look, cancel, retry, report."""

import contextlib
import itertools
from dataclasses import dataclass, replace
from typing import Any, Final

from flask import Response, request
from flask_smorest import Blueprint
from marshmallow import RAISE

from desk import places
from desk.api import schemas
from desk.api.jobs import by, understood
from desk.doors import Role, requires, visitor
from desk.parts import desk, now
from desk.problems import Problem
from worker.batch import Batch, Submission, Tally, report
from worker.batch.manifest import Format, read
from worker.core.batch import Row, RowError
from worker.core.errors import UnknownBatch
from worker.core.job.lanes import DEFAULT_TENANT

blueprint = Blueprint("batches", __name__, description=__doc__)

MOST_ROWS: Final = 10_000
"""Of one request: it answers within some twenty seconds."""
MOST_LINES: Final = 1_000_000
"""Most manifests have one line for each row; lyrics take more, and empty ones are no rows."""
_FORMS: Final = {
    "text/csv": Format.CSV,
    "application/x-ndjson": Format.JSONL,
    "application/yaml": Format.YAML,
}


def visible(batch_id: str) -> Batch:
    """Read a batch.

    Raises Problem; to a tenant, a batch with rows of another one is as unknown as none.
    """
    with contextlib.suppress(UnknownBatch):
        found = desk().ledger.read(batch_id)
        if visitor().tenant is None or found.tenants == (visitor().tenant,):
            return found
    raise Problem(404, "There is no such batch, or it is past its retention.")


@blueprint.get("/batches")
@blueprint.doc(operationId="listBatches")
@blueprint.arguments(schemas.Paging, location="query", unknown=RAISE)
@blueprint.response(200, schemas.Batches)
def listed(asked: dict[str, Any]) -> Any:
    """List the newest batches."""
    limit = asked["limit"]
    found = desk().ledger.recent(limit, after=asked.get("cursor"), tenant=visitor().tenant)
    cursor = found[-1].batch_id if len(found) == limit else None
    return {"items": found, "cursor": cursor}


@blueprint.post("/batches")
@requires(Role.ENQUEUE)
@blueprint.doc(
    operationId="submitBatch",
    requestBody={
        "required": True,
        "content": {media_type: {"schema": {"type": "string"}} for media_type in _FORMS},
    },
)
@blueprint.arguments(schemas.Manifest, location="query", unknown=RAISE)
@blueprint.response(202, schemas.Submitted, headers={"Location": {"schema": {"type": "string"}}})
def submit(asked: dict[str, Any]) -> Any:
    """Check a manifest, price it, and submit each row that was not submitted before.

    If any row is wrong, nothing is submitted. Repeat the request after a lost answer: no row is
    submitted twice. 409 if the batch was cancelled: `again=true` goes on with it.
    """
    form = _FORMS.get(request.mimetype)
    if form is None:
        raise Problem(415, f"A manifest is one of: {', '.join(_FORMS)}.")
    batch_id = own_id(asked["id"])
    # Asked before the check: a batch that somebody cancels during the check stays cancelled.
    again = asked["again"] and desk().ledger.is_cancelled(batch_id)
    checked, done = check(request.get_data(), form), Submission()
    if checked.mistakes:
        wrong = [each.to_json() for each in checked.mistakes]
        raise Problem(422, f"{len(wrong)} mistakes; nothing was submitted.", rows=wrong)
    if not asked["dry_run"]:
        done = submit_checked(batch_id, checked, again=again)
    told = checked.tally.to_json() | {"submitted": done.submitted, "present": done.present}
    return told | {"batch_id": batch_id}, {"Location": f"/api/v1/batches/{batch_id}"}


@dataclass(frozen=True, slots=True)
class Checked:
    """A manifest that was read whole."""

    rows: list[Row]
    tally: Tally
    mistakes: list[RowError]


def own_id(name: str) -> str:
    """Name a batch of the visitor's. Tenants choose names themselves: equal ones must not meet."""
    own = visitor().tenant
    return f"{own}:{name}" if own else name


def check(body: bytes, form: Format) -> Checked:
    """Read and price a manifest in the visitor's name. Raises Problem if it is too long."""
    if body.count(b"\n") > MOST_LINES:
        raise Problem(413, f"Of more than {MOST_LINES:,} lines: `fermata batch submit` takes it.")
    found = [_own(row) for row in itertools.islice(read([body], form=form), MOST_ROWS + 1)]
    if len(found) > MOST_ROWS:
        raise Problem(413, f"Of more than {MOST_ROWS:,} rows: `fermata batch submit` takes it.")
    rows, tally = [row for row in found if isinstance(row, Row)], Tally()
    for row in rows:
        tally.add(row)
    return Checked(rows, tally, [row for row in found if isinstance(row, RowError)])


def _own(row: Row | RowError) -> Row | RowError:
    """Let a row run on behalf of the visitor's tenant, unless it names another one."""
    own = visitor().tenant
    if own is None or isinstance(row, RowError) or row.tenant == own:
        return row
    if row.tenant != DEFAULT_TENANT:
        return RowError(row.line, "tenant", f"your token is for {own} alone", row.key)
    return replace(row, tenant=own)


def submit_checked(batch_id: str, checked: Checked, *, again: bool) -> Submission:
    """Submit the rows; raises Problem if the batch was cancelled, before this or meanwhile."""
    tally = checked.tally
    opened = desk().ledger.open(
        batch_id,
        now=now(),
        rows=tally.rows,
        expected_jobs=tally.jobs,
        expected_credits=tally.credits,
        again=again,
    )
    done = desk().runs.submit(batch_id, checked.rows) if opened else Submission(cancelled=True)
    if done.cancelled:
        raise Problem(
            409, "The batch was cancelled: its rows end, or were not submitted. See `again`."
        )
    return done


@blueprint.get("/batches/<batch_id>")
@blueprint.doc(operationId="getBatch")
@blueprint.response(200, schemas.Batch)
def one(batch_id: str) -> Any:
    """See how a batch stands."""
    return visible(batch_id)


@blueprint.post("/batches/<batch_id>/cancel")
@blueprint.doc(operationId="cancelBatch")
@requires(Role.ENQUEUE)
@blueprint.arguments(schemas.Slice)
@blueprint.response(200, schemas.CancelledBatch)
def cancel(asked: dict[str, Any], batch_id: str) -> Any:
    """Cancel all jobs of a batch that have not ended, for a few seconds.

    Ask again with the `cursor` of the answer while it is not null. A run that still submits the
    batch stops.
    """
    found = visible(batch_id)
    with understood():
        return desk().runs.cancel(found.batch_id, by=by(), **asked)


@blueprint.post("/batches/<batch_id>/retry")
@blueprint.doc(operationId="retryBatch")
@requires(Role.OPERATE)
@blueprint.arguments(schemas.RetrySlice)
@blueprint.response(200, schemas.Retried)
def retry(asked: dict[str, Any], batch_id: str) -> Any:
    """Run again what failed of a batch, for a few seconds; the rest of each row follows.

    Ask again with the `cursor` of the answer while it is not null. A batch that was cancelled goes
    on.
    """
    found = visible(batch_id)
    with understood():
        return desk().runs.retry(found.batch_id, by=by(), tenant=visitor().tenant, **asked)


@blueprint.get("/batches/<batch_id>/report")
@blueprint.doc(operationId="reportBatch")
@blueprint.response(200, {"type": "string"}, content_type="text/csv")
def reported(batch_id: str) -> Response:
    """Report each row of a batch, as CSV: how it ended, with its files and its error."""
    lines = report.csv_lines(report.lines(desk().batch_rows, visible(batch_id).batch_id))
    response = Response(lines, content_type="text/csv; charset=utf-8")
    response.headers["Content-Disposition"] = "attachment; filename=report.csv"
    return places.hold(response)
