"""Deliveries: the latest, and the quarantine of authentic ones that could not be used.

A tenant sees the deliveries of its own jobs. The command line verifies, replays and adopts through
the same use cases.
"""

import base64
import itertools
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import Any, Final

from flask_smorest import Blueprint
from marshmallow import RAISE

from desk.api import schemas
from desk.api.schemas import MOST
from desk.doors import Role, requires, system_wide, visitor
from desk.parts import desk
from desk.problems import Problem
from worker.core.errors import FermataError, InvalidPayload, InvalidRequest
from worker.core.job.models import Entry, JSONObject
from worker.core.overview import Received
from worker.core.providers import find

blueprint = Blueprint("deliveries", __name__, description=__doc__)

_AT_ONCE: Final = 50
NO_KEYS: Final = "This desk has no FERMATA_SIGNING_KEYS, so it cannot verify a delivery."


def visible(entry_id: str) -> Entry:
    """Read an entry; raises Problem if there is none that the visitor may see."""
    try:
        found = desk().quarantine.read(entry_id)
    except InvalidRequest:
        found = None
    if found is None or not list(seen([found])):
        raise Problem(404, "There is no such entry in quarantine.")
    return found


def seen(entries: Iterable[Entry]) -> Iterator[Entry]:
    """Leave out the deliveries of other tenants' jobs, and for a tenant those of no job at all."""
    if visitor().tenant is None:
        yield from entries
        return
    found = list(entries)
    rows = desk().lists.rows(sorted({entry.job_id for entry in found}))
    own = {row.job_id for row in rows if visitor().sees(row.tenant)}
    yield from (entry for entry in found if entry.job_id in own)


def latest(limit: int, *, before: str | None = None) -> list[tuple[Received, str]]:
    """Read the latest deliveries that the visitor may see, each with its job's operation if known.

    Raises InvalidRequest if there can be no such id.
    """
    found: list[tuple[Received, str]] = []
    all_of_them = desk().receipts.newest(before=before)
    while len(found) < limit and (some := list(itertools.islice(all_of_them, MOST))):
        rows = {row.job_id: row for row in desk().lists.rows(sorted({r.job_id for r in some}))}
        for received in some:
            row = rows.get(received.job_id)
            if visitor().sees(row.tenant) if row else visitor().tenant is None:
                found.append((received, row.operation if row else ""))
    return found[:limit]


@blueprint.get("/deliveries")
@blueprint.doc(operationId="listDeliveries")
@blueprint.arguments(schemas.Paging, location="query", unknown=RAISE)
@blueprint.response(200, schemas.Deliveries)
def received(asked: dict[str, Any]) -> Any:
    """List the latest deliveries and what became of each, the newest first; some 1,000 are kept."""
    limit = asked["limit"]
    try:
        found = latest(limit, before=asked.get("cursor"))
    except InvalidRequest as error:
        raise Problem(422, "The query is wrong.", errors={"cursor": [error.message]}) from None
    items = [asdict(each) | {"operation": operation or None} for each, operation in found]
    return {"items": items, "cursor": found[-1][0].receipt_id if len(found) == limit else None}


@blueprint.get("/quarantine")
@blueprint.doc(operationId="listQuarantine")
@blueprint.arguments(schemas.Paging, location="query", unknown=RAISE)
@blueprint.response(200, schemas.Entries)
def listed(asked: dict[str, Any]) -> Any:
    """List the entries, the oldest first."""
    limit = asked["limit"]
    try:
        found = _first(desk().quarantine.entries(after=asked.get("cursor")), limit)
    except InvalidRequest as error:
        raise Problem(422, "The query is wrong.", errors={"cursor": [error.message]}) from None
    cursor = found[-1].entry_id if len(found) == limit else None
    return {"items": [entry.to_json() for entry in found], "cursor": cursor}


def _first(entries: Iterator[Entry], limit: int) -> list[Entry]:
    """Read the first entries that the visitor may see: a cursor names none but these."""
    found: list[Entry] = []
    while len(found) < limit and (some := list(itertools.islice(entries, _AT_ONCE))):
        found += seen(some)
    return found[:limit]


@blueprint.get("/quarantine/<entry_id>")
@blueprint.doc(operationId="getQuarantined")
@blueprint.response(200, schemas.WholeEntry)
def one(entry_id: str) -> Any:
    """Look at one delivery: why it was kept, its headers, its body."""
    entry = visible(entry_id)
    return entry.to_json() | _body(entry)


def _body(entry: Entry) -> JSONObject:
    try:
        body = entry.body
    except InvalidPayload:
        return {"body": None, "body_base64": None}
    text = body.decode(errors="backslashreplace")
    return {"body": text, "body_base64": base64.b64encode(body).decode()}


@blueprint.post("/quarantine/<entry_id>/verify")
@blueprint.doc(operationId="verifyQuarantined")
@requires(Role.OPERATE)
@blueprint.response(200, schemas.Verified)
def verify(entry_id: str) -> Any:
    """Check the signature of a delivery again, and read it; nothing is changed.

    409, with the reason, if it is not right, or if the delivery still cannot be read.
    """
    entry, deliveries = visible(entry_id), desk().deliveries
    if deliveries is None:
        raise Problem(409, NO_KEYS)
    try:
        delivery = deliveries.verify(entry)
    except FermataError as error:
        raise Problem(409, error.message) from None
    return {"event": delivery.event, "final": delivery.final}


@blueprint.post("/quarantine/<entry_id>/adopt")
@blueprint.doc(operationId="adoptQuarantined")
@requires(Role.OPERATE)
@system_wide
@blueprint.arguments(schemas.Adopt)
@blueprint.response(200, schemas.Outcome)
def adopt(asked: dict[str, Any], entry_id: str) -> Any:
    """Give an orphan's job its record back, with the result that was delivered.

    409, with the reason, if that cannot be done.
    """
    entry, adoption = visible(entry_id), desk().adoption
    if adoption is None:
        raise Problem(409, NO_KEYS)
    try:
        became = adoption.adopt(entry, find(asked["operation"]), tenant=asked.get("tenant"))
    except FermataError as error:
        raise Problem(409, error.message) from None
    desk().quarantine.drop(entry.entry_id)
    return {"outcome": became}


@blueprint.post("/quarantine/<entry_id>/replay")
@blueprint.doc(operationId="replayQuarantined")
@requires(Role.OPERATE)
@blueprint.response(200, schemas.Outcome)
def replay(entry_id: str) -> Any:
    """Take a delivery through the receiver's door again; if it can be used, it leaves.

    409, with the reason, if it still cannot be used.
    """
    entry, deliveries = visible(entry_id), desk().deliveries
    if deliveries is None:
        raise Problem(409, NO_KEYS)
    try:
        receipt = deliveries.replay(entry)
    except FermataError as error:
        raise Problem(409, error.message) from None
    desk().quarantine.drop(entry.entry_id)
    return {"outcome": receipt}


@blueprint.delete("/quarantine/<entry_id>")
@blueprint.doc(operationId="dropQuarantined")
@requires(Role.OPERATE)
@blueprint.response(204)
def drop(entry_id: str) -> None:
    """Forget a delivery for good."""
    desk().quarantine.drop(visible(entry_id).entry_id)
