"""Song: hear the takes, the stems and the notes of a song, and take its files home.

Everything plays without JavaScript, each track by itself. The script (``static/song.js``) plays
them in step; it fetches the notes and the words in time from the API, so the page itself is small.
"""

from dataclasses import dataclass
from typing import Final

from flask import render_template

from desk.api import song
from desk.api.jobs import visible
from desk.api.song import Found
from desk.pages import pages, wording
from worker.core.song import File, Track

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
        tracks=tracks,
        of_the_provider=any(not each.here for of in tracks.values() for each in of),
        files=[_listed(found, each) for each in found.song.files[:MOST_FILES]],
        bytes=sum(file.bytes for file in found.files),
    )


def _shown(found: Found, track: Track) -> Shown:
    here = found.address_of(track.job_id, track.url)
    return Shown(track, here, wording.link(track.url))


def _listed(found: Found, file: File) -> Listed:
    stored = found.stored.get((file.job_id, file.url))
    here = found.address_of(file.job_id, file.url)
    return Listed(file, here, wording.link(file.url), stored.bytes if stored else None)
