"""Named points at which a process dies, and named guards that can be taken out, job by job.

The product knows nothing of this: the worker, the receiver and the producer of these tests wrap the
product's own functions when they start. A test names job and point in Redis, so one system serves
every test, and only that job is hit.
"""

import functools
import json
import os
import signal
import threading
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any
from unittest import mock

from celery._state import get_current_task
from celery.backends.redis import RedisBackend
from celery.canvas import Signature
from kombu import Producer
from kombu.exceptions import OperationalError
from kombu.transport.redis import Transport
from redis import Redis
from urllib3.connection import HTTPConnection

from tests.job import record_keys
from worker import log
from worker.app.accidents import ChordBackend, PatientBackend
from worker.app.conductor import Legs
from worker.app.job_task import ProviderTask
from worker.app.submit_leg import SubmitLeg
from worker.core import keys
from worker.core.job.models import Heard, Settlement, Standing
from worker.core.job.states import JobState
from worker.engine.attempts import Attempts
from worker.engine.settle import Settlements
from worker.messages.press import PUBLISH_RETRIES
from worker.messages.recording import Recorder, resuming
from worker.provider import HTTPTransport
from worker.settings import Role, load
from worker.store.agenda import Agenda
from worker.store.plain_steps import PlainSteps
from worker.store.records import Records
from worker.wiring.producer import open_producer

ARMED = "test:armed"
OUT = "test:guards_out"
NOWHERE = "test:nowhere"

_wraps: list[Callable[[], None]] = []


def install() -> None:
    """Wrap the product's functions in this process, and in those it forks."""
    while _wraps:
        _wraps.pop()()


def receiver() -> Any:
    """Build the receiver: ``gunicorn 'tests.chaos.points:receiver()'``."""
    from webhook_receiver.app import create_app

    install()
    settings = load(Role.RECEIVER)
    log.configure(settings)
    return create_app(settings)


def produce(canvas: str) -> None:
    """Enqueue a canvas, given as JSON, through our own producer."""
    install()
    app = open_producer(load(Role.CLIENT))
    Signature.from_dict(json.loads(canvas), app=app).apply_async()


def wraps(owner: Any, name: str) -> Callable[[Callable[..., Any]], None]:
    """Wrap a method of the product; the wrapper is given it after ``self``."""

    def declare(wrapper: Callable[..., Any]) -> None:
        method = functools.partialmethod(wrapper, getattr(owner, name))
        _wraps.append(lambda: setattr(owner, name, method))

    return declare


def book() -> Any:
    return Redis.from_url(_redis_url(), decode_responses=True)


@functools.cache
def _redis_url() -> str:
    return load(Role.CLIENT).redis_url


def reached(point: str, job_id: str | None) -> bool:
    """Say whether a job has just passed a point that is armed for it; True only once."""
    with book() as redis:
        return bool(job_id and redis.srem(ARMED, f"{point} {job_id}"))


def passes(point: str, job_id: str | None, *, whole_worker: bool = False) -> None:
    """Die here, without cleaning up, if the point is armed for the job."""
    if reached(point, job_id):
        kill = functools.partial(os.killpg, os.getpgrp()) if whole_worker else None
        (kill or functools.partial(os.kill, os.getpid()))(signal.SIGKILL)


def out(guard: str, job_id: str) -> bool:
    with book() as redis:
        return bool(redis.sismember(OUT, f"{guard} {job_id}"))


def job_in_hand() -> str | None:
    task: Any = get_current_task()
    return task.request.id if task else None


# The record before the message.


@wraps(Recorder, "record")
def _(self: Any, record: Any, operation: Any, wire: Any) -> bool:
    job_id = wire["headers"]["id"]
    publish: bool = out("record", job_id) or record(self, operation, wire)
    passes("recorded", job_id)
    return publish


@wraps(Transport, "_deliver")
def _(self: Any, deliver: Any, message: Any, queue: str) -> None:
    task_id = message["headers"].get("id")
    if task_id and out("note", task_id):
        with Redis.from_url(load(Role.CLIENT).broker_url) as broker:
            broker.hdel("unacked", message["properties"]["delivery_tag"])
    passes("popped", task_id, whole_worker=True)
    deliver(self, message, queue)


# The submit leg.


@wraps(SubmitLeg, "_in_turn")
def _(self: Any, in_turn: Any) -> Standing:
    return Standing(None) if out("one submission", self._job_id) else in_turn(self)


@wraps(Attempts, "announce")
def _(self: Any, announce: Any, attempt: Any, shown: Any) -> Any:
    if reached("forgotten", attempt.job_id):
        with book() as redis:
            redis.delete(*record_keys(attempt.job_id))
    if out("one submission", attempt.job_id):
        return self._readings.standing(attempt.job_id)  # whichever leg is the last
    return announce(self, attempt, shown)


@wraps(Records, "begin")
def _(self: Any, begin: Any, job_id: str, *args: Any, **options: Any) -> Any:
    if out("one submission", job_id):
        with book() as redis:
            redis.hdel(keys.job(job_id), "state")  # a compare that always agrees
    state = begin(self, job_id, *args, **options)
    if out("submit lease", job_id):
        with book() as redis:
            redis.zrem(keys.DUE, job_id)
    return state


@wraps(Attempts, "begin")
def _(self: Any, begin: Any, attempt: Any, *args: Any, **options: Any) -> Any:
    begun = begin(self, attempt, *args, **options)
    passes("begun", attempt.job_id)
    return begun


@wraps(HTTPConnection, "getresponse")
def _(self: Any, getresponse: Any) -> Any:
    passes("posted", job_in_hand())
    passes("posted by the worker", job_in_hand(), whole_worker=True)
    return getresponse(self)


@wraps(HTTPTransport, "send")
def _(self: Any, send: Any, request: Any) -> Any:
    answer = send(self, request)
    passes("answered", job_in_hand())
    return answer


# The claim, and the leases.


_hearing = threading.Lock()
"""The receiver hears in several threads, and a key that is patched is patched for all of them."""


@wraps(Records, "_hear")
def _(self: Any, hear: Any, job_id: str, *args: Any, **options: Any) -> Heard:
    with book() as redis:
        early = redis.hget(keys.job(job_id), "state") == JobState.SUBMITTING
    if early and out("claim while submitting", job_id):
        return Heard.NOT_WON
    lost = out("made ready", job_id)
    with _hearing, mock.patch.object(keys, "READY", NOWHERE) if lost else nullcontext():
        heard: Heard = hear(self, job_id, *args, **options)
    passes("claimed", job_id)
    return heard


@wraps(Agenda, "lease")
def _(self: Any, lease: Any, **options: Any) -> Any:
    leased = lease(self, **options)
    for job in leased:
        if out("end of the lease", job.job_id):
            self._redis.zrem(keys.READY, job.job_id)
    return leased


@wraps(Legs, "run")
def _(self: Any, run: Any, ended: Any) -> None:
    passes("in hand", ended.job_id)
    run(self, ended)


@wraps(Agenda, "due")
def _(self: Any, due: Any, **options: Any) -> Any:
    leased = due(self, **options)
    for job_id in leased:
        if out("due lease", job_id):
            self._redis.zrem(keys.DUE, job_id)
    for job_id in leased:
        passes("leased", job_id, whole_worker=True)
    return leased


# The resumed leg, and the plain step after it.


@wraps(PlainSteps, "take")
def _(self: Any, take: Any, run: str, *args: Any, **options: Any) -> bool:
    step_id = run.partition(":")[0]
    mine: bool = take(self, run, *args, **options)
    return mine or out("one copy", step_id)


_refused: list[str | None] = []
"""A job whose next step is refused, once for each time that Celery itself tries."""


@wraps(Producer, "publish")
def _(self: Any, publish: Any, *args: Any, **options: Any) -> Any:
    job_id = job_in_hand()
    if resuming.get() and reached("broker away", job_id):
        _refused.extend([job_id] * (1 + int(PUBLISH_RETRIES["max_retries"])))
    if job_id in _refused:
        _refused.remove(job_id)
        raise OperationalError("the broker is away")
    return publish(self, *args, **options)


@wraps(PatientBackend, "mark_as_done")
def _(self: Any, mark_as_done: Any, task_id: str, *args: Any, **options: Any) -> Any:
    passes("stepped", task_id)
    return mark_as_done(self, task_id, *args, **options)


@wraps(RedisBackend, "mark_as_done")
def _(self: Any, mark_as_done: Any, task_id: str, *args: Any, **options: Any) -> Any:
    if reached("backend away", task_id):
        raise ConnectionError("the result backend is away")
    return mark_as_done(self, task_id, *args, **options)


@wraps(RedisBackend, "on_chord_part_return")
def _(self: Any, count: Any, request: Any, *args: Any, **options: Any) -> Any:
    passes("uncounted", request.id)
    return count(self, request, *args, **options)


@wraps(RedisBackend, "_chord_publish_claim_expires")
def _(self: Any, expires: Any, *args: Any) -> Any:
    passes("joined", job_in_hand())
    return expires(self, *args)


@wraps(RedisBackend, "chord_error_from_stack")
def _(self: Any, fail: Any, *args: Any, **options: Any) -> Any:
    passes("doomed", job_in_hand())
    return fail(self, *args, **options)


@wraps(ChordBackend, "_end_chord")
def _(self: Any, end: Any, *args: Any, **options: Any) -> Any:
    passes("embodied", job_in_hand(), whole_worker=True)
    return end(self, *args, **options)


@wraps(PatientBackend, "_leave_claimed")
def _(self: Any, leave: Any, task_id: str, claim: Any) -> None:
    if not out("chord claim", task_id):
        leave(self, task_id, claim)


@wraps(Settlements, "try_to_settle")
def _(self: Any, settle: Any, settlements: Sequence[Settlement]) -> Any:
    for each in settlements:
        passes("stored", each.job_id)
        passes("counted", each.job_id, whole_worker=True)
    return settle(self, settlements)


@wraps(ProviderTask, "_was_stored")
def _(self: Any, was_stored: Any, result: Any) -> bool:
    return not out("stored result", self.request.id) and was_stored(self, result)


@wraps(PatientBackend, "mark_as_failure")
def _(self: Any, mark_as_failure: Any, task_id: str, *args: Any, **options: Any) -> Any:
    passes("failing", task_id)
    if out("patience", task_id):
        return self._backend.mark_as_failure(task_id, *args, **options)
    return mark_as_failure(self, task_id, *args, **options)
