"""The provider's door: ``POST /webhooks/<provider>/<job_id>``."""

import structlog
from flask import Blueprint, current_app, request
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import BadRequest, HTTPException, RequestEntityTooLarge

from worker import tracing
from worker.core.contract import JOB_ID
from worker.core.errors import InvalidSignature
from worker.core.job.models import JobId
from worker.core.providers import chosen
from worker.core.wording import told
from worker.engine.receive import Deliveries
from worker.store.connection import StoreUnavailable

log = structlog.get_logger()
blueprint = Blueprint("callbacks", __name__)


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
        receipt = deliveries.receive(JobId(job_id), dict(request.headers), raw)
        log.info("delivery_received", job_id=job_id, receipt=receipt)
    return {"status": receipt}


def _read_body() -> bytes:
    try:
        raw = request.get_data(cache=False)
    except HTTPException:
        raise
    except Exception as error:
        # gunicorn's own errors, for broken framing or a client that went away: no fault of ours.
        log.warning("delivery_unreadable", path=request.path, error=type(error).__name__)
        raise BadRequest from None
    # A body that is shorter than announced: the client hung up, or server.py has cut it off.
    if len(raw) < (request.content_length or 0):
        raise BadRequest
    # Werkzeug cuts a body without a length at the limit, and says nothing.
    if request.content_length is None and len(raw) >= current_app.config["MAX_CONTENT_LENGTH"]:
        raise RequestEntityTooLarge
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
