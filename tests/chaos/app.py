"""The workers under test: Fermata's own application, plain tasks beside it, and kill points."""

from typing import Any

from celery.signals import after_task_publish

from tests.chaos import kills
from tests.chaos.load import RAN, SENT
from worker.app import app

kills.install()
# What a dead worker held is given to another one as soon as it may be, not within 100 s of that.
app.conf.broker_transport_options |= {
    "unacked_restore_interval": 2,
    "unacked_restore_throttle": 1,
    "unacked_mutex_expire": 10,
}


@app.task(name="chaos.note", shared=False, acks_late=True)
def note(result: Any, key: str) -> Any:
    """Count that this step ran, and pass its input on."""
    _count(key, "ran")
    return result


@app.task(name="chaos.errback", shared=False)
def errback(request: Any, exc: Any, traceback: Any, key: str) -> None:
    """Count that this errback ran, with the error's type."""
    _count(key, type(exc).__name__)


@after_task_publish.connect(sender=note.name)
def _mark_sent(body: Any, **_: Any) -> None:
    (SENT / body[0][-1]).touch()


def _count(key: str, what: str) -> None:
    with (RAN / key).open("a") as file:
        file.write(f"{what}\n")
