"""Song: hear the takes, the stems and the notes of a song, and take its files home.

Everything plays without JavaScript, each track by itself. The script (``static/song.js``) plays
them in step; it fetches the notes and the words in time from the API, so the page itself is small.
"""

from dataclasses import dataclass
from typing import Final

from flask import flash, redirect, render_template, request, url_for
from werkzeug.wrappers import Response

from desk.api import song
from desk.api.jobs import visible
from desk.api.song import Found
from desk.doors import Role, requires, visitor
from desk.pages import pages, wording
from worker.core import amounts
from worker.core.errors import InvalidRequest
from worker.core.song import MOST_LYRICS, File, Song, Track

MOST_FILES: Final = 50
"""So many files are listed; the ZIP has all that are in the archive."""


@dataclass(frozen=True, slots=True)
class Shown:
    """A track on the page."""

    track: Track
    here: str | None
    """The address of its copy in the archive."""
    link: str | None
    """The provider's link, if it is one."""

    @property
    def address(self) -> str | None:
        return self.here or self.link


@dataclass(frozen=True, slots=True)
class Listed:
    """A file on the page."""

    file: File
    here: str | None
    link: str | None
    size: int | None


@pages.get("/jobs/<job_id>/song")
def song_of(job_id: str) -> str:
    """Play the song of a job: ``GET /jobs/4f3c…/song``."""
    found = song.find(visible(job_id))
    groups = {"take": found.song.takes, "stem": found.song.stems}
    tracks = {group: [_shown(found, each) for each in of] for group, of in groups.items()}
    return render_template(
        "song.html",
        job_id=job_id,
        found=found,
        song=found.song,
        lyrics=found.song.lyrics or _sung(found.song),
        tracks=tracks,
        of_the_provider=any(not each.here for of in tracks.values() for each in of),
        files=[_listed(found, each) for each in found.song.files[:MOST_FILES]],
        bytes=sum(file.bytes for file in found.files),
        may_archive=visitor().may(Role.ENQUEUE) and bool(found.to_archive),
        archiving="archiving" in request.args and bool(found.to_archive),
    )


@pages.post("/jobs/<job_id>/song/archive")
@requires(Role.ENQUEUE)
def archive_song(job_id: str) -> Response:
    """Store all files of a song that the archive does not have."""
    try:
        jobs = song.archive_all(song.find(visible(job_id)))
        sent = f"Workers store the files of {amounts.count(len(jobs), 'job')} now."
        flash(sent if jobs else "The archive has all files of this song.")
    except InvalidRequest as error:
        flash(f"Nothing to archive: {error.message}.")
    return redirect(url_for("pages.song_of", job_id=job_id, archiving="yes"))


def _sung(song: Song) -> str:
    return " ".join(each.word for each in song.words)[:MOST_LYRICS]


def _shown(found: Found, track: Track) -> Shown:
    here = found.address_of(track.job_id, track.url)
    return Shown(track, here, wording.link(track.url))


def _listed(found: Found, file: File) -> Listed:
    stored = found.stored.get((file.job_id, file.url))
    here = found.address_of(file.job_id, file.url)
    return Listed(file, here, wording.link(file.url), stored.bytes if stored else None)
