"""What a worker does beside its tasks, in threads of its main process: no slot is held for it."""

import threading
import time
from typing import Any, Final

import structlog
from celery import bootsteps

from worker.app import startup
from worker.core.health.checks import SKEW_REFUSED_SECONDS, Risk
from worker.core.wording import told
from worker.engine.admit import LISTEN_SECONDS
from worker.store.connection import StoreUnavailable

log = structlog.get_logger()

PAUSE_SECONDS: Final = 2.0
SOON_SECONDS: Final = 0.25
"""Redis looks at who waits for a list ten times a second; a thread can be more punctual."""


class Background(bootsteps.StartStopStep):
    """One such thread."""

    # After the pool has forked: a thread does not survive a fork, the locks it holds do.
    requires = ("celery.worker.components:Pool",)

    def __init__(self, parent: Any, **options: Any) -> None:
        super().__init__(parent, **options)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=self.name, daemon=True)

    def start(self, parent: Any) -> None:
        # Read here, so that a worker with a wrong setting refuses to start.
        self._parts = startup.parts()
        self._thread.start()

    def stop(self, parent: Any) -> None:
        self._stopping.set()

    def _run(self) -> None:
        wait = 0.0
        while not self._stopping.wait(wait):
            try:
                wait = self._work()
            except StoreUnavailable as error:
                log.warning("background_paused", step=self.name, error=told(error))
                wait = PAUSE_SECONDS
            except Exception:
                log.exception("background_failed", step=self.name)
                wait = PAUSE_SECONDS

    def _work(self) -> float:
        """Do what there is to do; returns the seconds until it is looked at again."""
        raise NotImplementedError


class SweepStep(Background):
    """Sweeps; no beat is needed."""

    def _work(self) -> float:
        if self._clock_is_off():
            return PAUSE_SECONDS
        while self._parts.sweep.run_once() and not self._stopping.is_set():
            pass
        self._parts.sweep.forget()
        self._parts.treasury.refresh()
        return self._parts.settings.sweep_every_seconds

    def _clock_is_off(self) -> bool:
        """Say whether a worker whose clock was set, or stood still, would expire what is not due.

        Its start-up looks at the clock too, but only once; any other worker can sweep.
        """
        off = abs(time.time() - self._parts.agenda.clock())
        if off <= SKEW_REFUSED_SECONDS or Risk.CLOCK in self._parts.settings.allowed_risks:
            return False
        log.error("sweep_paused", why="the clock differs from Redis's", seconds=round(off))
        return True


class AdmissionStep(Background):
    """Admits jobs that wait before the gate, at the moment at which it opens."""

    def _work(self) -> float:
        wait = self._parts.admissions.run_once()
        if wait < SOON_SECONDS:
            return wait
        # Well within the time that Redis has to answer, and not up to the moment itself.
        patience = self._parts.settings.redis_timeout_seconds / 2
        self._parts.gate.listen(min(wait - SOON_SECONDS / 2, LISTEN_SECONDS, patience))
        return 0
