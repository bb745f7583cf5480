"""Jobs: the list with its filter, the search, and cancelling all that match.

The filter stands in the URL. A page shows some jobs and where the list goes on; it never counts
what it would have to read first. "Cancel all" is one action in the server: a page says how many
jobs match, and the form on it cancels those that match and were recorded by then.
"""

from datetime import UTC, datetime
from itertools import islice
from typing import Any, Final

from flask import flash, redirect, render_template, request, url_for
from werkzeug.wrappers import Response

from desk.api.jobs import cancel_those, live_jobs, require_narrow
from desk.doors import Role, requires, visitor
from desk.pages import pages
from desk.parts import desk, now
from worker.core import amounts
from worker.core.contract import JOB_ID
from worker.core.errors import InvalidRequest
from worker.core.job.models import JobId
from worker.core.job.states import LIVE, JobState
from worker.core.overview import Filter, Row
from worker.core.providers import chosen
from worker.engine.cancel import Cancellation

NEWEST: Final = 2_000
"""So many of the newest jobs are searched for an id that no index has."""
_FIELDS: Final = ("state", "operation", "tenant", "batch", "error", "since", "until")
_LEAST_SEARCHED: Final = 4


@pages.get("/jobs")
def jobs() -> str:
    """List jobs: ``GET /jobs?state=failed&operation=sonic.wav``."""
    wanted, cursor = read_filter(), request.args.get("cursor")
    try:
        page = desk().lists.page(wanted, cursor=cursor, own=visitor().tenant is not None)
    except ValueError as error:
        raise InvalidRequest(str(error)) from None
    given = _given()
    return render_template(
        "jobs.html",
        page=page,
        given=given,
        total=_total(wanted),
        first=cursor is None,
        older=url_for("pages.jobs", **given, cursor=page.cursor) if page.cursor else None,
        cancel_url=url_for("pages.cancel_matching", **given),
        states=list(JobState),
        operations=sorted(chosen().operations),
        may_end=bool(set(given) - {"since", "until"}) and wanted.state in {None, *LIVE},
    )


def read_filter() -> Filter:
    """Read the filter from the URL; a visitor with a tenant gets no other one.

    Raises InvalidRequest.
    """
    given = _given()
    state = given.get("state")
    if state is not None and state not in set(JobState):
        raise InvalidRequest(f"there is no such state; there are: {', '.join(JobState)}")
    return Filter(
        state=JobState(state) if state else None,
        operation=given.get("operation"),
        tenant=visitor().tenant or given.get("tenant"),
        batch=given.get("batch"),
        error=given.get("error"),
        since=_time("since", given.get("since")),
        until=_time("until", given.get("until")),
    )


def _given() -> dict[str, Any]:
    return {name: value for name in _FIELDS if (value := request.args.get(name, "").strip())}


def _time(name: str, text: str | None) -> float | None:
    if text is None:
        return None
    try:
        at = datetime.fromisoformat(text)
        return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        raise InvalidRequest(f"{name} is not a time as 2026-11-29T12:00 (UTC)") from None


def _total(wanted: Filter) -> int | None:
    """Say how many jobs match, if the counters know it."""
    if wanted != Filter(state=wanted.state, operation=wanted.operation):
        return None
    return sum(
        count
        for (state, operation), count in desk().counters.counts().items()
        if wanted.state in {None, state} and wanted.operation in {None, operation}
    )


@pages.get("/search")
def search() -> str | Response:
    """Find a job by its id, or among the newest by the ids of the provider: ``GET /search?q=…``."""
    asked = request.args.get("q", "").strip()
    if JOB_ID.fullmatch(asked) and _is_seen(JobId(asked)):
        return redirect(url_for("pages.job", job_id=asked))
    newest = desk().lists.select(Filter(tenant=visitor().tenant))
    found = [row for row in islice(newest, NEWEST) if _is_named(row, asked)]
    return render_template("search.html", asked_for=asked, rows=found, newest=NEWEST)


def _is_seen(job_id: JobId) -> bool:
    return any(visitor().sees(row.tenant) for row in desk().lists.rows([job_id]))


def _is_named(row: Row, asked: str) -> bool:
    if asked in {row.provider_task_id, row.clip_id, row.batch}:
        return True
    return len(asked) >= _LEAST_SEARCHED and row.job_id.startswith(asked)


@pages.get("/cancel")
@requires(Role.ENQUEUE)
def cancel_matching() -> str:
    """Ask before all jobs that match a filter are cancelled, and say how many they are."""
    until = datetime.fromtimestamp(now(), UTC).isoformat()
    given: dict[str, Any] = {"until": until} | _given()
    return render_template(
        "cancel.html",
        matching=len(live_jobs(_narrow())),
        given=given,
        back=url_for("pages.jobs", **_given()),
        action=url_for("pages.cancel_matching_now", **given),
    )


@pages.post("/cancel")
@requires(Role.ENQUEUE)
def cancel_matching_now() -> Response:
    """Cancel all jobs that match a filter."""
    counts = cancel_those(live_jobs(_narrow()))
    late = counts.get(Cancellation.TOO_LATE, 0)
    flash(f"Ending now: {amounts.count(counts.get(Cancellation.ENDING, 0), 'job')}.")
    if late:
        flash(f"{late:,} had ended by themselves.")
    return redirect(url_for("pages.jobs", **_given()))


def _narrow() -> Filter:
    """Read a filter that does not match everything.

    Raises InvalidRequest.
    """
    require_narrow(_given())
    return read_filter()
