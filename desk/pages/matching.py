"""Cancel, or run again, all jobs that match a filter or are of a batch.

A page asks first: it says how many jobs match, and what they would cost. The form on it names the
time at which it was made, so what is recorded later is not touched. Each answer to the form works
for a few seconds. While jobs are left, it is a page with the form for the others, which the page's
script sends on at once; without it, a button does. The filter and the cursor in that form are all
that there is to know: a desk that ends in between loses nothing, and the page can be sent again.
"""

from collections import Counter
from datetime import UTC, datetime
from typing import Any, Final

from flask import flash, redirect, render_template, request, url_for
from markupsafe import Markup
from werkzeug.wrappers import Response

from desk.api.batches import visible
from desk.api.jobs import by, require_narrow, understood
from desk.doors import Role, requires, visitor
from desk.pages import pages
from desk.pages.jobs import given_filter, read_filter, read_time
from desk.parts import desk, now
from worker.batch import Cancelled, Retrying
from worker.core import amounts
from worker.core.job.states import JobState
from worker.core.overview import Filter
from worker.messages.retry import PERHAPS_PAID

_SO_FAR: Final = "so far: "
"""Begins the name of a field with what earlier slices have done."""
_ENDING: Final = "ending"
_LATE: Final = "too late"
_RETRIED: Final = "retried"


@pages.get("/cancel")
@requires(Role.ENQUEUE)
def cancel_matching() -> str:
    """Ask before all jobs that match a filter are cancelled, and say how many they are."""
    return render_template(
        "cancel.html",
        matching=desk().matching.count(_narrow(), own=_is_own()),
        **_asked("pages.cancel_matching_now"),
    )


@pages.post("/cancel")
@requires(Role.ENQUEUE)
def cancel_matching_now() -> str | Response:
    """Cancel jobs that match a filter, for as long as a slice lasts."""
    with understood():
        done = desk().matching.cancel(_narrow(), by=by(), cursor=_cursor(), own=_is_own())
    ended = url_for("pages.jobs", **given_filter() | {"state": JobState.CANCELLED})
    return _cancelled(
        done, _back(), Markup(' <a href="{}">See those that are cancelled</a>.').format(ended)
    )


@pages.post("/batches/<batch_id>/cancel")
@requires(Role.ENQUEUE)
def cancel_batch(batch_id: str) -> str | Response:
    """Cancel jobs of a batch that are under way, for as long as a slice lasts."""
    found = visible(batch_id)
    with understood():
        done = desk().runs.cancel(found.batch_id, by=by(), cursor=_cursor())
    return _cancelled(done, url_for("pages.batch", batch_id=batch_id))


def _cancelled(done: Cancelled, back: str, see: str = "") -> str | Response:
    so_far = _so_far() + Counter({_ENDING: done.ending, _LATE: done.too_late})
    ending = f"Ending now: {amounts.count(so_far[_ENDING], 'job')}."
    if done.cursor:
        return _goes_on("Cancelling", ending, done, so_far, back)
    flash(Markup("{}{}").format(ending, see))
    if so_far[_LATE]:
        flash(f"{so_far[_LATE]:,} had ended by themselves.")
    return redirect(back)


@pages.get("/retry")
@requires(Role.OPERATE)
def retry_matching() -> str:
    """Ask before all jobs that match a filter run again, and say what it costs."""
    return _priced(_narrow(), **_asked("pages.retry_matching_now"))


@pages.post("/retry")
@requires(Role.OPERATE)
def retry_matching_now() -> str | Response:
    """Run jobs again that match a filter, for as long as a slice lasts."""
    with understood():
        done = desk().matching.retry(_narrow(), by=by(), own=_is_own(), **_how())
    return _retried(done, _back())


@pages.get("/batches/<batch_id>/retry")
@requires(Role.OPERATE)
def ask_to_retry_batch(batch_id: str) -> str:
    """Ask before what failed of a batch runs again, and say what it costs."""
    found = visible(batch_id)
    return _priced(
        Filter(batch=found.batch_id, tenant=visitor().tenant),
        with_batch=found.batch_id,
        told={"batch": found.batch_id},
        back=url_for("pages.batch", batch_id=batch_id),
        action=url_for("pages.retry_batch", batch_id=batch_id),
    )


@pages.post("/batches/<batch_id>/retry")
@requires(Role.OPERATE)
def retry_batch(batch_id: str) -> str | Response:
    """Run again what failed of a batch, for as long as a slice lasts."""
    found = visible(batch_id)
    with understood():
        done = desk().runs.retry(found.batch_id, by=by(), tenant=visitor().tenant, **_how())
    return _retried(done, url_for("pages.batch", batch_id=batch_id))


def _priced(wanted: Filter, with_batch: str | None = None, **asked: Any) -> str:
    price = desk().matching.price(wanted, own=_is_own(), with_batch=with_batch)
    return render_template("retry.html", price=price, perhaps_paid=PERHAPS_PAID, **asked)


def _retried(done: Retrying, back: str) -> str | Response:
    so_far = _so_far() + done.refused + Counter({_RETRIED: done.retried})
    retried = f"Running again: {amounts.count(so_far[_RETRIED], 'job')}."
    if done.cursor:
        return _goes_on("Running again", retried, done, so_far, back)
    flash(retried)
    for why in so_far.keys() - {_RETRIED}:
        flash(f"{amounts.count(so_far[why], 'job')} not: {why}.")
    return redirect(back)


def _goes_on(
    doing: str, said: str, done: Cancelled | Retrying, so_far: Counter[str], back: str
) -> str:
    """Show what was done, with the form for the rest."""
    kept = {"even_if_paid": request.form.get("even_if_paid"), "cursor": done.cursor}
    return render_template(
        "goes_on.html",
        doing=doing,
        said=said,
        left=done.left,
        back=back,
        fields={name: value for name, value in kept.items() if value}
        | {_SO_FAR + what: str(count) for what, count in so_far.items()},
    )


def _so_far() -> Counter[str]:
    """Read what earlier slices have done. It is only shown: nothing is decided by it."""
    return Counter(
        {
            name.removeprefix(_SO_FAR): int(text)
            for name, text in request.form.items()
            if name.startswith(_SO_FAR) and text.isascii() and text.isdecimal() and len(text) < 10
        }
    )


def _how() -> dict[str, Any]:
    """Read how the jobs are to run again, and where the slice begins."""
    return {"even_if_paid": "even_if_paid" in request.form, "cursor": _cursor()}


def _cursor() -> str | None:
    return request.form.get("cursor") or None


def _is_own() -> bool:
    return visitor().tenant is not None


def _narrow() -> Filter:
    """Read a filter that does not match everything.

    Raises InvalidRequest.
    """
    require_narrow(given_filter())
    return read_filter()


def _back() -> str:
    return url_for("pages.jobs", **given_filter())


def _asked(endpoint: str) -> dict[str, Any]:
    """Say what is asked for, as it stands by now: by the form, and in words."""
    # As the filter's own form writes a time.
    until = datetime.fromtimestamp(now(), UTC).replace(tzinfo=None).isoformat("T", "milliseconds")
    given: dict[str, Any] = {"until": until} | given_filter()
    times = {n: _utc(read_time(n, given[n])) for n in ("since", "until") if n in given}
    return {"told": given | times, "back": _back(), "action": url_for(endpoint, **given)}


def _utc(at: float | None) -> str:
    return f"{datetime.fromtimestamp(at or 0, UTC):%Y-%m-%d %H:%M:%S} UTC"
