"""Logs: structlog events and the libraries' records, through one handler, on standard error.

An ordinary line of ours (``info``, ``debug``) is rendered here and written straight to the
handler's stream: each webhook and each job writes one, and the way through ``logging`` costs more
than the rest of the line. A warning or an error takes that way, for whoever else listens there.

With FERMATA_LOG_FORMAT=json every line is JSON. Text that a library prints beside its log, such as
Celery's banner, becomes a log line, and so does the reason why a process ends before it could read
its settings.
"""

import io
import json
import logging
import os
import re
import sys
import threading
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from types import TracebackType
from typing import Any, Final, TextIO

import structlog
from redis.exceptions import RedisError
from structlog.tracebacks import ExceptionDictTransformer
from structlog.typing import EventDict

from worker import tracing
from worker.core.errors import ConfigError
from worker.core.wording import told
from worker.settings import Settings, configured

# These loggers of Celery write arguments and return values of tasks, which are lyrics, prompts and
# URLs: at INFO, and that of the pool at DEBUG.
_TELLTALES: Final = (
    "celery.app.trace",
    "celery.pool",
    "celery.worker.request",
    "celery.worker.strategy",
)


def _complete(_: Any, level: str, fields: EventDict) -> EventDict:
    """Add what every line has: its level, the time, and the trace that it belongs to."""
    # A member of an enum is logged as its word: the console's renderer might show its repr.
    said = {
        name: field.value if isinstance(field, StrEnum) else field for name, field in fields.items()
    }
    if trace_id := tracing.trace_id():
        said["trace_id"] = trace_id
    said["level"], said["timestamp"] = level, _now()
    return said


def _now() -> str:
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")


_SHARED: Final[list[Any]] = [structlog.contextvars.merge_contextvars, _complete]


def configure(settings: Settings) -> None:
    """Send every log record, ours and the libraries', through one formatter."""
    rendering = _json() if settings.log_format == "json" else _console()
    handler = _handler(rendering)
    named = structlog.stdlib.LoggerFactory(ignore_frame_names=[__name__])
    structlog.configure(
        processors=[*_SHARED, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=lambda *names: _Logger(named(*names), handler, rendering),
        wrapper_class=structlog.make_filtering_bound_logger(settings.log_level),
        cache_logger_on_first_use=True,
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(settings.log_level)
    for name in _TELLTALES:
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("celery.beat").addFilter(_is_no_new_file)


def _is_no_new_file(record: logging.LogRecord) -> bool:
    """Drop beat's warning of a reset: it logs one for each new schedule file, which had nothing."""
    return not record.getMessage().startswith("DB Reset: Account for new")


class _Logger:
    """Writes an ordinary line itself, and leaves the others to a logger of the standard library.

    The line looks as that logger would write it, and the handler's lock keeps lines of several
    threads apart.
    """

    def __init__(
        self,
        named: logging.Logger,
        handler: "logging.StreamHandler[TextIO]",
        rendering: Sequence[Any],
    ) -> None:
        self._named, self._handler, self._rendering = named, handler, rendering
        self.warning, self.error, self.critical = named.warning, named.error, named.critical

    def info(self, fields: EventDict, **of_structlog: Any) -> None:
        try:
            self._write(fields)
        except Exception:  # a full disk, a reader that is gone: ``logging`` reports it, or not
            self._named.info(fields, **of_structlog)

    debug = info

    def _write(self, fields: EventDict) -> None:
        said: Any = dict(fields)
        for render in self._rendering:
            said = render(None, "info", said)
        with self._handler.lock:  # type: ignore[union-attr]
            self._handler.stream.write(f"{said}\n")
            self._handler.stream.flush()


def answer_to_a_person() -> None:
    """Send only warnings to standard error: a command's own words are its standard output."""
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


class _Retold:
    """Stands for an error of Redis in a log record: its ``repr`` has the error's own text."""

    def __init__(self, error: RedisError) -> None:
        self._error = error

    def __str__(self) -> str:
        return str(self._error)

    def __repr__(self) -> str:
        return told(self._error)


def _retell(record: logging.LogRecord) -> bool:
    if isinstance(record.args, tuple):
        record.args = tuple(
            _Retold(each) if isinstance(each, RedisError) else each for each in record.args
        )
    return True


def _handler(rendering: list[Any]) -> "logging.StreamHandler[TextIO]":
    handler = logging.StreamHandler(_original(sys.stderr))
    handler.addFilter(_retell)
    handler.setFormatter(_formatter(rendering))
    return handler


def _formatter(rendering: list[Any]) -> logging.Formatter:
    return structlog.stdlib.ProcessorFormatter(
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rendering],
        foreign_pre_chain=_SHARED,
    )


# By default, both renderers print the local variables of every frame, and among them the API key,
# a job's webhook secret and its lyrics.


def _json() -> list[Any]:
    frames = ExceptionDictTransformer(show_locals=False)
    return [structlog.processors.ExceptionRenderer(frames), structlog.processors.JSONRenderer()]


def _console() -> list[Any]:
    if sys.stderr.isatty():
        plain = structlog.dev.plain_traceback
        return [structlog.dev.ConsoleRenderer(colors=True, exception_formatter=plain)]
    return [_as_line]


_WITHOUT_COLORS: Final = structlog.dev.ConsoleRenderer(
    colors=False, exception_formatter=structlog.dev.plain_traceback
)
_BESIDE_THE_LINE: Final = frozenset({"exception", "exc_info", "stack", "logger", "logger_name"})
_needs_quotes: Final = re.compile(r"[ \t=\r\n\"']").search


def _as_line(logger: Any, method: str, fields: EventDict) -> str:
    """Render as structlog's ConsoleRenderer does without colours, in a quarter of its time."""
    if not _BESIDE_THE_LINE.isdisjoint(fields):
        return _WITHOUT_COLORS(logger, method, fields)
    begin = f"{fields.pop('timestamp')} [{fields.pop('level'):9}] {fields.pop('event')!s:30}"
    shown = (f"{name}={_shown(fields[name])}" for name in sorted(fields))
    return " ".join((begin, *shown)).rstrip(" ")


def _shown(field: Any) -> str:
    return field if isinstance(field, str) and not _needs_quotes(field) else repr(field)


# -- output beside the log --------------------------------------------------------------------


def speaks_json() -> bool:
    """Say whether logs are to be JSON, even if other settings are wrong."""
    try:
        return configured("FERMATA_LOG_FORMAT") == "json"
    except ConfigError:
        return os.environ.get("FERMATA_LOG_FORMAT") == "json"


def refuse(why: str) -> None:
    """Say why this process does not start, on standard error."""
    if speaks_json():
        _write(sys.stderr, "refuses_to_start", "critical", why=why)
    else:
        print(f"fermata: {why}", file=sys.stderr)  # noqa: T201


def taken_over() -> bool:
    """Say whether ``take_over`` has made printed text part of the log."""
    return isinstance(sys.stderr, _Printed)


def say(event: str, **fields: Any) -> None:
    """Log as JSON from a signal handler, in which the log itself cannot be used."""
    _write(sys.stderr, event, "warning", **fields)


def take_over(handlers: Iterable[logging.Handler] = ()) -> None:
    """Log as JSON all that this process prints, its warnings, and the error that ends it.

    Args:
        handlers: the handlers of a library that does not use those of the root logger.
    """
    for handler in handlers:
        handler.setFormatter(_formatter(_json()))
    root = logging.getLogger()
    root.handlers = root.handlers or [_handler(_json())]
    logging.captureWarnings(True)
    sys.excepthook = _log_the_end
    threading.excepthook = _log_the_end_of_a_thread
    sys.unraisablehook = _log_the_ignored
    for name in ("stdout", "stderr"):
        setattr(sys, name, _Printed(_original(getattr(sys, name))))
    # Celery prints its banner to these two.
    sys.__stdout__, sys.__stderr__ = sys.stdout, sys.stderr  # type: ignore[assignment, misc]


_FAREWELLS: Final = re.compile(
    r"Handling signal: term|Worker exiting|Shutting down|Worker \(pid:\d+\) was sent SIGTERM!"
)


def take_over_gunicorn() -> None:
    """Make the web server of this process log as we do; called in its master."""
    if speaks_json() and not taken_over():
        logs = map(logging.getLogger, ("gunicorn.error", "gunicorn.access"))
        take_over(handler for each in logs for handler in each.handlers)
    logging.getLogger("gunicorn.error").addFilter(_is_no_farewell)


def _is_no_farewell(record: logging.LogRecord) -> bool:
    """Drop gunicorn's lines about an ordinary end.

    ``honcho start`` ends it if another process has refused to start: the reason for that must be
    the last thing on the screen.
    """
    return record.levelno > logging.INFO or not _FAREWELLS.match(record.getMessage())


class _Printed(io.TextIOBase):
    """Makes one log line of a text that is printed in one piece, as a banner is."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self._begun = ""

    def write(self, text: str) -> int:
        self._begun += text
        if text.endswith("\n"):
            self._end_line()
        return len(text)

    def flush(self) -> None:
        """Also log a text without a line end: when the process ends, none may come any more."""
        self._end_line()
        self.stream.flush()

    def _end_line(self) -> None:
        printed, self._begun = self._begun.strip("\n"), ""
        if printed.strip():
            _write(self.stream, printed, "info")

    def fileno(self) -> int:
        # Celery writes past the stream if it has a descriptor's number. So it has none.
        return None  # type: ignore[return-value]


def _original(stream: TextIO) -> TextIO:
    return stream.stream if isinstance(stream, _Printed) else stream


def _write(stream: TextIO, event: str, level: str, **fields: Any) -> None:
    line = json.dumps({"event": event, **fields, "level": level, "timestamp": _now()})
    # One write, without the handler's lock: this may run in a signal handler that interrupted a
    # log line, and so would wait for ever for a lock of its own thread.
    os.write(_original(stream).fileno(), f"{line}\n".encode())


def _log_the_end(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    logging.getLogger("fermata").critical("uncaught", exc_info=(kind, error, trace))


def _log_the_end_of_a_thread(said: threading.ExceptHookArgs) -> None:
    if said.exc_type is not SystemExit:
        error = said.exc_value or said.exc_type()
        _log_the_end(said.exc_type, error, said.exc_traceback)


def _log_the_ignored(said: Any) -> None:
    about = (said.exc_type, said.exc_value, said.exc_traceback)
    logging.getLogger("fermata").error("ignored: %r", said.object, exc_info=about)
