"""The root of what runs batches: the command line, and the workers that tick the timetable."""

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
    """Open the batches, and what submits and cancels them."""
    client = open_redis(settings)
    # From the last that began or ended: the next may wait for so long, and nobody hears of it.
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
