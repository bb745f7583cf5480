"""What the logs must never hold."""

import contextlib
import importlib
import io
import logging
import pkgutil
import re
import sys
from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from typing import Any

import pytest
import structlog
from celery.concurrency.base import BasePool

import worker
from worker import log
from worker.settings import Role, load

SECRET = "sk_very_secret_0123456789"


@pytest.mark.parametrize("log_format", ["console", "json"])
def test_a_traceback_shows_no_local_variables(
    log_format: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with logs(monkeypatch, log_format=log_format) as written:
        _fail_with(SECRET)
    assert "boom" in written.getvalue()
    assert SECRET not in written.getvalue()


def test_a_log_at_debug_shows_no_arguments_of_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    with logs(monkeypatch, log_level="DEBUG") as written:
        logging.getLogger("fermata").debug("boom")
        BasePool().apply_async(print, (SECRET,))
    assert "boom" in written.getvalue()
    assert SECRET not in written.getvalue()


SECRETS = re.compile("secret|signing_key|api_key|password|credentials|redis_url|broker|backend")


def dataclasses_of_ours() -> set[type]:
    for module in pkgutil.walk_packages(worker.__path__, "worker."):
        if module.name not in {"worker.__main__", "worker.app"}:
            importlib.import_module(module.name)
    ours = [m for name, m in list(sys.modules.items()) if name.startswith("worker.")]
    found = [each for module in ours for each in vars(module).values()]
    return {each for each in found if isinstance(each, type) and is_dataclass(each)}


def test_no_dataclass_shows_a_secret_when_it_is_printed() -> None:
    held = [(each, f) for each in dataclasses_of_ours() for f in fields(each)]
    secrets = [(each, f) for each, f in held if SECRETS.search(f.name)]
    assert {each.__name__ for each, _ in secrets} >= {"Callbacks", "Settings", "Webhook"}
    assert [(each, f.name) for each, f in secrets if f.repr] == []


@contextlib.contextmanager
def logs(monkeypatch: pytest.MonkeyPatch, **settings: Any) -> Iterator[io.StringIO]:
    """What is logged meanwhile, with these settings."""
    monkeypatch.setenv("FERMATA_REDIS_URL", "redis://127.0.0.1:1/0")
    root = logging.getLogger()
    before = root.handlers, root.level
    written = io.StringIO()
    try:
        log.configure(replace(load(Role.CLIENT), **settings))
        handler = root.handlers[0]
        assert isinstance(handler, logging.StreamHandler)
        handler.setStream(written)
        yield written
    finally:
        root.handlers, root.level = before
        structlog.reset_defaults()


def _fail_with(api_key: str) -> None:
    headers = {"Authorization": f"Bearer {api_key}"}
    try:
        raise ValueError("boom" if headers else "")
    except ValueError:
        structlog.get_logger().exception("it_failed")
        logging.getLogger("celery").exception("it failed")
