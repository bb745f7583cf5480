"""The files of a job in the archive: have them stored, list them, download one."""

import unicodedata
from typing import Any, Final
from urllib.parse import quote

from flask import Response, request
from flask_smorest import Blueprint
from werkzeug.exceptions import RequestedRangeNotSatisfiable
from werkzeug.wsgi import FileWrapper

from desk import places
from desk.api import schemas
from desk.api.jobs import visible
from desk.doors import Role, requires
from desk.parts import desk
from desk.problems import Problem
from worker.archive.stored import CHUNK_BYTES
from worker.core.errors import InvalidRequest

blueprint = Blueprint("files", __name__, description=__doc__)

_BINARY: Final = {"type": "string", "format": "binary"}


@blueprint.get("/jobs/<job_id>/files")
@blueprint.doc(operationId="listFiles")
@blueprint.response(200, schemas.Files)
def listed(job_id: str) -> Any:
    """List what the archive has of a job."""
    return {"items": desk().archive.files(visible(job_id).job_id)}


@blueprint.get("/jobs/<job_id>/files/<path:name>")
@blueprint.doc(operationId="downloadFile")
@blueprint.response(200, _BINARY, content_type="*/*")
@blueprint.alt_response(206, schema=_BINARY, content_type="*/*")
def one(job_id: str, name: str) -> Response:
    """Download a file, or the `Range` of it that is asked for; a file that is not there is 404.

    `If-Range` and `If-None-Match` take its `ETag`.
    """
    archive, record = desk().archive, visible(job_id)
    found = archive.find(record.job_id, name)
    if found is None:
        raise Problem(404, "The archive has no such file of this job.")
    file = archive.open(found)
    response = Response(FileWrapper(file, CHUNK_BYTES), content_type=found.media_type)
    response.call_on_close(file.close)
    response.content_length = found.bytes
    response.set_etag(found.sha256)
    # A cover may be an SVG, which is a page of its own if a browser shows it.
    name_as(response, found.name.rpartition("/")[2])
    try:
        response.make_conditional(request, accept_ranges=True, complete_length=found.bytes)
    except RequestedRangeNotSatisfiable:
        response.close()
        raise
    return places.hold(response)


@blueprint.post("/jobs/<job_id>/archive")
@requires(Role.ENQUEUE)
@blueprint.doc(operationId="archiveJob")
@blueprint.response(202, schemas.Archiving, headers={"Location": {"schema": {"type": "string"}}})
def archive(job_id: str) -> Any:
    """Store the files that a job's result links to; a worker does it, and it is harmless twice.

    409 if it links to none.
    """
    record = visible(job_id)
    try:
        desk().to_archive(record)
    except InvalidRequest as error:
        raise Problem(409, error.message) from None
    return {"job_id": job_id}, {"Location": f"/api/v1/jobs/{job_id}/files"}


def name_as(response: Response, name: str) -> None:
    """Have a browser keep an answer as a file of some name; a header takes no other than ASCII."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    more = {} if plain == name else {"filename*": f"UTF-8''{quote(name, safe='')}"}
    response.headers.set("Content-Disposition", "attachment", filename=plain, **more)
