"""Jobs: the list with its filter, and the search.

The filter stands in the URL. A page shows some jobs and where the list goes on; it never counts
what it would have to read first. ``matching`` changes all jobs that match.
"""

from datetime import UTC, datetime
from itertools import islice
from typing import Any, Final

from flask import redirect, render_template, request, url_for
from werkzeug.wrappers import Response

from desk.doors import visitor
from desk.pages import pages
from desk.parts import desk
from worker.core.contract import JOB_ID
from worker.core.errors import InvalidRequest
from worker.core.job.models import JobId
from worker.core.job.states import LOST, UNSETTLED, JobState
from worker.core.overview import Filter, Row
from worker.core.providers import chosen
from worker.store.lists import MOST_LOOKED_AT

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
    given = given_filter()
    return render_template(
        "jobs.html",
        page=page,
        given=given,
        total=_total(wanted),
        first=cursor is None,
        older=url_for("pages.jobs", **given, cursor=page.cursor) if page.cursor else None,
        further=page.looked_at == MOST_LOOKED_AT,
        states=list(JobState),
        operations=sorted(chosen().operations),
        narrow=bool(set(given) - {"since", "until"}),
        may_end=bool(wanted.states & UNSETTLED),
        may_retry=bool(wanted.states & LOST),
    )


def read_filter() -> Filter:
    """Read the filter from the URL; a visitor with a tenant gets no other one.

    Raises InvalidRequest.
    """
    given = given_filter()
    state = given.get("state")
    if state is not None and state not in set(JobState):
        raise InvalidRequest(f"there is no such state; there are: {', '.join(JobState)}")
    return Filter(
        state=JobState(state) if state else None,
        operation=given.get("operation"),
        tenant=visitor().tenant or given.get("tenant"),
        batch=given.get("batch"),
        error=given.get("error"),
        since=read_time("since", given.get("since")),
        until=read_time("until", given.get("until")),
    )


def given_filter() -> dict[str, Any]:
    """Return what the URL says of a filter, as it is written there."""
    return {name: value for name in _FIELDS if (value := request.args.get(name, "").strip())}


def read_time(name: str, text: str | None) -> float | None:
    """Read a time of a filter.

    Raises InvalidRequest.
    """
    if text is None:
        return None
    try:
        at = datetime.fromisoformat(text)
        # In UTC it may be before the first year or after the last one: then it is no time.
        return (at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()
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
