"""The threads beside a worker's tasks: each runs in the main process, and holds no slot.

Celery starts and stops each as a boot step of the worker: sweep, admission, conductor. Every worker
runs all of them, and leases in Redis keep two workers from doing the same work. A thread outlives
any error: it logs the error, pauses, and goes on.
"""

import threading
import time
from typing import Any, Final

import structlog
from celery import bootsteps

from worker import tracing
from worker.app import monitors, startup
from worker.app.conductor import RENEW_EVERY_SECONDS, STOP_SECONDS, Conductor, Legs
from worker.core.health.checks import SKEW_REFUSED_SECONDS, Risk
from worker.core.wording import told
from worker.engine.admit import LISTEN_SECONDS
from worker.settings import Settings
from worker.store import connection
from worker.store.agenda import Agenda
from worker.store.connection import StoreUnavailable

log = structlog.get_logger()

PAUSE_SECONDS: Final = 2.0
SOON_SECONDS: Final = 0.25
"""Below this, a thread waits by itself: Redis ends a blocking wait only at its next tenth of a
second."""


class Background(bootsteps.StartStopStep):
    """A thread of the worker's main process that repeats ``_work``."""

    # After the pool has forked: a child would inherit the locks that a thread holds, and never the
    # thread that frees them.
    requires = ("celery.worker.components:Pool",)

    def __init__(self, parent: Any, **options: Any) -> None:
        super().__init__(parent, **options)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=self.name, daemon=True)

    def start(self, parent: Any) -> None:
        # Open the parts here and not in the thread: a wrong setting must end the worker.
        self._parts = startup.parts()
        self._thread.start()

    def stop(self, parent: Any) -> None:
        self._stopping.set()

    def _run(self) -> None:
        wait = 0.0
        with tracing.suppressed():
            while not self._stopping.wait(wait):
                wait = self._work_on()

    def _work_on(self) -> float:
        try:
            return self._work()
        except StoreUnavailable as error:
            log.warning("background_paused", step=self.name, error=told(error))
        except Exception:  # a thread that ends would leave its work undone in silence
            log.exception("background_failed", step=self.name)
        return PAUSE_SECONDS

    def _work(self) -> float:
        """Do the work that is due; returns the seconds until it is to be called again."""
        raise NotImplementedError


class SweepStep(Background):
    """Sweeps every ``FERMATA_SWEEP_EVERY_SECONDS``. Every worker does, so no beat is needed."""

    def _work(self) -> float:
        if self._clock_is_off():
            return PAUSE_SECONDS
        while self._parts.sweep.run_once() and not self._stopping.is_set():
            pass
        self._parts.sweep.forget()
        self._parts.treasury.refresh()
        return self._parts.settings.sweep_every_seconds

    def _clock_is_off(self) -> bool:
        """Say whether this machine's clock is so wrong that a sweep would expire jobs too early.

        The start-up checks the clock too, but a clock can be set, or a machine be suspended, later.
        Meanwhile any other worker can sweep.
        """
        off = abs(time.time() - self._parts.agenda.clock())
        if off <= SKEW_REFUSED_SECONDS or Risk.CLOCK in self._parts.settings.allowed_risks:
            return False
        log.error("sweep_paused", why="the clock differs from Redis's", seconds=round(off))
        return True


class AdmissionStep(Background):
    """Admits jobs that wait before the gate as soon as it opens."""

    def _work(self) -> float:
        wait = self._parts.admissions.run_once()
        if wait < SOON_SECONDS:
            return wait
        # The wait must end well within the socket's timeout, and before the gate opens: the last
        # part is waited for here, where it can be exact.
        patience = self._parts.settings.redis_timeout_seconds / 2
        self._parts.gate.listen(min(wait - SOON_SECONDS / 2, LISTEN_SECONDS, patience))
        return 0


class ConductorStep(Background):
    """The worker's conductor, and a thread beside it that renews its leases."""

    _conductor: Conductor

    def __init__(self, parent: Any, **options: Any) -> None:
        super().__init__(parent, **options)
        self._ended = threading.Event()
        self._tending = threading.Thread(target=self._tend, name="fermata-leases", daemon=True)

    def start(self, parent: Any) -> None:
        parts = startup.parts()
        self._conductor = Conductor(
            Legs(parent.app, parent.hostname, monitors.attend(parent)),
            parts.settlements,
            parts.agenda,
            _for_leases(parts.settings),
            parent.hostname,
            patience_seconds=parts.settings.redis_timeout_seconds,
        )
        self._tending.start()
        super().start(parent)

    def _tend(self) -> None:
        wait = RENEW_EVERY_SECONDS
        while not self._ended.wait(wait):
            try:
                with tracing.suppressed():
                    self._conductor.tend()
                wait = RENEW_EVERY_SECONDS
            except Exception as error:  # without this thread, every lease would end under its leg
                log.warning("leases_unrenewed", error=told(error))
                wait = RENEW_EVERY_SECONDS / 5

    def _work(self) -> float:
        self._conductor.run_once()
        return 0.0

    def stop(self, parent: Any) -> None:
        super().stop(parent)
        self._thread.join(STOP_SECONDS)  # or it would lease jobs that nobody is left to run
        # The leases are renewed until the legs that run have ended.
        self._conductor.stop()
        self._ended.set()


def _for_leases(settings: Settings) -> Agenda:
    """Open an agenda whose timeout leaves time to renew a lease at least twice before it ends."""
    patience = min(settings.redis_timeout_seconds, RENEW_EVERY_SECONDS)
    return Agenda(connection.connect(settings.redis_url, timeout_seconds=patience, retries=0))
