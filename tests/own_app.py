"""A user's own application, built on Fermata's: Flower's settings, an audit, and its own tasks."""

import os
import signal
import sys
from typing import Any

from celery import Task
from celery.signals import after_task_publish, before_task_publish

from tests.canvas_app import book
from worker.app import app

app.conf.task_send_sent_event = True
app.conf.task_routes = {"reports.*": {"queue": "reports"}}

AUDIT = "audit"
"""The queue to which the audit publishes."""


@before_task_publish.connect
@after_task_publish.connect
def _audit(signal: Any, headers: dict[str, Any], **_: Any) -> None:
    entry = {"id": headers["id"], "signal": signal.name}
    with app.producer_pool.acquire() as producer:
        producer.publish(entry, routing_key=AUDIT, headers=entry, retry=True)


def _runs(key: str) -> int:
    return int(book().rpush(f"test:{key}", "ran"))


@app.task(name="own.limited", shared=False, time_limit=60)
def limited(result: Any, key: str) -> Any:
    """Pass the input on; its limit is below the one of a request to the provider."""
    _runs(key)
    return result


@app.task(name="own.patient", shared=False, soft_time_limit=300)
def patient(result: Any, key: str) -> Any:
    """Pass the input on; it may take longer than a request to the provider."""
    _runs(key)
    return result


@app.task(name="own.deadly", shared=False)
def deadly(result: Any, key: str, deaths: int = 100) -> Any:
    """Kill the process that runs it, so many times."""
    if _runs(key) <= deaths:
        os.kill(os.getpid(), signal.SIGKILL)
    return result


@app.task(name="own.deadly_once", shared=False, acks_late=False)
def deadly_once(result: Any, key: str) -> None:
    """Kill the process that runs it. It is acknowledged early, so it runs once at most."""
    _runs(key)
    os.kill(os.getpid(), signal.SIGKILL)


@app.task(name="own.deadly_and_resigned", shared=False, reject_on_worker_lost=False)
def deadly_and_resigned(result: Any, key: str) -> None:
    """Kill the process that runs it. It is not rejected then, so it fails at once."""
    _runs(key)
    os.kill(os.getpid(), signal.SIGKILL)


@app.task(name="own.exiting", shared=False)
def exiting(result: Any, key: str) -> None:
    """End the process that runs it, each time."""
    _runs(key)
    sys.exit(1)


@app.task(name="own.lingering", shared=False)
def lingering(key: str) -> Any:
    """Wait until a word comes, and return it."""
    _runs(key)
    _, word = book().blpop([f"test:told:{key}"], timeout=60)
    return word


@app.task(name="own.unspeakable", shared=False)
def unspeakable(key: str) -> Any:
    """Return a value that JSON cannot hold."""
    _runs(key)
    return {object()}


class Base(Task[Any, Any]):
    """A base of the user's own, which is none of Fermata's."""

    abstract = True


@app.task(name="own.based", shared=False, base=Base)
def based(result: Any) -> Any:
    """Pass the input on."""
    return result


@app.task(name="own.typed", shared=False, typing=True)
def typed(result: Any) -> Any:
    """Pass the input on; Celery is to check the arguments before it is published."""
    return result


@app.task(name="own.sends_wrongly", shared=False)
def sends_wrongly(request: Any, error: Any, traceback: Any, key: str) -> None:
    """Send tasks that cannot be sent, and note each error."""
    unwritable = limited.s(1, "a key").set(serializer="unheard-of")
    for send in (limited.delay, unwritable.delay):
        try:
            send()
        except Exception as refused:
            book().rpush(f"test:{key}", type(refused).__name__)


@app.task(name="own.told", shared=False)
def told(task_id: str, key: str) -> None:
    """Run as an errback that takes an id alone: Celery publishes it."""
    _runs(key)
