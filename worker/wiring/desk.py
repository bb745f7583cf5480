"""The root of the desk: what it reads, and the use cases by which people change what happens.

The desk submits nothing itself: it publishes as a backend does, and a worker calls the provider. It
needs the API key only to ask the provider how a job stands, and the signing keys only to use a
delivery from quarantine. Without them it offers neither.
"""

import functools
import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from worker.archive.notices import Notices, open_notices
from worker.archive.stored import Stored
from worker.batch import BatchRows, Ledger, Matching, Runs
from worker.batch.timetable import Timetable
from worker.core.providers import chosen
from worker.engine.adopt import Adoption
from worker.engine.cancel import Cancellations
from worker.engine.poll import Polls
from worker.engine.receive import Deliveries
from worker.messages import flow
from worker.messages.flow import Flow
from worker.messages.retry import Retries
from worker.provider import HTTPTransport
from worker.settings import Settings
from worker.store.agenda import Agenda
from worker.store.counters import Counters
from worker.store.gate import Gate
from worker.store.lists import Lists
from worker.store.quarantine import Quarantine
from worker.store.readings import Readings
from worker.store.receipts import Receipts
from worker.store.records import Records
from worker.store.turns import Turns
from worker.wiring.batches import open_batches, open_run_now, open_timetable
from worker.wiring.producer import open_producer, open_retries
from worker.wiring.receiver import open_deliveries
from worker.wiring.results import open_adoption
from worker.wiring.servers import open_redis


@dataclass(frozen=True, slots=True)
class Desk:
    """The parts of the desk."""

    settings: Settings
    counters: Counters
    lists: Lists
    turns: Turns
    readings: Readings
    archive: Stored
    receipts: Receipts
    quarantine: Quarantine
    ledger: Ledger
    batch_rows: BatchRows
    runs: Runs
    matching: Matching
    timetable: Timetable
    run_schedule: Callable[[str], str]
    """:func:`worker.wiring.batches.open_run_now`"""
    cancellations: Cancellations
    enqueue: Callable[..., Flow]
    """:func:`worker.messages.flow.enqueue`, with its producer."""
    notices: Notices
    gate: Gate
    retries: Retries
    polls: Polls | None
    """None without an API key."""
    deliveries: Deliveries | None
    """None without signing keys, and so is the adoption."""
    adoption: Adoption | None


def open_desk(settings: Settings) -> Desk:
    """Open the parts of the desk; nothing connects before its first use."""
    client = open_redis(settings)
    batches = open_batches(settings)
    records = Records(client)
    return Desk(
        settings=settings,
        counters=Counters(client),
        lists=Lists(client),
        turns=Turns(client),
        readings=Readings(client),
        archive=Stored(settings.archive.url),
        receipts=Receipts(client),
        quarantine=Quarantine(client),
        ledger=batches.ledger,
        batch_rows=batches.rows,
        runs=batches.runs,
        matching=batches.matching,
        timetable=open_timetable(settings),
        run_schedule=open_run_now(settings),
        cancellations=Cancellations(records, time.time),
        enqueue=functools.partial(flow.enqueue, open_producer(settings)),
        notices=open_notices(settings),
        gate=Gate(client, settings.limits, settings.policy.held_seconds),
        retries=open_retries(settings),
        polls=_open_polls(settings, records, Agenda(client)) if settings.api_key else None,
        deliveries=open_deliveries(settings, client) if settings.signing_keys else None,
        adoption=open_adoption(settings) if settings.signing_keys else None,
    )


def _open_polls(settings: Settings, records: Records, agenda: Agenda) -> Polls:
    transport = HTTPTransport(
        settings.provider_url,
        settings.api_key,
        connect_seconds=settings.connect_timeout_seconds,
        total_seconds=settings.policy.submit_timeout_seconds,
    )
    return Polls(
        records=records,
        agenda=agenda,
        provider=chosen(),
        transport=transport,
        policy=settings.policy,
        clock=time.time,
        jitter=random.random,
    )
