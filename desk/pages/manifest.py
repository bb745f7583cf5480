"""Submit a manifest: first it is checked and priced, and only then submitted.

A file, or pasted text, is posted to be checked. Every mistake is shown with its line. If there is
none, the page has a second form, whose button says what it will cost. The manifest travels in that
form, as the bytes that were checked: nothing is kept here that could be lost or mixed up with
another. The second step reads and checks them as the first one did, so a form that somebody has
changed buys nothing that could not be bought anyway. A form that is posted twice submits each row
once, for the jobs' ids follow from the batch and the rows.
"""

import base64
import contextlib
import zlib
from dataclasses import dataclass
from pathlib import PurePath
from typing import Final

from flask import abort, current_app, flash, redirect, render_template, request, url_for
from werkzeug.wrappers import Response

from desk.api.batches import MOST_ROWS, Checked, check, own_id, submit_checked, visible
from desk.doors import Role, requires
from desk.pages import pages
from desk.parts import desk
from desk.problems import Problem
from worker.batch.manifest import Format, format_of
from worker.core import amounts
from worker.core.errors import InvalidRequest
from worker.core.job.lanes import TENANT, TENANT_FORM

_MOST_SHOWN: Final = 200
"""So many mistakes are listed at most."""
_LONGEST_SHOWN: Final = 20_000
"""A manifest of so many bytes can be mended on the page; a longer one in its file."""


@dataclass(frozen=True, slots=True)
class _Given:
    """What was posted to be checked."""

    body: bytes
    form: Format
    name: str


@pages.url_value_preprocessor
def _take_whole_manifests(endpoint: str | None, _: object) -> None:
    """Let these forms be as long as any request may be; others are a few lines."""
    if endpoint in {"pages.check_manifest", "pages.submit_manifest"}:
        request.max_form_memory_size = current_app.config["MAX_CONTENT_LENGTH"]


@pages.get("/manifest")
@requires(Role.ENQUEUE)
def manifest() -> str:
    """Show the form for a manifest."""
    return _form()


@pages.post("/manifest")
@requires(Role.ENQUEUE)
def check_manifest() -> str | tuple[str, int]:
    """Check and price a manifest; nothing is submitted."""
    try:
        given = _read()
    except InvalidRequest as error:
        return _form(wrong=error.message), 422
    checked = check(given.body, given.form)
    if checked.mistakes:
        return _form(given, checked), 422
    return render_template(
        "manifest_checked.html",
        given=given,
        tally=checked.tally,
        packed=_pack(given.body),
        batch=_existing(own_id(given.name)),
    )


@pages.post("/manifest/submit")
@requires(Role.ENQUEUE)
def submit_manifest() -> str | Response | tuple[str, int]:
    """Submit a manifest that was checked."""
    given, batch_id = _unpack(), own_id(request.form["id"])
    again = "again" in request.form and desk().ledger.is_cancelled(batch_id)
    checked = check(given.body, given.form)
    if checked.mistakes:
        return _form(given, checked), 422
    done = submit_checked(batch_id, checked, again=again)
    before = f"; {done.present:,} were before" if done.present else ""
    flash(f"{amounts.count(done.submitted, 'row')} submitted{before}.")
    return redirect(url_for("pages.batch", batch_id=batch_id), 303)


def _form(given: _Given | None = None, checked: Checked | None = None, wrong: str = "") -> str:
    text = request.form.get("text", "")
    if given and len(given.body) <= _LONGEST_SHOWN:
        text = given.body.decode(errors="replace")
    return render_template(
        "manifest.html",
        name=given.name if given else request.form.get("id", ""),
        form=given.form if given else request.form.get("format", ""),
        text=text if len(text) <= _LONGEST_SHOWN else "",
        formats=list(Format),
        mistakes=checked.mistakes[:_MOST_SHOWN] if checked else (),
        found=len(checked.mistakes) if checked else 0,
        wrong=wrong,
        most_rows=MOST_ROWS,
    )


def _read() -> _Given:
    """Read what was posted: a file if there is one, else the text.

    Raises InvalidRequest.
    """
    file, fields = request.files.get("file"), request.form
    if file is not None and file.filename:
        body, filename = file.read(), file.filename
    else:
        # Browsers send a text's line ends as two characters.
        body, filename = fields.get("text", "").replace("\r\n", "\n").encode(), ""
    if not body.strip():
        raise InvalidRequest("Choose a file, or paste a manifest.")
    chosen = fields.get("format") or format_of(filename)
    if chosen not in set(Format):
        raise InvalidRequest("Say which format it is: CSV, JSON Lines or YAML.")
    name = fields.get("id", "").strip() or PurePath(filename).stem
    if not TENANT.fullmatch(name):
        raise InvalidRequest(f"Name the batch; its name must be {TENANT_FORM}.")
    return _Given(body, Format(chosen), name)


def _pack(body: bytes) -> str:
    return base64.b64encode(zlib.compress(body)).decode()


def _unpack() -> _Given:
    """Read a manifest that was checked, from the form that holds it."""
    fields, packed = request.form, zlib.decompressobj()
    body, form, name = b"", "", fields.get("id", "")
    with contextlib.suppress(KeyError, ValueError, zlib.error):
        sent = base64.b64decode(fields["packed"], validate=True)
        body = packed.decompress(sent, current_app.config["MAX_CONTENT_LENGTH"])
        form = Format(fields["format"])
    if not (packed.eof and form and TENANT.fullmatch(name)):
        abort(400, "The form did not arrive whole: check the manifest again.")
    return _Given(body, Format(form), name)


def _existing(batch_id: str) -> str:
    """Say how a batch stands that has this name already; empty if there is none."""
    try:
        return visible(batch_id).standing
    except Problem:
        return ""
