"""The files of a job in the archive: list them, download one."""

from typing import Any, Final

from flask import Response, request
from flask_smorest import Blueprint
from werkzeug.exceptions import RequestedRangeNotSatisfiable
from werkzeug.wsgi import FileWrapper

from desk.api import schemas
from desk.api.jobs import visible
from desk.parts import desk
from desk.problems import Problem
from worker.archive.stored import CHUNK_BYTES

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
    response = Response(
        FileWrapper(file, CHUNK_BYTES), content_type=found.media_type, direct_passthrough=True
    )
    response.call_on_close(file.close)
    response.content_length = found.bytes
    response.set_etag(found.sha256)
    # A cover may be an SVG, which is a page of its own if a browser shows it.
    response.headers.set("Content-Disposition", "attachment", filename=_file_name(found.name))
    try:
        response.make_conditional(request, accept_ranges=True, complete_length=found.bytes)
    except RequestedRangeNotSatisfiable:
        response.close()
        raise
    return response


def _file_name(name: str) -> str:
    return name.rpartition("/")[2]
