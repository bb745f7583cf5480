"""The conductor runs the resumed legs of jobs whose event has come, in the worker's own process.

A receiver, a poll, a cancellation or a deadline only claims a job and makes it ready. Every worker
has one conductor. It leases ready jobs, many in one round trip, and runs each job's task from the
message on its record with Celery's own tracer, in a few threads: no queue, no pool slot. Celery
publishes the next step, counts the chord and calls the errbacks; then the settler stores the result
and settles the job, with those of other legs (``settler.py``).

The leases are short, and the conductor renews those of the jobs in hand. If it dies, another
conductor has its jobs within seconds. If a job cannot be resumed now, because its next step cannot
be published or its result cannot be stored, the conductor puts it off, each time for longer, and
goes on with the others.

An errback is a user's code, and Celery calls it in the thread of the leg. It may take long, so the
leg steps aside first: its lease is renewed as before, and another thread takes its place. So does a
thread that insists on settling jobs that Redis refuses.
"""

import contextlib
import functools
import queue
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from typing import Any, Final

import celery.app.trace
import structlog
from billiard.einfo import ExceptionInfo
from celery import Celery, states
from kombu.message import Message
from kombu.serialization import prepare_accept_content
from kombu.utils.encoding import safe_repr

from worker import tracing
from worker.app.accidents import before_errbacks
from worker.app.monitors import Monitors
from worker.app.settler import Ended, Settler, in_hand
from worker.core.contract import task_name
from worker.core.job import kept
from worker.core.job.models import JobId, JSONObject, Leased
from worker.core.wording import told
from worker.engine.settle import Settlements
from worker.messages.recording import resuming
from worker.store.agenda import Agenda
from worker.store.connection import StoreUnavailable

log = structlog.get_logger()

LEASE_SECONDS: Final = 10.0
"""A dead conductor keeps its jobs from the others for this long at most."""

RENEW_EVERY_SECONDS: Final = LEASE_SECONDS / 4
THREADS: Final = 4
AT_ONCE: Final = 4 * THREADS
"""Jobs in hand at most: another conductor could run the ones that wait here for a thread."""

LONG_SECONDS: Final = 60.0
"""A leg that takes longer steps aside, so that other jobs do not wait for its thread."""

MOST_ASIDE: Final = 64
"""Legs at most that have stepped aside. With so many, a conductor leases no more jobs."""

LISTEN_SECONDS: Final = 1.0
STOP_SECONDS: Final = 10.0
LONGEST_PUT_OFF_SECONDS: Final = 300.0


class Legs:
    """Runs resumed legs with Celery's own tracer, as a worker's pool runs its tasks."""

    def __init__(self, app: Celery, hostname: str, monitors: Monitors) -> None:
        self._app = app
        self._hostname = hostname
        self._monitors = monitors
        self._tracers: dict[str, Callable[..., Any]] = {}
        self._accept = prepare_accept_content(app.conf.accept_content)

    def run(self, ended: Ended) -> None:
        """Run one leg to its end, and note what it leaves behind.

        Raises the error that kept Celery from ending it.
        """
        token = in_hand.set(ended)
        try:
            self._trace(ended)
        finally:
            in_hand.reset(token)

    def _trace(self, ended: Ended) -> None:
        job = ended.job
        task = self._app.tasks[task_name(job.operation)]
        trace = self._tracers.get(task.name)
        if trace is None:
            # Looked up at run time: instrumentation replaces this name with a builder of its own.
            build = celery.app.trace.build_tracer
            trace = build(task.name, task, app=self._app, hostname=self._hostname)
            self._tracers[task.name] = trace
        # The leg goes on from the span of its submit leg, and not from its message's.
        request = self._request(job.message) | tracing.headers_of(job.traceparent)
        traced = trace(job.job_id, request["args"], request["kwargs"], request)
        is_over = traced.info or ended.settlement
        if not is_over and isinstance(traced.retval, ExceptionInfo):
            # Celery only warns of an error around a task (not of the task) and returns it.
            error: Any = traced.retval.exception
            raise getattr(error, "exc", error)
        ended.event = _event(traced)

    def _request(self, message: str) -> JSONObject:
        """Return a message as a worker's pool would get it (celery.worker.request)."""
        wire, sent = kept.unpack(message)
        properties = wire["properties"]
        route = properties["delivery_info"]
        body: Any = sent
        args, kwargs, embed = Message(
            body,
            content_type=wire["content-type"],
            content_encoding=wire["content-encoding"],
            headers=wire["headers"],
            accept=self._accept,
        ).payload
        for kind in ("callbacks", "errbacks"):
            _name(embed.get(kind) or (), f"{wire['headers']['id']}/{kind}")
        return {
            **wire["headers"],
            "properties": properties,
            "reply_to": properties.get("reply_to"),
            "correlation_id": properties.get("correlation_id"),
            "hostname": self._hostname,
            "delivery_info": {
                "exchange": route["exchange"],
                "routing_key": route["routing_key"],
                "priority": properties.get("priority"),
                "redelivered": False,
            },
            "is_eager": False,
            "args": args,
            "kwargs": kwargs,
            **embed,
        }

    def tell(self, ended: Ended) -> None:
        """Tell monitors how a leg ended, as the pool's requests do."""
        if ended.event:
            kind, fields = ended.event
            self._monitors.tell(kind, ended.job_id, **fields)


def _event(traced: Any) -> tuple[str, JSONObject] | None:
    if traced.info is None:
        return "task-succeeded", {"result": traced.retstr, "runtime": traced.runtime}
    if traced.info.state == states.FAILURE:
        exception, traceback = safe_repr(traced.info.retval), traced.retval.traceback
        return "task-failed", {"exception": exception, "traceback": traceback}
    return None


def _name(links: Sequence[JSONObject], of: str) -> None:
    """Give each link an id that is the same whenever the leg runs.

    Celery would choose a random id when it publishes the link. If the leg runs again, it publishes
    the link again; with the same id as before, the task of the link runs once.
    """
    for n, link in enumerate(links):
        if not link.get("subtask_type"):  # a chain, group or chord gives its parts their ids
            minted = str(uuid.uuid5(uuid.NAMESPACE_OID, f"{of}/{n}"))
            link.setdefault("options", {}).setdefault("task_id", minted)


class Conductor:
    """Runs the resumed legs of one worker.

    Args:
        leases: an agenda whose timeout is shorter than a lease, to renew leases through.
        patience_seconds: the socket's timeout. A wait for ready jobs must end before it.
    """

    def __init__(
        self,
        legs: Legs,
        settlements: Settlements,
        agenda: Agenda,
        leases: Agenda,
        hostname: str,
        *,
        patience_seconds: float,
    ) -> None:
        self._legs = legs
        put_off = functools.partial(_put_off_leg, agenda)
        self._settler = Settler(settlements, put_off=put_off, done=self._done)
        self._agenda = agenda
        self._leases = leases
        self._hostname = hostname
        self._listen_seconds = min(LISTEN_SECONDS, patience_seconds / 2)
        self._to_run: queue.SimpleQueue[Leased] = queue.SimpleQueue()
        self._in_hand: dict[JobId, float | None] = {}
        """When the leg of each job began (monotonic); None if it waits for a thread, or for the
        settler."""
        self._aside: set[JobId] = set()
        """The jobs in hand whose legs have stepped aside, or that a thread insists on settling."""
        self._threads = 0
        """The number of threads that take legs; one whose leg has stepped aside takes no more."""
        self._changed = threading.Condition()

    def run_once(self) -> None:
        """Lease as many ready jobs as there is room for; if none is ready, wait a little."""
        with self._changed:
            self._add_threads()
            room = self._changed.wait_for(self._room, LISTEN_SECONDS)
        if not room:
            return
        leased = self._agenda.lease(seconds=LEASE_SECONDS, limit=room)
        with self._changed:
            for job in leased:
                # A process that was suspended for longer than a lease may lease its own jobs again.
                if job.job_id not in self._in_hand:
                    self._in_hand[job.job_id] = None
                    self._to_run.put(job)
            self._add_threads()
        if not leased:
            self._agenda.wait_for_ready(self._listen_seconds)

    def _room(self) -> int:
        """Return how many jobs to lease now: none until half of those in hand are done.

        To lease many takes one round trip, as to lease one does.
        """
        waiting, aside = len(self._in_hand) - len(self._aside), len(self._aside)
        return 0 if waiting > AT_ONCE // 2 else max(0, min(AT_ONCE - waiting, MOST_ASIDE - aside))

    def _add_threads(self) -> None:
        """Start threads for the waiting jobs, ``THREADS`` at most; as daemons: see :meth:`stop`."""
        for _ in range(min(self._to_run.qsize(), THREADS - self._threads)):
            threading.Thread(target=self._run_legs, name="fermata-leg", daemon=True).start()
            self._threads += 1

    def tend(self) -> None:
        """Renew the leases of the jobs in hand, and set legs aside that take long.

        It also notes that this conductor lives, for people who look.

        Raises StoreUnavailable. To be called every ``RENEW_EVERY_SECONDS``, from another thread
        than :meth:`run_once`: that one may wait longer than a lease for a Redis that is silent.
        """
        now = time.monotonic()
        with self._changed:
            for job_id, began in self._in_hand.items():
                if began is not None and now - began > LONG_SECONDS:
                    self._set_aside(job_id)
            is_full = len(self._aside) >= MOST_ASIDE
            in_hand = list(self._in_hand)
        if in_hand:
            self._leases.renew(in_hand, seconds=LEASE_SECONDS)
        if is_full:
            self._give_back()
        self._leases.sign_of_life(self._hostname)

    def stop(self) -> None:
        """Wait for the legs that run, and leave the other jobs to another conductor at once.

        To be called after the last :meth:`run_once`. A leg that runs for more than
        ``STOP_SECONDS`` is cut off, and the next conductor runs it, and calls its errback, again.
        """
        self._give_back()
        with self._changed:
            self._changed.wait_for(lambda: not self._in_hand, STOP_SECONDS)

    def _give_back(self) -> None:
        left = []
        while not self._to_run.empty():
            with contextlib.suppress(queue.Empty):
                left.append(self._to_run.get_nowait().job_id)
        with self._changed:
            for job_id in left:
                self._in_hand.pop(job_id, None)
        if left:
            _put_off(self._leases, left, 0)

    def _run_legs(self) -> None:
        """Run one leg after another, until one steps aside. This is a thread's whole work."""
        before_errbacks.set(self._step_aside)
        while self._conduct(self._to_run.get()):
            pass

    def _conduct(self, job: Leased) -> bool:
        """Run one leg, and settle its job. Returns whether the thread is to take another."""
        structlog.contextvars.bind_contextvars(job_id=job.job_id, operation=job.operation)
        token = resuming.set(job)
        with self._changed:
            self._in_hand[job.job_id] = time.monotonic()
        ended = Ended(job)
        try:
            self._legs.run(ended)
        except BaseException as error:  # an errback may call sys.exit(), to end a pool's process
            if not ended.settlement:
                _put_off_leg(self._agenda, job, error)
        finally:
            resuming.reset(token)
            structlog.contextvars.clear_contextvars()
            with self._changed:
                stays = job.job_id not in self._aside
                self._aside.discard(job.job_id)
                self._in_hand[job.job_id] = None
        if not ended.settlement:
            self._done(ended)
        elif left := self._settler.settle(ended):
            self._stand_aside(left, leaves=stays)
            self._settler.insist(left)
            return False
        return stays

    def _done(self, ended: Ended) -> None:
        """Take a job out of hand, settled or not, and tell monitors how its leg ended."""
        with self._changed:
            self._in_hand.pop(ended.job_id, None)
            self._aside.discard(ended.job_id)
            self._changed.notify_all()
        self._legs.tell(ended)

    def _step_aside(self) -> None:
        """Let another thread take legs: this one is about to call errbacks."""
        with self._changed:
            if job := resuming.get():
                self._set_aside(job.job_id)

    def _stand_aside(self, left: Sequence[Ended], *, leaves: bool) -> None:
        """Leave the legs to another thread, which the next :meth:`run_once` starts.

        This one insists on settling jobs, which may take long.

        Args:
            leaves: it still takes legs.
        """
        with self._changed:
            self._aside.update(each.job_id for each in left)
            if leaves:
                self._threads -= 1
            self._changed.notify_all()

    def _set_aside(self, job_id: JobId) -> None:
        if job_id not in self._aside and len(self._aside) < MOST_ASIDE:
            self._aside.add(job_id)
            self._threads -= 1
            self._add_threads()
            self._changed.notify_all()


def _put_off_leg(agenda: Agenda, job: Leased, error: BaseException) -> None:
    seconds = min(2.0 ** min(job.claims, 10), LONGEST_PUT_OFF_SECONDS)
    log.warning("leg_put_off", job_id=job.job_id, error=told(error), seconds=seconds)
    _put_off(agenda, [job.job_id], seconds)


def _put_off(agenda: Agenda, job_ids: Sequence[JobId], seconds: float) -> None:
    try:
        agenda.renew(job_ids, seconds=seconds)
    except StoreUnavailable as error:
        log.warning("leases_end_by_themselves", error=told(error))
