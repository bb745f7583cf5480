"""The page: what people see of Fermata, drawn on the server.

Every screen is a URL that works without JavaScript. ``standing`` shows the whole, ``jobs`` lists,
``job`` shows one job and its flow, ``song`` plays what they made; ``matching`` changes all that
match; ``batches``, ``manifest``, ``schedules``, ``deliveries`` and ``trial`` are the other screens.
Each reads through the parts of the desk and fills a template; ``wording`` says how a number or a
time is written, ``drawing/`` where the marks of a picture go. What changes something is a form that
is posted, with a CSRF token.

What a visitor with a tenant may see is decided where the API decides it (``desk/api/``). The
screens about all tenants together are answered 403, and no link leads there.
"""

from typing import Any, Final

from flask import Blueprint, g, url_for
from flask.sansio.blueprints import BlueprintSetupState

from desk.doors import Role
from desk.pages import wording
from desk.parts import now
from desk.problems import page
from worker.core import amounts
from worker.core.errors import FermataError, InvalidRequest, UnknownBatch, UnknownJob
from worker.core.job.states import JobState
from worker.core.overview import Row
from worker.core.providers import chosen
from worker.store.connection import StoreUnavailable

pages = Blueprint("pages", __name__, template_folder="../templates")

_OF_ALL: Final = (
    ("Now", "pages.standing"),
    ("Jobs", "pages.jobs"),
    ("Batches", "pages.batches"),
    ("Deliveries", "pages.deliveries"),
    ("Gate", "pages.gate"),
    ("Schedules", "pages.schedules"),
    ("Try", "pages.trial"),
)
_NAMES_OF_A_TENANT: Final = {"Jobs", "Batches", "Deliveries", "Try"}
_OF_A_TENANT: Final = tuple(each for each in _OF_ALL if each[0] in _NAMES_OF_A_TENANT)

_STATUS: Final[dict[type[FermataError], int]] = {
    UnknownJob: 404,
    UnknownBatch: 404,
    InvalidRequest: 400,
}


@pages.record_once
def _teach_words(setup: BlueprintSetupState) -> None:
    """Let templates say things; a macro that is imported knows only what is global."""
    setup.app.jinja_env.globals.update(
        Role=Role,
        about=amounts.about,
        ago=lambda at: wording.ago(at, now=now()),
        breakable=wording.breakable,
        count=amounts.count,
        day=wording.day,
        document=wording.document,
        duration=amounts.duration,
        makes_music=_makes_music,
        mark=wording.mark,
        moment=wording.moment,
        number=amounts.number,
    )


def _makes_music(row: Row) -> bool:
    """Say whether a job in a list has made something to hear."""
    operation = chosen().operations.get(row.operation)
    return row.state is JobState.SUCCEEDED and operation is not None and operation.makes_music


@pages.app_context_processor
def _around() -> dict[str, Any]:
    who = g.get("visitor")
    screens = () if who is None else _OF_ALL if who.tenant is None else _OF_A_TENANT
    return {"visitor": who, "screens": [(name, url_for(at)) for name, at in screens]}


@pages.errorhandler(FermataError)
def _refused(error: FermataError) -> tuple[str, int]:
    found = (status for kind, status in _STATUS.items() if isinstance(error, kind))
    return page(error.message, next(found, 500))


@pages.errorhandler(StoreUnavailable)
def _away(error: Exception) -> tuple[str, int]:
    return page("Redis cannot be reached, or does not write. This page needs nothing else.", 503)


def register() -> Blueprint:
    """Return the blueprint with all its screens."""
    from desk.pages import (  # noqa: F401, PLC0415
        batches,
        deliveries,
        job,
        jobs,
        manifest,
        matching,
        schedules,
        song,
        standing,
        trial,
    )

    return pages
