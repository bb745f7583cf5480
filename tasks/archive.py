"""Archive: what a job made, stored where it stays. See docs/archive.md."""

import random
from typing import Any, Final

from celery import Task
from celery.exceptions import Reject

from worker.app import app
from worker.archive.files import RUN_SECONDS, open_archive
from worker.core.contract import SLOW_QUEUE, task_name
from worker.core.errors import ArchiveFailed, FermataError
from worker.core.job.timing import backoff
from worker.wiring import worker_process

RETRIES: Final = 8
"""About six minutes of waiting in all: a link may come to life after the job has ended."""


@app.task(
    name=task_name("archive.store"),
    bind=True,
    shared=False,
    queue=SLOW_QUEUE,
    max_retries=RETRIES,
    soft_time_limit=RUN_SECONDS + 60,
    time_limit=RUN_SECONDS + 90,
    throws=(FermataError,),
)
def store(self: Task[..., Any], source: Any) -> Any:
    """Download the files of the result before it in a chain, or of a list of results.

    Returns ``{"job_id", "manifest", "files"}``, or a list of these. Raises ArchiveFailed where a
    file could not be stored; all the others are.

    Example::

        (remaster.s(clip_id) | stems_full.s() | store.s()).delay()
    """
    try:
        return open_archive(worker_process.parts().settings).store(source)
    except ArchiveFailed as error:
        if not error.retryable:
            raise
        wait = backoff(self.request.retries + 1, None, now=0, jitter=random.random())
        try:
            raise self.retry(exc=error, countdown=wait)
        except Reject as unpublished:
            # The broker is away: this message is the only one there is.
            raise Reject(str(unpublished), requeue=True) from None
