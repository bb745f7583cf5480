"""A song, and what its flow made of it: takes, stems, notes, words, and all files as one ZIP."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import PurePath
from typing import Any, Final
from urllib.parse import quote

from flask import Response
from flask_smorest import Blueprint

from desk import places
from desk.api import schemas
from desk.api.files import name_as
from desk.api.flows import look_around, seen
from desk.api.jobs import visible
from desk.doors import Role, requires
from desk.parts import desk
from desk.problems import Problem
from worker.core import song
from worker.core.archive.links import StoredFile, copies
from worker.core.archive.names import file_name, unique
from worker.core.errors import FermataError, InvalidRequest
from worker.core.job.models import JobId, JobRecord, JSONObject
from worker.core.song import Part, Song, Track
from worker.messages.watch import Sight

blueprint = Blueprint("song", __name__, description=__doc__)

_BINARY: Final = {"type": "string", "format": "binary"}


@dataclass(frozen=True, slots=True)
class Found:
    """A song, and which of its files are in the archive."""

    job_id: JobId
    """The job that made its takes."""
    song: Song
    files: list[StoredFile]
    """All that the archive has of its jobs."""
    stored: dict[tuple[JobId, str], StoredFile]
    """Those that are copies of what a link of the song leads to, by job and link."""
    unread: str = ""
    """Why the archive could not be read."""

    @property
    def to_archive(self) -> list[JobId]:
        """The jobs that have a file which the archive does not have."""
        linked = ((each.job_id, each.url) for each in self.song.files)
        return [*dict.fromkeys(each[0] for each in linked if each not in self.stored)]

    def address_of(self, job_id: JobId, url: str) -> str | None:
        """Return the address here of the copy of what a link leads to."""
        file = self.stored.get((job_id, url))
        return address(job_id, file) if file else None


def address(job_id: JobId, file: StoredFile) -> str:
    """Return the address here of a file in the archive."""
    return f"/api/v1/jobs/{job_id}/files/{quote(file.name)}"


def find(record: JobRecord) -> Found:
    """Gather the song that a job is about from its flow and from the archive."""
    sights = list(seen(look_around(record, "clip_id", "result")))
    flow = {part.job_id: part for part in _parts(sights)}
    flow.setdefault(record.job_id, _part(record, record.after))  # it failed, and runs again
    parts = song.parts_of_song(record.job_id, list(flow.values()))
    found, unread = song.read_song(parts), ""
    jobs = dict.fromkeys([parts[0].job_id, *(file.job_id for file in found.files)])
    files: list[StoredFile] = []
    stored: dict[tuple[JobId, str], StoredFile] = {}
    try:
        for job_id in jobs:
            kept = desk().archive.files(job_id)
            files += kept
            linked = [file for file in found.files if file.job_id == job_id]
            stored |= {(job_id, url): copy for url, copy in copies(linked, kept).items()}
    except FermataError as error:
        unread = error.message
    return Found(parts[0].job_id, found, files, stored, unread)


def _parts(sights: list[Sight]) -> Iterator[Part]:
    """Yield the jobs that have a result. One that was retried follows as the first one did."""
    now_as = {each.step.job_id: each.record.job_id for each in sights if each.record}
    for each in sights:
        if record := each.record:
            yield _part(record, now_as.get(each.step.after or JobId("")))


def _part(record: JobRecord, after: JobId | None) -> Part:
    return Part(record.job_id, record.operation, after, record.clip_id, record.result or {})


@blueprint.get("/jobs/<job_id>/song")
@blueprint.doc(operationId="getSong")
@blueprint.response(200, schemas.Song)
def one(job_id: str) -> Any:
    """See what can be heard of a job's song: takes, stems, notes, and words in time.

    It is found from each job of its flow. `stored` is the address of a file in the archive.
    """
    found = find(visible(job_id))
    return asdict(found.song) | {
        "takes": [_told(found, each) for each in found.song.takes],
        "stems": [_told(found, each) for each in found.song.stems],
    }


def _told(found: Found, track: Track) -> JSONObject:
    return asdict(track) | {"stored": found.address_of(track.job_id, track.url)}


@blueprint.get("/jobs/<job_id>/song.zip")
@blueprint.doc(operationId="downloadSong")
@blueprint.response(200, _BINARY, content_type="application/zip")
def zipped(job_id: str) -> Response:
    """Download all that the archive has of a song, as one ZIP file."""
    found = find(visible(job_id))
    if not found.files:
        raise Problem(404, found.unread or "The archive has nothing of this song.")
    response = Response(desk().archive.zipped(_named(found)), content_type="application/zip")
    name = file_name(found.song.title or found.job_id, ext=".zip")
    name_as(response, name)
    return places.hold(response)


def _named(found: Found) -> Iterator[tuple[str, StoredFile]]:
    """Name the files of a song as its page does: by the take or stem, and by what each is."""
    told = {(file.job_id, file.url): file for file in found.song.files}
    shown = {copy.name: told[at] for at, copy in found.stored.items()}
    names = (
        file_name(said.of, said.kind, ext=PurePath(each.name).suffix)
        if (said := shown.get(each.name))
        else PurePath(each.name).name  # it is of an earlier result
        for each in found.files
    )
    return zip(unique(names), found.files, strict=True)


@blueprint.post("/jobs/<job_id>/song/archive")
@requires(Role.ENQUEUE)
@blueprint.doc(operationId="archiveSong")
@blueprint.response(202, schemas.SongSent, headers={"Location": {"schema": {"type": "string"}}})
def archive(job_id: str) -> Any:
    """Store all files of a song that the archive does not have; it is harmless twice.

    Workers do it, job by job. 409 if no job of the song links to a file.
    """
    try:
        jobs = archive_all(find(visible(job_id)))
    except InvalidRequest as error:
        raise Problem(409, error.message) from None
    return {"jobs": jobs}, {"Location": f"/api/v1/jobs/{job_id}/song"}


def archive_all(found: Found) -> list[JobId]:
    """Send each job of a song to the archive that has a file left; returns their ids.

    Raises InvalidRequest if the song has no file at all.
    """
    if not found.song.files:
        raise InvalidRequest("no job of this song has a result that links to a file")
    records = desk().readings.read_those(found.to_archive)
    for record in records:
        desk().to_archive(record)
    return [record.job_id for record in records]
