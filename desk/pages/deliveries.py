"""Deliveries: the latest of them, the quarantine, and what can be done with an entry of it.

A replay takes the delivery through the receiver's own door again; an adoption gives its job a
record. An entry that could be used has done its work and is dropped; one that still cannot be used
stays, and the page says why.
"""

from typing import Final

from flask import abort, flash, redirect, render_template, request, url_for
from werkzeug.wrappers import Response

from desk.api.deliveries import NO_KEYS, latest, seen, visible
from desk.doors import Role, requires, system_wide, visitor
from desk.pages import pages, wording
from desk.parts import desk
from worker.core.errors import FermataError, InvalidPayload, InvalidSignature
from worker.core.providers import chosen, find

SHOWN: Final = 100
LATEST: Final = 50


@pages.get("/deliveries")
def deliveries() -> str:
    """List the newest entries of the quarantine, and the latest deliveries."""
    before = request.args.get("before")
    received = latest(LATEST, before=before)
    kept = desk().quarantine
    entries = list(seen(kept.newest(SHOWN)))
    total = sum(kept.counts().values()) if visitor().tenant is None else len(entries)
    return render_template(
        "deliveries.html",
        entries=entries,
        total=total,
        shown=SHOWN,
        received=received,
        first=before is None,
        older=received[-1][0].receipt_id if len(received) == LATEST else None,
    )


@pages.get("/deliveries/<entry_id>")
def delivery(entry_id: str) -> str:
    """Show one delivery: why it was kept, its headers, its body as text."""
    entry = visible(entry_id)
    try:
        body = wording.readable(entry.body)
    except InvalidPayload as error:
        body = error.message
    return render_template(
        "delivery.html",
        entry=entry,
        body=body,
        may_use=desk().deliveries is not None,
        may_adopt=visitor().tenant is None and desk().readings.state(entry.job_id) is None,
        operations=sorted(n for n, each in chosen().operations.items() if each.takes_webhook),
    )


@pages.post("/deliveries/<entry_id>/verify")
@requires(Role.OPERATE)
def verify(entry_id: str) -> Response:
    """Check a delivery's signature again, and read it."""
    entry, door = visible(entry_id), desk().deliveries
    if door is None:
        abort(409, NO_KEYS)
    try:
        flash(f"Its signature is right, and it can be read: {door.verify(entry).summary}.")
    except InvalidSignature as error:
        flash(f"Its signature is wrong: {error.message}")
    except FermataError as error:
        flash(f"Its signature is right, but it cannot be read: {error.message}")
    return redirect(url_for("pages.delivery", entry_id=entry_id))


@pages.post("/deliveries/<entry_id>/adopt")
@requires(Role.OPERATE)
@system_wide
def adopt(entry_id: str) -> Response:
    """Give an orphan's job its record back."""
    entry, adoption = visible(entry_id), desk().adoption
    if adoption is None:
        abort(409, NO_KEYS)
    given = {name: request.form.get(name, "").strip() for name in ("operation", "tenant")}
    try:
        became = adoption.adopt(entry, find(given["operation"]), tenant=given["tenant"] or None)
    except FermataError as error:
        flash(f"It cannot be adopted: {error.message}")
        return redirect(url_for("pages.delivery", entry_id=entry_id))
    desk().quarantine.drop(entry.entry_id)
    flash(f"Adopted: the job is {became}.")
    return redirect(url_for("pages.job", job_id=entry.job_id))


@pages.post("/deliveries/<entry_id>/replay")
@requires(Role.OPERATE)
def replay(entry_id: str) -> Response:
    """Take a delivery through the receiver's door again."""
    entry, door = visible(entry_id), desk().deliveries
    if door is None:
        abort(409, NO_KEYS)
    try:
        receipt = door.replay(entry)
    except FermataError as error:
        flash(f"It still cannot be used: {error.message}")
        return redirect(url_for("pages.delivery", entry_id=entry_id))
    desk().quarantine.drop(entry.entry_id)
    flash(f"Replayed: {receipt}.")
    return redirect(url_for("pages.job", job_id=entry.job_id))


@pages.post("/deliveries/<entry_id>/drop")
@requires(Role.OPERATE)
def drop(entry_id: str) -> Response:
    """Forget a delivery for good."""
    desk().quarantine.drop(visible(entry_id).entry_id)
    flash("Dropped.")
    return redirect(url_for("pages.deliveries"))
