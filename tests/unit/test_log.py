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
from pathlib import Path
from typing import Any

import pytest
import structlog
from celery.concurrency.base import BasePool
from redis.exceptions import NoPermissionError

import worker
from tests.traced import in_memory
from worker import log, tracing
from worker.core.wording import told
from worker.engine.receive import Receipt
from worker.settings import Role, load

ROOT = Path(__file__).parent.parent.parent
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


@pytest.mark.parametrize("log_format", ["console", "json"])
def test_a_word_of_ours_is_logged_as_the_word_it_is(
    log_format: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with logs(monkeypatch, log_format=log_format) as written:
        structlog.get_logger().info("delivery_received", receipt=Receipt.WITHOUT_EFFECT)
    assert "without effect" in written.getvalue()
    assert "Receipt" not in written.getvalue()


@pytest.mark.parametrize("log_format", ["console", "json"])
def test_a_line_names_the_trace_that_it_was_written_in(
    log_format: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with logs(monkeypatch, log_format=log_format) as written, in_memory():
        logging.getLogger("celery").warning("outside")
        with tracing.root("a leg"):
            trace_id = tracing.trace_id()
            structlog.get_logger().info("job_submitted")
            logging.getLogger("celery").warning("inside")
    outside, submitted, inside = written.getvalue().splitlines()
    assert "trace_id" not in outside
    assert trace_id in submitted
    assert trace_id in inside


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


DENIED = NoPermissionError("User me has no permissions to run the 'hset' command")


@pytest.mark.parametrize("log_format", ["console", "json"])
def test_a_librarys_line_repeats_what_redis_said(
    log_format: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "hset" not in repr(DENIED)  # which is what Celery logs
    with logs(monkeypatch, log_format=log_format) as written:
        logging.getLogger("celery").warning("%s (%r)", "Connection to broker lost", DENIED)
        logging.getLogger("celery").warning("Cannot connect: %s", DENIED)
    assert f"Connection to broker lost (NoPermissionError: {DENIED})" in written.getvalue()
    assert f"Cannot connect: {DENIED}" in written.getvalue()


def test_an_error_is_told_with_its_own_text_if_it_has_one() -> None:
    assert told(DENIED) == f"NoPermissionError: {DENIED}"
    assert told(TimeoutError()) == "TimeoutError"


@pytest.mark.parametrize("package", ["worker", "webhook_receiver", "tasks"])
def test_no_error_is_logged_by_its_repr(package: str) -> None:
    sources = {path: path.read_text() for path in (ROOT / package).rglob("*.py")}
    assert [path for path, text in sources.items() if "=repr(error)" in text] == []


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
