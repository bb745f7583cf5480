"""The desk for tests: its settings, and its application with a visitor's client."""

import os
from collections.abc import Mapping
from typing import Any, Final
from unittest import mock

from flask import Flask
from flask.testing import FlaskClient

from desk.app import create_app
from tests.system import API_KEY, SIGNING_KEY
from worker.settings import Role, Settings, load

SECRETS: Final = {
    name: f"{name}-secret-0123456789abcdefghijklmnopqrstuvwxyz"
    for name in ("reader", "enqueuer", "operator", "acme", "acme-reader", "default-reader")
}
TOKENS: Final = ",".join(
    f"{name}:{role}:{SECRETS[name]}"
    for name, role in {
        "reader": "read",
        "enqueuer": "enqueue",
        "operator": "operate",
        "acme": "operate@acme",
        "acme-reader": "read@acme",
        "default-reader": "read@default",
    }.items()
)


def settings(redis_url: str, **given: str) -> Settings:
    """Read the settings of a desk on a server of tests."""
    environment = {
        "FERMATA_REDIS_URL": redis_url,
        "FERMATA_API_KEY": API_KEY,
        "FERMATA_SIGNING_KEYS": SIGNING_KEY,
        "FERMATA_DESK_TOKENS": TOKENS,
    }
    with mock.patch.dict(os.environ, environment | given, clear=True):
        return load(Role.DESK)


def build(redis_url: str, **given: str) -> Flask:
    return create_app(settings(redis_url, **given))


def bearer(name: str) -> Mapping[str, str]:
    """Return the header by which a program shows its token."""
    return {"Authorization": f"Bearer {SECRETS[name]}"}


def client(app: Flask, name: str) -> Any:
    """Open a client that shows a visitor's token with each request."""
    opened = app.test_client()
    opened.environ_base["HTTP_AUTHORIZATION"] = bearer(name)["Authorization"]
    return opened


def csrf(opened: FlaskClient) -> str:
    """Return the CSRF token of a client's session, after it has loaded the login form."""
    opened.get("/login")
    with opened.session_transaction() as session:
        token: str = session["csrf"]
    return token


def log_in(opened: FlaskClient, name: str, **fields: Any) -> Any:
    """Send the login form as a browser does."""
    form = {"token": SECRETS[name], "csrf_token": csrf(opened), **fields}
    return opened.post("/login", data=form)
