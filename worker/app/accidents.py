"""Accidents: errors around a leg that say nothing about its job.

Celery stores a failure for anything that goes wrong around a task: the broker is away while Celery
publishes the next step, the result backend is full, a process dies. For a job that was paid for,
that failure would be a lie. The record still holds the job's event, so the leg can run again.

Celery stores outcomes, counts chords and calls errbacks through a task's result backend. So both
Task bases wrap their backend in a class of this module: ``PatientBackend`` for a job,
``StepBackend`` for a plain step. Each lets an accident through, so that the leg is run again (by
the conductor, or after a redelivery), and hands every true outcome to Celery's own backend.
"""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any, Final

import structlog
from billiard.exceptions import Terminated, TimeLimitExceeded, WorkerLostError
from celery.backends.redis import CHORD_CLEANUP_LUA, RedisBackend  # type: ignore[attr-defined]
from celery.exceptions import BackendError, Reject, SoftTimeLimitExceeded
from celery.states import SUCCESS

from worker.app import settler
from worker.core.wording import told
from worker.messages.follow_ups import UNPUBLISHED, calling_errbacks, counted_chord
from worker.messages.recording import resuming
from worker.store.scripts import source
from worker.wiring import worker_process

log = structlog.get_logger()

TRANSIENT: Final = (BackendError, SoftTimeLimitExceeded, *UNPUBLISHED)
"""The broker or the result backend is away, or refuses: the message goes back and is tried again.
"""

_CUT_OFF: Final = (TimeLimitExceeded, WorkerLostError, Terminated)
"""The process is gone; Celery gives its message to another process."""

ACCIDENTS: Final = (*TRANSIENT, *_CUT_OFF)


CLAIMED_PAUSE_SECONDS: Final = 1
"""How long a plain step waits before its message goes back, if a dead worker's claim holds its
chord. The claim ends after some 17 s at most."""

before_errbacks: Final[ContextVar[Callable[[], None] | None]] = ContextVar(
    "before_errbacks", default=None
)
"""A function to call before a job's errbacks: they are a user's code, and may take long."""


class ChordBackend:
    """Celery's result backend, except that an accident is not the outcome of a chord."""

    def __init__(self, backend: Any) -> None:
        self._backend = backend
        # Celery calls these three on the backend itself, not on this wrapper: patch the instance.
        backend.chord_error_from_stack = self._fail_chord
        backend._chord_cleanup_script = self._end_chord
        backend._call_task_errbacks = self._call_errbacks

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    @contextlib.contextmanager
    def _counting(self, task_id: str, request: Any) -> Iterator[None]:
        """Keep a task's chord whole while Celery counts the task for it."""
        if not (request and request.chord and isinstance(self._backend, RedisBackend)):
            yield
            return
        redis, key = self._backend.client, self._backend.get_key_for_group
        # Celery's keys: .c is the claim of the task that ends the chord, .s the chord's size.
        claim, size = redis.mget(key(request.group, ".c"), key(request.group, ".s"))
        self._leave_claimed(task_id, claim)
        counted = counted_chord.set(request.group)
        try:
            yield
        except TRANSIENT:
            # Celery has dropped the size of a chord that it takes for failed. Without its size the
            # chord would never be complete.
            if size:
                redis.set(key(request.group, ".s"), size, nx=True, ex=self.chord_expires or None)
            raise
        finally:
            counted_chord.reset(counted)

    def _leave_claimed(self, task_id: str, claim: bytes | None) -> None:
        """Raise Reject if another task's claim holds the chord; each kind of task says how."""
        raise NotImplementedError

    def _fail_chord(self, callback: Any, exc: Any = None) -> Any:
        """Fail a chord whose header failed.

        Raises the accident if one keeps Celery from reading the header's results or from publishing
        the body. Celery would call the errbacks of a chord whose header succeeded.
        """
        if accident := _accident():
            raise accident
        return type(self._backend).chord_error_from_stack(self._backend, callback, exc)

    def _end_chord(self, keys: list[str], args: list[Any], client: Any) -> Any:
        """Drop a chord whose body is published. If an accident prevented that, drop only the claim.

        Celery would drop the chord in both cases, and nobody could publish the body any more.
        """
        if _accident():
            return client.eval(source("unclaim"), 1, keys[0], args[0])
        return client.eval(CHORD_CLEANUP_LUA, len(keys), *keys, *args)

    def _call_errbacks(self, request: Any, *args: Any) -> None:
        """Call the errbacks of a task, or of the body of a chord that failed.

        If an accident keeps one errback from being published, calls the others, then raises it.
        """
        if step_aside := before_errbacks.get():
            step_aside()
        calling, errbacks = calling_errbacks.set(True), request.errbacks
        called, accident = self._called(request), None
        try:
            # One at a time: Celery stops at the first that cannot be published.
            for n in sorted(set(range(len(errbacks))) - called):
                request.errbacks = [errbacks[n]]
                try:
                    type(self._backend)._call_task_errbacks(self._backend, request, *args)
                except TRANSIENT as error:
                    accident = error
                    continue
                except SystemExit as error:  # an errback would end the worker's main process
                    log.warning("errback_exited", task_id=request.id, error=told(error))
                called.add(n)
        finally:
            request.errbacks = errbacks
            calling_errbacks.reset(calling)
        if accident:
            self._note_called(request, called)
            raise accident

    def _called(self, request: Any) -> set[int]:
        """Return the places of the errbacks that an earlier run of this leg has called."""
        return set()

    def _note_called(self, request: Any, called: set[int]) -> None:
        """Note the places of the errbacks that the next run must not call again."""


def _accident() -> BaseException | None:
    """Return the accident that Celery is handling while it counts a task that we let it count."""
    # Celery calls our hooks while it handles the error, and gives them at most a ChordError of it.
    error = sys.exc_info()[1]
    return error if counted_chord.get() and isinstance(error, TRANSIENT) else None


class PatientBackend(ChordBackend):
    """A job's result backend: an accident is not the outcome of the job either."""

    def mark_as_done(
        self,
        task_id: str,
        result: Any,
        request: Any = None,
        store_result: bool = True,
        **kwargs: Any,
    ) -> Any:
        """Store a result, or leave it to the settler, which stores many in one round trip.

        Raises Reject if another task has claimed the chord: the conductor puts the leg off.
        """
        ended = settler.in_hand.get()
        # Celery counts a chord only when the result is stored.
        if ended and not request.chord and settler.is_celerys_own(self._backend):
            if store_result and not request.ignore_result:
                ended.result = settler.result_of(self._backend, task_id, result, request)
            return None
        with self._counting(task_id, request):
            return self._backend.mark_as_done(task_id, result, request, store_result, **kwargs)

    def _called(self, request: Any) -> set[int]:
        job = resuming.get()
        # A first run has called none, so it reads nothing. The request of a chord's body has
        # another id.
        if job is None or job.claims == 1 or request.id != job.job_id:
            return set()
        return set(worker_process.parts().readings.read(job.job_id).errbacks_called)

    def _note_called(self, request: Any, called: set[int]) -> None:
        job = resuming.get()
        if job and request.id == job.job_id:
            fields = {"errbacks_called": ",".join(map(str, called))}
            worker_process.parts().records.note(job.job_id, now=time.time(), fields=fields)

    def mark_as_failure(self, task_id: str, exc: BaseException, *args: Any, **kwargs: Any) -> Any:
        """Store a failure, unless it is an accident.

        Raises Reject if the broker or the result backend is away: the leg is run again.
        """
        if isinstance(exc, Reject):
            return None  # raised by mark_as_done: the leg is put off
        if isinstance(exc, _CUT_OFF):
            log.warning("leg_cut_off", job_id=task_id, error=repr(exc))
            return None
        if isinstance(exc, TRANSIENT):
            log.warning("leg_to_run_again", job_id=task_id, error=repr(exc))
            raise Reject(repr(exc), requeue=True)
        with self._counting(task_id, kwargs.get("request")):
            return self._backend.mark_as_failure(task_id, exc, *args, **kwargs)

    def _leave_claimed(self, task_id: str, claim: bytes | None) -> None:
        """Put a leg off that runs again while its chord is being ended.

        Closes the race with Celery's own claim, which the last job of a header takes to publish
        the body, or to fail it. If its worker dies there and the leg runs again at once, Celery
        sees the dead worker's claim and does nothing, and the chord would never end. The claim
        expires after some seconds. A leg that runs for the first time is not counted yet, so its
        chord is not complete, and nobody can have claimed it.
        """
        if claim not in {None, b"done"}:
            raise Reject("its chord is claimed", requeue=False)


class StepBackend(ChordBackend):
    """A plain step's result backend: a step that was not counted for its chord is counted later.

    Its message goes back to the queue and comes again, marked as redelivered.
    """

    def mark_as_done(
        self, task_id: str, result: Any, request: Any = None, *args: Any, **kwargs: Any
    ) -> Any:
        """Store a result.

        Raises Reject (requeued) if the step could not be counted for its chord.
        """
        if not (request and request.chord):
            return self._backend.mark_as_done(task_id, result, request, *args, **kwargs)
        try:
            with self._counting(task_id, request):
                return self._backend.mark_as_done(task_id, result, request, *args, **kwargs)
        except TRANSIENT as error:
            log.warning("step_to_be_counted_again", task_id=task_id, error=told(error))
            raise Reject(told(error), requeue=True) from None

    def count_again(self, task_id: str, request: Any) -> bool:
        """Count a step for its chord if its result is stored; says whether it is.

        Raises Reject (requeued) if it could not be counted.
        """
        try:
            stored = self._backend.get_task_meta(task_id)
            if stored["status"] != SUCCESS:
                return False
            with self._counting(task_id, request):
                self._backend.on_chord_part_return(request, SUCCESS, stored["result"])
        except TRANSIENT as error:
            raise Reject(told(error), requeue=True) from None
        return True

    def _leave_claimed(self, task_id: str, claim: bytes | None) -> None:
        """Put a step off that comes again while its chord is being ended, as for a job's leg."""
        if claim not in {None, b"done"}:
            log.warning("step_to_be_counted_again", task_id=task_id, why="its chord is claimed")
            # The broker delivers a requeued message at once: without a pause it would spin.
            time.sleep(CLAIMED_PAUSE_SECONDS)
            raise Reject("its chord is claimed", requeue=True)
