"""The settler writes what resumed legs leave behind, for many jobs in one round trip.

A leg that has ended leaves a result to be stored and a job to be settled. Written by each leg for
itself, the two take more CPU than all the rest of the leg. So the leg only notes them in its
``Ended``, and its conductor hands that to the worker's settler. The thread that finds nobody
writing writes whatever the threads have handed over: first all results, then all settlements, then
it tells monitors. A leg that is alone waits for nobody.

Celery has published the leg's next step by then. If the worker dies before a settlement is written,
another conductor runs the leg again, as if it had died in it.
"""

import contextlib
import threading
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Final

import structlog
from celery.backends.redis import RedisBackend, SentinelBackend
from celery.states import SUCCESS

from worker.core.job.models import JobId, JSONObject, Leased, Settlement
from worker.engine.settle import Settlements

log = structlog.get_logger()

_RETRIES: Final = 10
"""A result backend that is restarted is back within as many seconds."""


@dataclass(frozen=True, slots=True)
class Result:
    """A result as it will stand in Celery's result backend."""

    backend: Any = field(repr=False)
    """Celery's, on Redis."""
    key: Any
    text: Any


@dataclass(slots=True)
class Ended:
    """What a leg leaves behind."""

    job: Leased
    result: Result | None = None
    """None if Celery has stored it, or stores none."""
    settlement: Settlement | None = None
    """None if the leg has not come to its end."""
    event: tuple[str, JSONObject] | None = None
    """What monitors are told: the kind of a Celery event, and its fields."""

    @property
    def job_id(self) -> JobId:
        return self.job.job_id


in_hand: Final[ContextVar[Ended | None]] = ContextVar("in_hand", default=None)
"""What the resumed leg of this thread leaves behind; None outside of a resumed leg."""


def is_celerys_own(backend: Any) -> bool:
    """Say whether a result may be stored as Celery's backend on Redis would; a subclass may not."""
    return type(backend) in {RedisBackend, SentinelBackend}


def result_of(backend: Any, task_id: str, result: Any, request: Any) -> Result:
    """Return a task's result as Celery would store it (celery.backends.base, ``_store_result``).

    Celery first looks whether a success is stored already, for a task may run in two workers at
    once. A leased job's leg does not.
    """
    encoded = backend.encode_result(result, SUCCESS)
    meta = backend._get_result_meta(result=encoded, state=SUCCESS, traceback=None, request=request)
    text = backend.encode({**meta, "task_id": task_id})
    return Result(backend, backend.get_key_for_task(task_id), text)


class Settler:
    """Writes what the legs of one worker leave behind.

    Args:
        put_off: is called with a job whose result cannot be stored, and why.
        done: is called with each leg for which nothing is left to do, settled or not.
    """

    def __init__(
        self,
        settlements: Settlements,
        *,
        put_off: Callable[[Leased, Exception], None],
        done: Callable[[Ended], None],
    ) -> None:
        self._settlements = settlements
        self._put_off = put_off
        self._done = done
        self._lock = threading.Lock()
        self._handed_over: list[Ended] = []
        self._is_writing = False

    def settle(self, ended: Ended) -> list[Ended]:
        """Write what a leg leaves behind, unless another thread is writing: that one will.

        Returns the legs whose jobs could not be settled now: the caller is to insist on them. By
        then others can write, for what keeps these jobs may concern them alone.
        """
        left: list[Ended] = []
        with self._lock:
            self._handed_over.append(ended)
            if self._is_writing:
                return left
            self._is_writing = True
        while taken := self._take():
            left += self._write(taken)
        return left

    def insist(self, legs: Sequence[Ended]) -> None:
        """Settle the jobs that :meth:`settle` has left, however long Redis refuses them."""
        try:
            self._settlements.settle(_settlements(legs))
        except Exception:
            # The leases end by themselves, and the next runs of the legs settle their jobs.
            _report("settle_postponed", job_ids=[each.job_id for each in legs])
        finally:
            self._let_go(legs)

    def _take(self) -> list[Ended]:
        with self._lock:
            taken, self._handed_over = self._handed_over, []
            self._is_writing = bool(taken)
        return taken

    def _write(self, legs: Sequence[Ended]) -> list[Ended]:
        """Store results and settle jobs; returns the legs whose jobs could not be settled now."""
        try:
            stored = self._store(legs)
            left, _ = self._settlements.try_to_settle(_settlements(stored))
        except Exception:  # or nobody would ever write again
            _report("settle_postponed", job_ids=[each.job_id for each in legs])
            return self._let_go(legs)
        unsettled = {each.job_id for each in left}
        self._let_go([each for each in stored if each.job_id not in unsettled])
        return [each for each in stored if each.job_id in unsettled]

    def _store(self, legs: Sequence[Ended]) -> list[Ended]:
        """Store results; returns the legs that have none left to store."""
        results = [each.result for each in legs if each.result]
        if not results:
            return list(legs)
        errors = iter(_store(results))
        stored = []
        for each in legs:
            if each.result and (error := next(errors)):
                self._put_off(each.job, error)
                each.event = None  # the leg runs again, and monitors are told of that run
                self._let_go([each])
            else:
                stored.append(each)
        return stored

    def _let_go(self, legs: Sequence[Ended]) -> list[Ended]:
        for each in legs:
            try:
                self._done(each)
            except Exception:  # a monitor's fault is not worth the settlement of other jobs
                _report("monitors_untold", job_id=each.job_id)
        return []


def _report(event: str, **fields: Any) -> None:
    with contextlib.suppress(Exception):  # a log's fault, as of a full disk, is not either
        log.exception(event, **fields)


def _settlements(legs: Sequence[Ended]) -> list[Settlement]:
    return [each.settlement for each in legs if each.settlement]


def _store(results: Sequence[Result]) -> list[Exception | None]:
    """Store results in one round trip; returns for each the error by which it is not stored."""
    backend = results[0].backend  # that of the application: all tasks have the same

    def write() -> list[Any]:
        with backend.client.pipeline(transaction=False) as pipe:
            for each in results:
                pipe.set(each.key, each.text, ex=backend.expires or None)
                pipe.publish(each.key, each.text)
            replies: list[Any] = pipe.execute(raise_on_error=False)
            return replies

    try:
        replies = backend.ensure(write, (), max_retries=_RETRIES)
    except Exception as error:
        return [error] * len(results)
    return [reply if isinstance(reply, Exception) else None for reply in replies[::2]]
