"""What the logs must never hold."""

import contextlib
import importlib
import io
import logging
import pkgutil
import re
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import structlog
from celery.concurrency.base import BasePool
from hypothesis import given
from hypothesis import strategies as st
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


FIELDS = st.dictionaries(
    st.from_regex(r"[a-z_]{1,8}", fullmatch=True),
    st.text()
    | st.integers()
    | st.floats()
    | st.none()
    | st.sampled_from(Receipt)
    | st.lists(st.text()),
)


@given(fields=FIELDS, event=st.text())
def test_a_line_for_the_console_is_structlogs_own(fields: dict[str, Any], event: str) -> None:
    fields |= {"timestamp": "2026-11-30T08:51:06.591484Z", "level": "info", "event": event}
    theirs = structlog.dev.ConsoleRenderer(colors=False)
    assert log._as_line(None, "info", dict(fields)) == theirs(None, "info", dict(fields))


class Listener(logging.Handler):
    """Another handler that somebody has added, and what it hears."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


@pytest.mark.parametrize("log_format", ["console", "json"])
@pytest.mark.parametrize("error", [None, ValueError("boom")])
def test_an_ordinary_line_is_as_logging_writes_it_and_only_a_warning_is_heard_there(
    log_format: str, error: Exception | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    fields = {"receipt": Receipt.LATE, "why": "a b", "exc_info": error}
    listener = Listener()
    with logs(monkeypatch, log_format=log_format) as written:
        logging.getLogger().addHandler(listener)
        structlog.get_logger().info("delivery_received", **fields)
        ordinary = written.getvalue()
        structlog.get_logger().warning("delivery_received", **fields)
        warning = written.getvalue().removeprefix(ordinary)
    assert [(each.name, each.levelname) for each in listener.records] == [(__name__, "WARNING")]
    same = re.compile(r"20\S+Z|warning|info(?:   )?")
    assert same.sub("", ordinary) == same.sub("", warning)


def test_a_line_below_the_level_is_not_written(monkeypatch: pytest.MonkeyPatch) -> None:
    with logs(monkeypatch, log_level="WARNING") as written:
        structlog.get_logger().info("delivery_received")
        structlog.get_logger().warning("delivery_quarantined")
    assert "received" not in written.getvalue()
    assert "quarantined" in written.getvalue()


def test_a_log_that_cannot_be_written_stops_nobody(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with logs(monkeypatch) as written:
        written.close()
        structlog.get_logger().info("delivery_received")
    assert "--- Logging error ---" in capsys.readouterr().err


def test_lines_of_several_threads_stay_whole(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    words = [letter * 5000 for letter in "abcd"]

    def talk(word: str) -> None:
        for _ in range(200):
            structlog.get_logger().info(word)
            logging.getLogger("celery").warning(word)

    with (tmp_path / "log").open("w+") as file, logs(monkeypatch):
        logging.getLogger().handlers[0].setStream(file)  # type: ignore[attr-defined]
        with ThreadPoolExecutor() as threads:
            list(threads.map(talk, words))
        file.seek(0)
        assert {line.split()[-1] for line in file} == set(words)


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
