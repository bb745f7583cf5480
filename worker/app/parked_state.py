"""The state ``PARKED`` of a job in the result backend.

By default the result backend is the very database that holds the records. Then the script that
announces the job (announce.lua) stores the state too, in the same step: Celery's backend reads the
old state first, and needs two round trips and several times the CPU. Otherwise Celery stores it.
"""

import functools
from typing import Any

from celery import Celery, Task

from worker.app.settler import is_celerys_own
from worker.core import redis_url
from worker.core.contract import PARKED
from worker.core.job.models import JSONObject, Shown
from worker.settings import Settings


def show(task: Task[..., Any], meta: JSONObject, settings: Settings) -> Shown | None:
    """Store the state of the task that runs now, or return what the announcement is to store."""
    if not _is_one(task.app, settings.result_backend, settings.redis_url):
        task.update_state(state=PARKED, meta=meta)
        return None
    backend: Any = task.backend
    job_id = str(task.request.id)
    state = backend._get_result_meta(meta, PARKED, None, task.request) | {"task_id": job_id}
    key = backend.get_key_for_task(job_id).decode()
    return Shown(key, backend.encode(state), backend.expires)


@functools.cache
def _is_one(app: Celery, result_backend: str, records: str) -> bool:
    """Say whether Celery stores results where the records are, and as JSON."""
    backend: Any = app.backend
    return (
        result_backend == records
        and app.conf.result_backend == redis_url.celery_url(records)
        and app.conf.result_serializer == "json"
        and is_celerys_own(backend)
        and bool(backend.expires)
    )
