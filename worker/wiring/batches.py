"""The root of batches, for the command line and for the workers that tick the timetable."""

import functools
import math
import time

from worker.batch import Ledger, Runs
from worker.batch.journal import Journal
from worker.batch.timetable import Timetable
from worker.core.health.checks import longest_deadline
from worker.engine.cancel import Cancellations
from worker.messages import flow
from worker.settings import Settings
from worker.store.records import Records
from worker.wiring.producer import open_producer
from worker.wiring.servers import open_redis


def open_batches(settings: Settings) -> tuple[Ledger, Runs]:
    """Open the ledger of batches, and the runs that submit and cancel them."""
    client = open_redis(settings)
    # The ledger's time to live is renewed when a job begins or ends. The next one may come only
    # after the longest deadline, so the ledger must live for that time as well.
    patience = math.ceil(longest_deadline(settings.policy))
    ledger = Ledger(client, retain_seconds=2 * settings.policy.retention_seconds + patience)
    cancellations = Cancellations(Records(client), time.time)
    return ledger, Runs(
        functools.partial(flow.enqueue, open_producer(settings)), ledger, cancellations, time.time
    )


def open_timetable(settings: Settings) -> Timetable:
    """Open the timetable; it is read on first use."""
    ledger, runs = open_batches(settings)
    client = open_redis(settings)
    return Timetable(
        path=settings.timetable,
        redis=client,
        journal=Journal(client, time.time),
        ledger=ledger,
        runs=runs,
        clock=time.time,
    )
