"""Schedules: when each runs next, how its last runs went, what was missed; and run it now."""

from flask import flash, redirect, render_template, url_for
from werkzeug.wrappers import Response

from desk.api.system import run_now
from desk.doors import Role, requires, system_wide
from desk.pages import pages
from desk.parts import desk
from worker.core.errors import ConfigError, InvalidRequest
from worker.core.job.models import JSONObject


@pages.get("/schedules")
@system_wide
def schedules() -> str:
    """Show the timetable and its last runs."""
    found: list[JSONObject] = []
    wrong = None
    if desk().settings.timetable is not None:
        try:
            timetable = desk().timetable
            found = [timetable.describe(each) for each in timetable.schedules.values()]
        except ConfigError as error:
            wrong = error.message
    return render_template("schedules.html", schedules=found, wrong=wrong)


@pages.post("/schedules/<schedule>/run")
@requires(Role.OPERATE)
@system_wide
def run_schedule(schedule: str) -> Response:
    """Start a run of a schedule now."""
    try:
        flash(f"{run_now(schedule)} is left to a worker. What comes of it is shown below.")
    except InvalidRequest as error:
        flash(f"Not started: {error.message}.")
    return redirect(url_for("pages.schedules"))
