"""The result backend as Celery reaches it, and the use case that writes there without a task."""

import functools
import time
from typing import Any, Final

from celery import Celery

from worker.core import redis_url
from worker.core.providers import chosen
from worker.engine.adopt import Adoption
from worker.messages.answer import answer
from worker.settings import Settings
from worker.store.readings import Readings
from worker.store.records import Records
from worker.wiring.servers import open_redis, redis_timeouts

RESULT_SECONDS: Final = 21 * 86400
"""Results and chords outlive every deadline: an expired chord key kills its chord in silence.

The longest life that the settings allow: six days queued, six held, seven worked on.
"""


def result_settings(settings: Settings) -> dict[str, Any]:
    """Return the settings by which Celery reaches the result backend."""
    timeouts = redis_timeouts(settings)
    backend = redis_url.celery_options(settings.result_backend, timeouts=timeouts)
    return {
        "result_backend": redis_url.celery_url(settings.result_backend),
        "result_backend_transport_options": {"retry_policy": {"max_retries": 3}, **backend},
        # Without timeouts, a publisher blocks on a dead Redis for as long as it is dead.
        "redis_socket_timeout": timeouts["socket_timeout"],
        "redis_socket_connect_timeout": timeouts["socket_connect_timeout"],
        "redis_max_connections": redis_url.UNLIMITED,
        "redis_backend_health_check_interval": backend.get("health_check_interval"),
        "result_backend_always_retry": True,
        "result_backend_max_retries": 10,
        "result_expires": RESULT_SECONDS,
        "result_chord_expires": RESULT_SECONDS,
    }


def open_adoption(settings: Settings) -> Adoption:
    """Open the use case that brings back jobs whose records are gone."""
    client = open_redis(settings)
    # Not the workers' application, which mends Celery and knows all tasks: it only stores results.
    app = Celery("fermata-results", set_as_current=False)
    app.conf.update(result_settings(settings))
    return Adoption(
        records=Records(client),
        readings=Readings(client),
        provider=chosen(),
        answer=functools.partial(answer, app),
        signing_keys=settings.signing_keys,
        retention_seconds=settings.policy.retention_seconds,
        clock=time.time,
    )
