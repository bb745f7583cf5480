"""The timetable's tasks: beat sends ``tick`` every minute; what is due follows from it."""

from celery.exceptions import Reject
from kombu.exceptions import OperationalError

from worker.app import app
from worker.batch.timetable import SLICE_SECONDS
from worker.core.contract import SCHEDULE_RUN, SCHEDULE_TICK
from worker.core.wording import told
from worker.store.connection import StoreUnavailable
from worker.wiring import worker_process
from worker.wiring.batches import open_slices, open_timetable


def _publish(name: str, batch_id: str, checked: str) -> None:
    run.delay(name, batch_id, checked)


@app.task(name=SCHEDULE_TICK, shared=False, ignore_result=True)
def tick() -> None:
    """Start what is due: ``tick.delay()``."""
    open_timetable(worker_process.parts().settings).tick(_publish)


@app.task(name=SCHEDULE_RUN, shared=False, ignore_result=True, time_limit=SLICE_SECONDS * 10)
def run(name: str, batch_id: str, checked: str) -> None:
    """Submit the next rows of a run: ``run.delay("nightly", "nightly-20261123T0200Z", "")``."""
    try:
        slices = open_slices(worker_process.parts().settings)
        slices.submit(name, batch_id, checked, _publish)
    except (StoreUnavailable, OperationalError) as error:
        # Rows that were submitted are not submitted again.
        raise Reject(told(error), requeue=True) from None
