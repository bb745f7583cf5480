"""A backend's own worker, with nothing of ours in it: ``celery -A tests.backend worker``."""

import os
from typing import Any

from celery import Celery
from redis import Redis

app = Celery(
    "backend",
    broker=os.environ["BROKER_URL"],
    backend=os.environ["RESULT_BACKEND"],
    set_as_current=False,
)


def _ran(key: str, what: str) -> None:
    with Redis.from_url(os.environ["RESULT_BACKEND"]) as book:
        book.rpush(f"test:{key}", what)


@app.task(name="backend.note")
def note(result: Any, key: str) -> Any:
    """Count that this task ran, and pass its input on."""
    _ran(key, "ran")
    return result


@app.task(name="backend.told")
def told(task_id: str, key: str) -> None:
    """An errback that takes one argument: Celery sends it the id of the task that failed."""
    _ran(key, task_id)
