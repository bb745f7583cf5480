"""Use case: archive what the result of a job links to, now.

A flow may end with ``fermata.archive.store``. If a job's flow did not, its result is sent to that
task by itself. The task stores what is not there yet, so it does no harm to ask twice.
"""

from celery import Celery

from worker.core.archive.links import find_links
from worker.core.contract import SLOW_QUEUE, task_name
from worker.core.errors import InvalidRequest
from worker.core.job.models import JobRecord


def has_files(record: JobRecord) -> bool:
    """Say whether the result of a job links to something that can be archived."""
    return record.result is not None and bool(find_links(record.result))


def archive(app: Celery, record: JobRecord) -> None:
    """Send the result of a job to the archive.

    Raises InvalidRequest if it links to no file; kombu's OperationalError if the broker is away.
    """
    if record.result is None or not has_files(record):
        raise InvalidRequest("the job has no result that links to a file")
    # Under its own id, whatever the result says: its files land in the job's own folder.
    result = record.result | {"job_id": record.job_id}
    app.send_task(task_name("archive.store"), args=[result], queue=SLOW_QUEUE, ignore_result=True)
