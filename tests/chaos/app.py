"""The workers under test: Fermata's own application, plain tasks beside it, and kill points."""

from typing import Any

from celery import current_task

from tests.chaos import kills
from tests.chaos.load import RAN
from worker.app import app
from worker.core.contract import COPY_HEADER

__all__ = ["app"]

kills.install()


@app.task(name="chaos.note", shared=False, acks_late=True)
def note(result: Any, key: str) -> Any:
    """Count which copy of this step ran, and pass its input on."""
    _count(key, current_task.request.get(COPY_HEADER))
    return result


@app.task(name="chaos.errback", shared=False)
def errback(request: Any, exc: Any, traceback: Any, key: str) -> None:
    """Count that this errback ran, with the error's type."""
    _count(key, type(exc).__name__)


def _count(key: str, what: str) -> None:
    with (RAN / key).open("a") as file:
        file.write(f"{what}\n")
