"""Notify: what is told to a URL when a flow has ended. See docs/desk-api.md."""

import random
from typing import Any, Final

import structlog
from celery import Task
from celery.exceptions import Reject

from worker.app import app
from worker.archive.notices import CALL_SECONDS, host_of, open_notices
from worker.core.contract import NOTIFY, SLOW_QUEUE
from worker.core.errors import CallFailed, FermataError, InvalidRequest
from worker.core.job.timing import backoff
from worker.core.notices import End, Notice, read_end
from worker.core.wording import told
from worker.store.connection import StoreUnavailable
from worker.wiring import worker_process
from worker.wiring.results import RESULT_SECONDS

log = structlog.get_logger()

RETRIES: Final = 12
"""Some ten minutes of waiting in all."""


@app.task(
    name=NOTIFY,
    bind=True,
    shared=False,
    queue=SLOW_QUEUE,
    max_retries=RETRIES,
    soft_time_limit=CALL_SECONDS + 30,
    time_limit=CALL_SECONDS + 60,
    ignore_result=True,
    throws=(FermataError,),
)
def notify(
    self: Task[..., Any],
    ended: Any,
    *,
    url: str,
    flow_id: str,
    branch: int | None = None,
    branches: int = 1,
) -> None:
    """Tell a URL that a flow has ended, if this branch was the last one under way.

    It follows the last step of each branch, and each step as its errback. So nothing waits for a
    flow, and no job changes if nobody can be told.

    Args:
        ended: the result of a branch's last job, or the id of the job that failed.
        branch: which one; None: the flow ends with it, whatever the others do.
        branches: how many the flow has.
    """
    end = _end(self, ended)
    try:
        ends = [end] if branch is None or branches == 1 else _noted(flow_id, branch, end)
    except StoreUnavailable as error:
        raise Reject(told(error), requeue=True) from None
    if branch is not None and len(ends) < branches:
        return
    try:
        open_notices(worker_process.parts().settings).tell(url, Notice(flow_id, ends))
    except (CallFailed, InvalidRequest) as error:
        log.warning("flow_not_told", flow_id=flow_id, host=host_of(url), error=error.message)
        if not (isinstance(error, CallFailed) and error.retryable):
            raise
        wait = backoff(self.request.retries + 1, None, now=0, jitter=random.random())
        try:
            # Monitors see of the arguments what they saw before: a URL may be a secret.
            options: dict[str, Any] = {"kwargsrepr": repr({"flow_id": flow_id})}
            raise self.retry(exc=error, countdown=wait, **options)
        except Reject as unpublished:
            # The broker is away: this message is the only one there is.
            raise Reject(str(unpublished), requeue=True) from None
    log.info("flow_told", flow_id=flow_id, host=host_of(url))


def _end(task: Task[..., Any], ended: Any) -> End:
    """Read what Celery hands to a callback, the result, or to an errback: the id of the task."""
    if isinstance(ended, str):
        return End(ended, type(task.AsyncResult(ended).result).__name__)
    return End(ended["job_id"])


def _noted(flow_id: str, branch: int, end: End) -> list[End]:
    # As long as a chord's count: other branches may end many days later.
    endings = worker_process.parts().endings
    noted = endings.note(flow_id, branch, end.to_text(), seconds=RESULT_SECONDS)
    return [read_end(each) for each in noted]
