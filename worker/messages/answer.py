"""The Celery result of a job, written without its task: of a job that nobody runs any more."""

from celery import Celery, states

from worker.core.errors import TaskFailed
from worker.core.job.models import JobId, JSONObject


def answer(app: Celery, job_id: JobId, outcome: JSONObject | TaskFailed) -> None:
    """Let ``AsyncResult(job_id).get()`` answer again, unless it still does."""
    # Some backends keep a SUCCESS by themselves, others would overwrite it.
    if app.backend.get_state(job_id) != states.SUCCESS:
        failed = isinstance(outcome, TaskFailed)
        state = states.FAILURE if failed else states.SUCCESS
        app.backend.store_result(job_id, outcome, state)
