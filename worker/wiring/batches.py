"""The root of batches, for the command line and for the workers that tick the timetable."""

import functools
import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from worker.batch import BatchRows, Ledger, Matching, Runs
from worker.batch.timetable import DueTimes, Journal, Schedules, Slices, Timetable
from worker.core.contract import SCHEDULE_RUN
from worker.core.health.checks import longest_deadline
from worker.core.ports import Clock
from worker.engine.cancel import Cancellations
from worker.messages import flow
from worker.settings import Settings
from worker.store.lists import Lists
from worker.store.records import Records
from worker.wiring.producer import open_producer, open_retries
from worker.wiring.servers import open_redis


@dataclass(frozen=True, slots=True)
class Batches:
    """What is known of batches, and the use cases that change them and their jobs."""

    ledger: Ledger
    rows: BatchRows
    runs: Runs
    matching: Matching


def open_batches(settings: Settings) -> Batches:
    client, retain_seconds = open_redis(settings), _retain_seconds(settings)
    ledger, rows = Ledger(client, retain_seconds), BatchRows(client, retain_seconds)
    cancellations = Cancellations(Records(client), time.time)
    matching = Matching(
        lists=Lists(client), cancellations=cancellations, retries=open_retries(settings)
    )
    runs = Runs(
        enqueue=functools.partial(flow.enqueue, open_producer(settings)),
        ledger=ledger,
        rows=rows,
        cancellations=cancellations,
        matching=matching,
    )
    return Batches(ledger, rows, runs, matching)


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


def open_run_now(settings: Settings) -> Callable[[str], str]:
    """Open what starts a schedule by hand; it returns the name of the run's batch.

    It raises InvalidRequest, ConfigError; kombu's OperationalError if the broker is away.
    """
    producer, timetable = open_producer(settings), open_timetable(settings)
    return lambda name: timetable.run_now(
        name, lambda *args: producer.send_task(SCHEDULE_RUN, args=args)
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
