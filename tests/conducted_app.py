"""A worker that notes the signals of its legs, and whose legs pause if a test says so."""

import time
from typing import Any

from celery import signals

from tests.canvas_app import app, book

__all__ = ["PAUSES", "app"]

PAUSES = "test:pauses"
"""A hash: job id -> the seconds that the job's next leg pauses when it begins."""

TOLD = {
    "prerun": signals.task_prerun,
    "success": signals.task_success,
    "failure": signals.task_failure,
    "postrun": signals.task_postrun,
}


DAWDLES = "test:dawdles"
"""A list: an errback waits until it holds a word for each job that failed."""


@app.task(name="test.dawdle", shared=False)
def dawdle(request: Any, exc: Any, traceback: Any) -> None:
    """An errback that takes long, and then raises."""
    book().rpush(f"test:dawdled:{request.id}", type(exc).__name__)
    book().blpop([DAWDLES], timeout=60)
    raise RuntimeError("an errback that raises")


def _tell(signal: Any, sender: Any, **_: Any) -> None:
    [name] = [name for name, each in TOLD.items() if each is signal]
    job_id = sender.request.id
    book().rpush(f"test:signals:{job_id}", name)
    if name == "prerun" and (seconds := book().hget(PAUSES, job_id)):
        book().hdel(PAUSES, job_id)
        time.sleep(float(seconds))


for _signal in TOLD.values():
    _signal.connect(_tell, weak=False)
