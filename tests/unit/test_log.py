"""What the logs must never hold."""

import io
import logging
from dataclasses import replace

import pytest
import structlog

from worker import log
from worker.settings import Role, load

SECRET = "sk_very_secret_0123456789"


@pytest.mark.parametrize("log_format", ["console", "json"])
def test_a_traceback_shows_no_local_variables(
    log_format: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FERMATA_REDIS_URL", "redis://127.0.0.1:1/0")
    root = logging.getLogger()
    before = root.handlers, root.level
    written = io.StringIO()
    try:
        log.configure(replace(load(Role.CLIENT), log_format=log_format))
        handler = root.handlers[0]
        assert isinstance(handler, logging.StreamHandler)
        handler.setStream(written)
        _fail_with(SECRET)
    finally:
        root.handlers, root.level = before
        structlog.reset_defaults()
    assert "boom" in written.getvalue()
    assert SECRET not in written.getvalue()


def _fail_with(api_key: str) -> None:
    headers = {"Authorization": f"Bearer {api_key}"}
    try:
        raise ValueError("boom" if headers else "")
    except ValueError:
        structlog.get_logger().exception("it_failed")
        logging.getLogger("celery").exception("it failed")
