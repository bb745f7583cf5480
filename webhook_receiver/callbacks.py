"""The provider's door: ``POST /webhooks/<provider>/<job_id>``."""

import json
from collections.abc import Mapping
from typing import IO, Final, cast

import structlog
from flask import Blueprint, Response, current_app, request
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import BadRequest, HTTPException, RequestEntityTooLarge

from worker import tracing
from worker.core.contract import JOB_ID
from worker.core.errors import InvalidSignature
from worker.core.job.models import JobId
from worker.core.providers import chosen
from worker.core.wording import told
from worker.engine.receive import Deliveries, Receipt
from worker.store.connection import StoreUnavailable

log = structlog.get_logger()
blueprint = Blueprint("callbacks", __name__)

_ANSWERS: Final = {receipt: json.dumps({"status": receipt}) for receipt in Receipt}


@blueprint.post(f"/webhooks/{chosen().name}/<job_id>")
def receive(job_id: str) -> ResponseReturnValue:
    """Accept a delivery: raw bytes, signature, schema, claim, 200.

    ``curl -X POST -H "X-Webhook-Signature: sha256=…" … /webhooks/aimusic/<job_id>``
    """
    if not JOB_ID.fullmatch(job_id):
        return {"error": "unknown job"}, 404
    deliveries: Deliveries = current_app.extensions["deliveries"]
    raw = _read_body()
    with tracing.request("webhook", job_id=job_id):
        receipt = deliveries.receive(JobId(job_id), _headers(), raw)
        log.info("delivery_received", job_id=job_id, receipt=receipt)
    return Response(_ANSWERS[receipt], content_type="application/json")


def _headers() -> Mapping[str, str]:
    # Werkzeug looks names up in the environment: a dict of all headers costs more than our few.
    return cast("Mapping[str, str]", request.headers)


def _read_body() -> bytes:
    length, limit = request.content_length, current_app.config["MAX_CONTENT_LENGTH"]
    if length is not None and length > limit:
        raise RequestEntityTooLarge
    try:
        if length is None:
            raw = request.get_data(cache=False)
        else:
            # The server's own stream: Werkzeug's guard would fill two buffers of 64 KB for a body.
            raw = _read(request.environ["wsgi.input"], length)
    except HTTPException:
        raise
    except Exception as error:
        # gunicorn's own errors, for broken framing or a client that went away: no fault of ours.
        log.warning("delivery_unreadable", path=request.path, error=type(error).__name__)
        raise BadRequest from None
    # A body that is shorter than announced: the client hung up, or server.py has cut it off.
    if len(raw) < (length or 0):
        raise BadRequest
    # Werkzeug cuts a body without a length at the limit, and says nothing.
    if length is None and len(raw) >= limit:
        raise RequestEntityTooLarge
    return raw


def _read(stream: IO[bytes], length: int) -> bytes:
    raw = stream.read(length)
    # gunicorn hands out all at once; a server may hand out what has come.
    while len(raw) < length and (more := stream.read(length - len(raw))):
        raw += more
    return raw


@blueprint.errorhandler(InvalidSignature)
def _forged(error: InvalidSignature) -> ResponseReturnValue:
    log.warning("delivery_refused", path=request.path, why=error.message)
    return {"error": "invalid signature"}, 401


@blueprint.errorhandler(StoreUnavailable)
def _unavailable(error: Exception) -> ResponseReturnValue:
    # The delivery may not be stored, so the provider should send it again. Twice does no harm.
    log.error("state_unavailable", error=told(error))
    return {"error": "try again"}, 503, {"Retry-After": "5"}
