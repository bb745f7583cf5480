"""The root of the receiver, which needs neither Celery nor what only a worker uses."""

import time
from datetime import timedelta

from redis import Redis

from worker.core.providers import chosen
from worker.engine.receive import Deliveries
from worker.settings import Settings
from worker.store.quarantine import Quarantine
from worker.store.readings import Readings
from worker.store.records import Records


def open_deliveries(settings: Settings, redis: Redis) -> Deliveries:
    """Open the use case that receives deliveries, and replays them from quarantine."""
    return Deliveries(
        records=Records(redis),
        readings=Readings(redis),
        provider=chosen(),
        quarantine=Quarantine(redis),
        signing_keys=settings.signing_keys,
        tolerance=timedelta(seconds=settings.webhook_tolerance_seconds),
        policy=settings.policy,
        clock=time.time,
    )
