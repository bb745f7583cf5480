"""Job and Flow: what became of one job, and the canvas it is part of.

The request of a job is read from its parked message. A job that has succeeded needs it no more; one
that failed keeps it, for it may be retried.
"""

import json
import zlib
from typing import Any, Final

from flask import abort, flash, redirect, render_template, request, url_for
from markupsafe import Markup
from werkzeug.wrappers import Response

from desk.api import song
from desk.api.flows import look_around, seen
from desk.api.jobs import by, visible
from desk.doors import Role, requires, visitor
from desk.pages import pages, wording
from desk.pages.drawing import bars, canvas
from desk.parts import desk, now
from worker.core import amounts
from worker.core.archive.links import StoredFile, copies, find_links
from worker.core.errors import FermataError, InvalidRequest
from worker.core.job import kept
from worker.core.job.models import JobId, JobRecord, JSONObject
from worker.core.job.states import LOST, UNSETTLED, JobState
from worker.core.providers import chosen
from worker.engine.cancel import Cancellation
from worker.engine.describe import read_late
from worker.messages import watch
from worker.messages.archiving import has_files
from worker.messages.watch import Sight

NEIGHBOURS: Final = 12
"""So many jobs of its flow are listed on a job's page; the flow's own page shows all."""

MOST_LISTED: Final = 150
"""So many jobs of a flow are listed below its drawing, those first that have not succeeded."""

MOST_FILES: Final = 50
"""So many files of a result are listed besides its clips."""

_CANCELLED: Final = {
    Cancellation.ENDING: "The job ends now.",
    Cancellation.WAITING: "There is no record of the job. Should a worker begin it, it ends then.",
    Cancellation.TOO_LATE: "Too late: the job has ended, or its result is here already.",
}


@pages.get("/jobs/<job_id>")
def job(job_id: str) -> str:
    """Show one job: ``GET /jobs/4f3c…``."""
    record = visible(job_id)
    late = read_late(record, chosen()) if record.late else None
    sights = _sights(record)
    links, stored = find_links(record.result or {}), _stored(record)
    left = [each for each in links if each.url not in stored]
    return render_template(
        "job.html",
        row=desk().lists.rows([record.job_id])[0],
        record=record,
        tracks=bars.tracks(record, now=now()),
        asked=_asked(record.job_id),
        found_clips=(found := _clips(record.result)),
        audible=any(clip["audio"] for clip in found),
        files=_files(record, found, stored),
        # An archive on another machine is not asked: the page would wait for it.
        archived=bool(links) and not left,
        archiving=bool(left) and "archiving" in request.args and desk().archive.is_near(),
        data=wording.hide((record.result or {}).get("data")),
        progress=wording.hide(record.progress),
        late=late,
        late_clips=_clips((late or {}).get("result")),
        sights=[] if len(sights) < 2 else sights[:NEIGHBOURS],
        in_flow=_jobs(sights),
        **_actions(record, has_left=bool(left)),
        watched=record.job_id,
    )


def _stored(record: JobRecord) -> dict[str, StoredFile]:
    """Find the copies of a job's files, by link, in an archive on this machine."""
    try:
        if not has_files(record) or not desk().archive.is_near():
            return {}
        return copies(find_links(record.result or {}), desk().archive.files(record.job_id))
    except FermataError:
        return {}  # the page of the song says why


def _files(
    record: JobRecord, clips: list[JSONObject], stored: dict[str, StoredFile]
) -> list[tuple[str, str]]:
    """List the files of a result that are no clip's: what each is, and where."""
    told = {url for clip in clips for url in clip["links"].values()}
    found = []
    for each in find_links(record.result or {}):
        copy = stored.get(each.url)
        link = song.address(record.job_id, copy) if copy else wording.link(each.url)
        if each.url not in told and link:
            found.append((_text(each.kind), link))
    return found[:MOST_FILES]


def _actions(record: JobRecord, *, has_left: bool) -> dict[str, bool]:
    """Say what can be done with a job, and whether this visitor may do it."""
    operates = visitor().may(Role.OPERATE)
    waits = record.state is JobState.WAITING and desk().polls is not None
    return {
        "may_poll": operates and waits,
        "may_retry": operates and _may_retry(record),
        "may_archive": visitor().may(Role.ENQUEUE) and has_left,
        "may_cancel": visitor().may(Role.ENQUEUE) and record.state in UNSETTLED,
    }


@pages.get("/jobs/<job_id>/flow")
def flow(job_id: str) -> str:
    """Draw the canvas that a job is part of."""
    record = visible(job_id)
    sights = _sights(record)
    return render_template(
        "flow.html",
        record=record,
        picture=canvas.draw(sights),
        sights=sights,
        jobs=_jobs(sights),
        listed=sorted(sights, key=lambda each: each.succeeded)[:MOST_LISTED],
        may_retry=any(_may_retry(each.record) for each in sights if each.record),
        cut=len(sights) >= watch.MOST_STEPS,
        most=watch.MOST_STEPS,
        watched=" ".join((s.record.job_id if s.record else s.step.job_id) for s in sights),
    )


@pages.post("/jobs/<job_id>/cancel")
@requires(Role.ENQUEUE)
def cancel_job(job_id: str) -> Response:
    """Cancel a job."""
    record = visible(job_id)
    flash(_CANCELLED[desk().cancellations.cancel(record.job_id, by=by())])
    return redirect(url_for("pages.job", job_id=job_id))


@pages.post("/jobs/<job_id>/poll")
@requires(Role.OPERATE)
def poll_job(job_id: str) -> Response:
    """Ask the provider now how a waiting job stands."""
    record = visible(job_id)
    polls = desk().polls
    if polls is None:
        abort(409, "This desk has no FERMATA_API_KEY, so it cannot ask the provider.")
    polls.poll_now(record)
    flash(_answered(visible(job_id)))
    return redirect(url_for("pages.job", job_id=job_id))


def _answered(record: JobRecord) -> str:
    """Say what a poll brought; the timeline has those alone that end a job."""
    if record.state is JobState.WAITING and record.polled:
        return f"The provider was asked. The job waits on; last poll: {record.polled}."
    return "The provider was asked. The job has what ends it: see the timeline."


@pages.post("/jobs/<job_id>/archive")
@requires(Role.ENQUEUE)
def archive_job(job_id: str) -> Response:
    """Store the files that a job's result links to."""
    record = visible(job_id)
    try:
        desk().to_archive(record)
        song = url_for("pages.song_of", job_id=job_id)
        see = Markup(' <a href="{}">The song</a> lists those that are there.').format(song)
        flash("A worker stores the files now." + see)
    except InvalidRequest as error:
        flash(f"Nothing to archive: {error.message}.")
    return redirect(url_for("pages.job", job_id=job_id, archiving="yes"))


@pages.post("/jobs/<job_id>/retry")
@requires(Role.OPERATE)
def retry_job(job_id: str) -> Response:
    """Run a failed job again; what was to follow it follows."""
    record = visible(job_id)
    try:
        again = desk().retries.retry(record.job_id, by=by(), even_if_paid=_even_if_paid())
    except InvalidRequest as error:
        flash(error.message)
        return redirect(url_for("pages.job", job_id=job_id))
    flash("It runs again already: this is the job." if record.again else "This job runs again.")
    return redirect(url_for("pages.job", job_id=again))


@pages.post("/jobs/<job_id>/flow/retry")
@requires(Role.OPERATE)
def retry_flow(job_id: str) -> Response:
    """Run again what failed of a flow, and let the rest follow."""
    record = visible(job_id)
    whole = look_around(record)
    if len(list(seen(whole))) < len(whole):
        abort(403, "Another tenant's jobs are part of this flow.")
    if not any(_may_retry(each.record) for each in whole if each.record):
        flash("Nothing is left to retry: what failed runs again already, or has run.")
        return redirect(url_for("pages.flow", job_id=job_id))
    done = desk().retries.retry_flow(record.job_id, by=by(), even_if_paid=_even_if_paid())
    failed = len(done.jobs) + len(done.refused)
    flash(f"{len(done.jobs)} of {amounts.count(failed, 'failed job')} run again.")
    for why in done.refused.values():
        flash(why)
    return redirect(url_for("pages.flow", job_id=job_id))


def _may_retry(record: JobRecord) -> bool:
    return record.state in LOST and record.again is None


def _even_if_paid() -> bool:
    return "even_if_paid" in request.form


def _jobs(sights: list[Sight]) -> int:
    """Count the steps of a flow that are jobs."""
    return sum(sight.state != watch.NO_RECORD for sight in sights)


def _sights(record: JobRecord) -> list[Sight]:
    return list(seen(look_around(record)))


def _asked(job_id: JobId) -> JSONObject | None:
    """Read the request from a job's message, without secrets; None if it is not kept any more."""
    message = desk().readings.message(job_id)
    if message is None:
        return None
    try:
        _, body = kept.unpack(message)
        args, kwargs, _ = json.loads(body)
    except (ValueError, zlib.error):
        return None
    source = {"source": args[0]} if args else {}
    hidden: JSONObject = wording.hide({**source, **kwargs})
    return hidden


def _clips(result: JSONObject | None) -> list[JSONObject]:
    """List the clips of a result: what to call each, what to play, and where its files are."""
    return [_clip(clip) for clip in (result or {}).get("clips") or () if isinstance(clip, dict)]


def _clip(clip: JSONObject) -> JSONObject:
    links = {
        name.removesuffix("_url"): link
        for name, value in clip.items()
        if name.endswith("_url") and (link := wording.link(value))
    }
    return {
        "title": _text(clip.get("stem_type") or clip.get("title") or clip.get("clip_id")),
        "clip_id": _text(clip.get("clip_id")),
        "state": _text(clip.get("state")),
        "seconds": clip.get("duration_seconds"),
        "audio": links.get("audio"),
        "cover": links.get("image"),
        "links": links,
    }


def _text(value: Any) -> str:
    return str(value or "")[:300]
