"""A worker with plain tasks beside the provider tasks, from which tests compose canvas."""

import functools
import sys
import warnings
from typing import Any

from worker.app import app
from worker.settings import Role, load
from worker.store import connection

__all__ = ["app"]


@functools.cache
def book() -> Any:
    """Open the Redis in which steps are counted, once for each process."""
    # Long timeouts: a plain step that fails because Redis is frozen says nothing about parked jobs.
    return connection.connect(load(Role.CLIENT).redis_url, timeout_seconds=60)


@app.task(name="test.note", shared=False)
def note(result: Any, key: str) -> Any:
    """Count that this step ran, and pass its input on."""
    book().rpush(f"test:{key}", "ran")
    return result


@app.task(name="test.note_at_last", shared=False, bind=True)
def note_at_last(self: Any, result: Any, key: str) -> Any:
    """Count that this step ran, and succeed the second time."""
    book().rpush(f"test:{key}", "ran")
    if not self.request.retries:
        raise self.retry(countdown=0)
    return result


@app.task(name="test.noted_error", shared=False)
def noted_error(request: Any, exc: Any, traceback: Any, key: str) -> None:
    """An errback: count that it ran, with the error's type."""
    book().rpush(f"test:{key}", type(exc).__name__)


@app.task(name="test.talk", shared=False)
def talk() -> None:
    """Print something beside the log."""
    print("printed\non two lines")  # noqa: T201
    warnings.warn("warned", stacklevel=1)


@app.task(name="test.loaded", shared=False)
def loaded(result: Any) -> list[str]:
    """Name the modules of OpenTelemetry that this process has loaded."""
    found: dict[str, Any] = dict(sys.modules)
    return sorted(name for name in found if "opentelemetry" in name and found[name])
