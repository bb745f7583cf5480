"""Logs: structlog events through the standard library's handlers, on standard error."""

import logging
import sys
from typing import Any, Final

import structlog
from redis.exceptions import RedisError
from structlog.tracebacks import ExceptionDictTransformer

from worker.core.wording import told
from worker.settings import Settings

# Celery logs arguments and return values of tasks: at INFO, its pool at DEBUG. They are lyrics,
# prompts and URLs.
_TELLTALES: Final = (
    "celery.app.trace",
    "celery.pool",
    "celery.worker.request",
    "celery.worker.strategy",
)


def configure(settings: Settings) -> None:
    """Send every log record, ours and the libraries', through one formatter."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    rendering = _json() if settings.log_format == "json" else _console()
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler()
    handler.addFilter(_retell)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rendering],
            foreign_pre_chain=shared,
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(settings.log_level)
    for name in _TELLTALES:
        logging.getLogger(name).setLevel(logging.WARNING)


class _Retold:
    """An error of Redis whose ``repr``, as libraries log it, has the error's own text."""

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


# Both renderers would print the local variables of every frame by default, and with them the
# API key, a job's webhook secret and its lyrics.


def _json() -> list[Any]:
    frames = ExceptionDictTransformer(show_locals=False)
    return [structlog.processors.ExceptionRenderer(frames), structlog.processors.JSONRenderer()]


def _console() -> list[Any]:
    plain = structlog.dev.plain_traceback
    colors = sys.stderr.isatty()
    return [structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=plain)]
