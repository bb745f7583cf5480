"""The root of a worker process. It is built on first use, so nothing is opened before a fork."""

import functools
import os
import random
import time
from dataclasses import dataclass

from worker.core import redis_url
from worker.core.providers import chosen
from worker.engine.admit import Admissions, Treasury
from worker.engine.attempts import Attempts
from worker.engine.cancel import Cancellations
from worker.engine.poll import Polls
from worker.engine.settle import Settlements
from worker.engine.submit import Callbacks, Submissions
from worker.engine.sweep import Sweep
from worker.messages.press import Publisher, SubmitLegs
from worker.provider import HTTPTransport
from worker.settings import Role, Settings, load
from worker.store.agenda import Agenda
from worker.store.endings import Endings
from worker.store.gate import Gate
from worker.store.lists import Lists
from worker.store.plain_steps import PlainSteps
from worker.store.readings import Readings
from worker.store.records import Records
from worker.wiring.servers import broker_options, connect_seconds, open_redis


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of a worker process."""

    settings: Settings
    records: Records
    readings: Readings
    agenda: Agenda
    plain_steps: PlainSteps
    endings: Endings
    submit_legs: SubmitLegs
    attempts: Attempts
    submissions: Submissions
    settlements: Settlements
    polls: Polls
    sweep: Sweep
    gate: Gate
    admissions: Admissions
    treasury: Treasury
    cancellations: Cancellations


def parts() -> Parts:
    """Return this process's parts; a forked child builds its own.

    Raises ConfigError.
    """
    return _parts_of(os.getpid())


# The key is the process id, so a forked child opens connections of its own.
@functools.lru_cache(maxsize=1)
def _parts_of(_pid: int) -> Parts:
    settings = load(Role.WORKER)
    client = open_redis(settings)
    records, readings, agenda = Records(client), Readings(client), Agenda(client)
    gate = Gate(client, settings.limits, settings.policy.held_seconds)
    provider, public_url = chosen(), settings.public_url.rstrip("/")
    transport = HTTPTransport(
        settings.provider_url,
        settings.api_key,
        connect_seconds=settings.connect_timeout_seconds,
        total_seconds=settings.policy.submit_timeout_seconds,
    )
    submit_legs = _open_submit_legs(settings, readings, agenda)
    polls = Polls(
        records=records,
        agenda=agenda,
        provider=provider,
        transport=transport,
        policy=settings.policy,
        clock=time.time,
        jitter=random.random,
    )
    attempts = Attempts(
        records=records,
        readings=readings,
        gate=gate,
        policy=settings.policy,
        clock=time.time,
        jitter=random.random,
    )
    return Parts(
        settings=settings,
        records=records,
        readings=readings,
        agenda=agenda,
        plain_steps=PlainSteps(client),
        endings=Endings(client),
        submit_legs=submit_legs,
        attempts=attempts,
        submissions=Submissions(
            attempts=attempts,
            records=records,
            provider=provider,
            transport=transport,
            gate=gate,
            callbacks=Callbacks(f"{public_url}/webhooks/{provider.name}", settings.signing_keys[0]),
            policy=settings.policy,
            clock=time.time,
        ),
        settlements=Settlements(
            records=records, provider=provider, policy=settings.policy, clock=time.time
        ),
        polls=polls,
        sweep=Sweep(
            records=records,
            readings=readings,
            agenda=agenda,
            indexes=Lists(client, named=settings.limits.weights.keys()),
            provider=provider,
            polls=polls,
            submit_legs=submit_legs,
            policy=settings.policy,
            clock=time.time,
        ),
        gate=gate,
        admissions=Admissions(gate, submit_legs, time.time),
        treasury=Treasury(gate, provider, transport, settings.credits_every_seconds),
        cancellations=Cancellations(records, time.time),
    )


def _open_submit_legs(settings: Settings, readings: Readings, agenda: Agenda) -> SubmitLegs:
    """Open the publisher of submit legs."""
    publisher = Publisher(
        redis_url.celery_url(settings.broker_url),
        broker_options(settings),
        connect_seconds(settings),
    )
    return SubmitLegs(readings, agenda, publisher, time.time, settings.policy)
