"""Liveness: ``GET /healthz`` says whether a delivery could be stored now."""

from flask import Blueprint, current_app
from flask.typing import ResponseReturnValue

from worker.connection import StoreUnavailable
from worker.store import Store

blueprint = Blueprint("health", __name__)


@blueprint.get("/healthz")
def healthz() -> ResponseReturnValue:
    """Answer 200, or 503 where Redis is away or will not write. ``curl localhost:8000/healthz``"""
    store: Store = current_app.extensions["store"]
    try:
        store.check()
    except StoreUnavailable:
        return {"status": "redis is away"}, 503
    return {"status": "ok"}
