"""The Celery result of a job that nobody runs any more, written without its task.

``fermata quarantine`` calls it when it adopts a delivery whose job has no record.
"""

from celery import Celery, states

from worker.core.errors import TaskFailed
from worker.core.job.models import JobId, JSONObject


def answer(app: Celery, job_id: JobId, outcome: JSONObject | TaskFailed) -> None:
    """Store a result, so that ``AsyncResult(job_id).get()`` answers; a SUCCESS stays as it is."""
    # Some of Celery's backends keep a SUCCESS by themselves, others would overwrite it.
    if app.backend.get_state(job_id) != states.SUCCESS:
        failed = isinstance(outcome, TaskFailed)
        state = states.FAILURE if failed else states.SUCCESS
        app.backend.store_result(job_id, outcome, state)
