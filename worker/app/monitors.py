"""Tells monitors, such as Flower, how a job goes on: by Celery's own task events.

The main process of a worker has a dispatcher, which gathers events and sends many in one message.
Whatever runs there uses it: the conductor, and the threads of a pool of threads. A process of a
pool has no dispatcher: it opens one for each event, which takes more CPU than a record's script.
"""

import os
from typing import Any

import structlog

from worker.core.wording import told
from worker.messages.follow_ups import UNPUBLISHED

log = structlog.get_logger()


class Monitors:
    """The monitors of one worker."""

    def __init__(self, worker: Any) -> None:
        self._worker = worker
        self._pid = os.getpid()

    @property
    def are_ours(self) -> bool:
        """Whether this process is the one that has the dispatcher, and no fork of it."""
        return self._pid == os.getpid()

    def tell(self, kind: str, job_id: str, **fields: Any) -> None:
        """Send an event, if the worker sends any. An error of the broker is logged."""
        # The consumer has another dispatcher whenever it has connected again.
        events = getattr(getattr(self._worker, "consumer", None), "event_dispatcher", None)
        # ``celery control enable_events`` and ``disable_events`` change it while the worker runs.
        if not events or not events.enabled or (events.groups and "task" not in events.groups):
            return
        try:
            events.send(kind, uuid=job_id, **fields)
        except UNPUBLISHED as error:
            log.warning("monitors_untold", error=told(error))


_monitors: Monitors | None = None


def attend(worker: Any) -> Monitors:
    """Open the monitors of the worker whose main process this is."""
    global _monitors  # noqa: PLW0603
    _monitors = Monitors(worker)
    return _monitors


def tell_parked(task: Any) -> None:
    """Tell that the job of a submit leg holds no slot from here on."""
    if _monitors and _monitors.are_ours:
        _monitors.tell("task-parked", task.request.id)
    elif task.app.conf.worker_send_task_events:
        task.send_event("task-parked")
