"""Liveness: ``GET /healthz`` says that the desk answers, and nothing else, to everybody."""

from flask import Blueprint
from flask.typing import ResponseReturnValue

blueprint = Blueprint("health", __name__)


@blueprint.get("/healthz")
def healthz() -> ResponseReturnValue:
    """Answer 204. ``curl localhost:8002/healthz``"""
    return "", 204
