"""Tells monitors, such as Flower, how a job goes on: by Celery's own task events.

The main process of a worker has a dispatcher, which gathers events and sends many in one message.
Whatever runs there uses it. A process of a pool has none, and would open one for each event: a leg
that parks its job ends with ``IsParked``, and the main process tells it.
"""

from typing import Any

import structlog
from celery.exceptions import Ignore

from worker.core.wording import told
from worker.messages.follow_ups import UNPUBLISHED

log = structlog.get_logger()


class Monitors:
    """The monitors of one worker."""

    def __init__(self, worker: Any) -> None:
        self._worker = worker

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


class IsParked(Ignore):
    """Ends the leg that has parked a job, in whatever process the leg runs."""


def tell_parked(job_id: str) -> None:
    """Tell that a job holds no slot from here on."""
    if _monitors:
        _monitors.tell("task-parked", job_id)
