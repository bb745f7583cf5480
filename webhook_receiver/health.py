"""Liveness: ``GET /healthz`` says whether a delivery could be stored now."""

import structlog
from flask import Blueprint, current_app
from flask.typing import ResponseReturnValue
from redis import Redis

from worker.core.wording import told
from worker.store.connection import StoreUnavailable, check

log = structlog.get_logger()
blueprint = Blueprint("health", __name__)


@blueprint.get("/healthz")
def healthz() -> ResponseReturnValue:
    """Answer 200, or 503 if Redis is away or refuses writes. ``curl localhost:8000/healthz``"""
    redis: Redis = current_app.extensions["redis"]
    try:
        check(redis)
    except StoreUnavailable as error:
        log.error("state_unavailable", error=told(error))
        return {"status": "redis is away"}, 503
    return {"status": "ok"}
