"""The root of batches, for the command line and for the workers that tick the timetable."""

import functools
import math
import time
from dataclasses import dataclass

from worker.batch import BatchRows, Ledger, Runs
from worker.batch.timetable import DueTimes, Journal, Schedules, Slices, Timetable
from worker.core.health.checks import longest_deadline
from worker.core.ports import Clock
from worker.engine.cancel import Cancellations
from worker.messages import flow
from worker.settings import Settings
from worker.store.records import Records
from worker.wiring.producer import open_producer
from worker.wiring.servers import open_redis


@dataclass(frozen=True, slots=True)
class Batches:
    """What is known of batches, and the runs that submit, cancel and retry them."""

    ledger: Ledger
    rows: BatchRows
    runs: Runs


def open_batches(settings: Settings) -> Batches:
    client, retain_seconds = open_redis(settings), _retain_seconds(settings)
    ledger, rows = Ledger(client, retain_seconds), BatchRows(client, retain_seconds)
    runs = Runs(
        enqueue=functools.partial(flow.enqueue, open_producer(settings)),
        ledger=ledger,
        rows=rows,
        cancellations=Cancellations(Records(client), time.time),
    )
    return Batches(ledger, rows, runs)


def open_timetable(settings: Settings, clock: Clock = time.time) -> Timetable:
    """Open the timetable; it is read on first use."""
    client = open_redis(settings)
    return Timetable(
        schedules=Schedules(settings.timetable),
        due_times=DueTimes(client, clock),
        journal=Journal(client, clock),
        ledger=Ledger(client, _retain_seconds(settings)),
        clock=clock,
    )


def open_slices(settings: Settings, clock: Clock = time.time) -> Slices:
    """Open what submits the runs of the timetable; it is read on first use."""
    batches = open_batches(settings)
    return Slices(
        schedules=Schedules(settings.timetable),
        journal=Journal(open_redis(settings), clock),
        ledger=batches.ledger,
        runs=batches.runs,
        clock=clock,
    )


def _retain_seconds(settings: Settings) -> int:
    # The time to live of a batch is renewed when a job begins or ends. The next one may come only
    # after the longest deadline, so the batch must live for that time as well.
    return 2 * settings.policy.retention_seconds + math.ceil(longest_deadline(settings.policy))
