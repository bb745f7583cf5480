"""Deliveries: the quarantine, and what can be done with an entry of it.

A replay takes the delivery through the receiver's own door again. An entry that could be used has
done its work and is dropped; one that still cannot be used stays, and the page says why.
"""

from typing import Final

from flask import abort, flash, redirect, render_template, url_for
from werkzeug.wrappers import Response

from desk.api.quarantine import seen, visible
from desk.doors import Role, requires, visitor
from desk.pages import pages, wording
from desk.parts import desk
from worker.core.errors import FermataError, InvalidPayload

SHOWN: Final = 100


@pages.get("/deliveries")
def deliveries() -> str:
    """List the newest entries of the quarantine."""
    kept = desk().quarantine
    entries = list(seen(kept.newest(SHOWN)))
    total = sum(kept.counts().values()) if visitor().tenant is None else len(entries)
    return render_template("deliveries.html", entries=entries, total=total, shown=SHOWN)


@pages.get("/deliveries/<entry_id>")
def delivery(entry_id: str) -> str:
    """Show one delivery: why it was kept, its headers, its body as text."""
    entry = visible(entry_id)
    try:
        body = wording.readable(entry.body)
    except InvalidPayload as error:
        body = error.message
    return render_template(
        "delivery.html", entry=entry, body=body, may_replay=desk().deliveries is not None
    )


@pages.post("/deliveries/<entry_id>/replay")
@requires(Role.OPERATE)
def replay(entry_id: str) -> Response:
    """Take a delivery through the receiver's door again."""
    entry, door = visible(entry_id), desk().deliveries
    if door is None:
        abort(409, "The desk needs FERMATA_SIGNING_KEYS to replay a delivery.")
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
