"""A conductor's own decisions: what it puts off, gives back and waits for. No Redis is asked."""

import asyncio
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest
from celery import Celery
from kombu.exceptions import OperationalError

from tests.job import pressed
from tests.system import wait_until
from worker.app import conductor as conductor_module
from worker.app import startup
from worker.app.background import ConductorStep
from worker.app.conductor import AT_ONCE, MOST_ASIDE, THREADS, Conductor, Legs
from worker.app.monitors import Monitors
from worker.app.settler import Ended
from worker.core.contract import task_name
from worker.core.job.models import Event, JobId, Leased, Settlement, Source
from worker.core.job.states import Turn
from worker.store.connection import StoreUnavailable

EVENT = Event(Source.WEBHOOK, body="{}")
PAUSES = "sonic.remaster"


class Ready:
    """The jobs that are ready, in memory."""

    def __init__(self, *jobs: Leased) -> None:
        self.jobs = list(jobs)
        self.leased: list[str] = []
        self.renewed: list[tuple[list[str], float]] = []
        self.is_away = False

    def lease(self, *, seconds: float, limit: int) -> list[Leased]:
        leased, self.jobs = self.jobs[:limit], self.jobs[limit:]
        self.leased += [job.job_id for job in leased]
        return leased

    def renew(self, job_ids: Iterable[JobId], *, seconds: float) -> None:
        self.renewed.append((list(job_ids), seconds))
        if self.is_away:
            raise StoreUnavailable("it is away")

    def wait_for_ready(self, seconds: float) -> None:
        pass

    def sign_of_life(self, worker: str) -> None:
        pass


class Worker:
    """What a conductor is given of its worker; legs of one operation last until they may end."""

    hostname = "worker@test"

    def __init__(self) -> None:
        self.consumer: Any = None
        self.may_end = threading.Event()
        self.begun: list[Any] = []
        self.settlements = Mock()
        self.app = Celery(set_as_current=False, backend="cache+memory://")
        self.legs = Legs(self.app, self.hostname, Monitors(self))

        @self.app.task(name=task_name(PAUSES), bind=True, shared=False)
        def pauses(task: Any) -> None:
            self.begun.append(task.request.id)
            self.may_end.wait(60)

    def conductor(self, ready: Any) -> Conductor:
        return Conductor(
            self.legs, self.settlements, ready, ready, self.hostname, patience_seconds=1
        )

    def pausing(self, job_id: str) -> Leased:
        message = pressed(self.app.signature(task_name(PAUSES), task_id=job_id)).message
        return Leased(JobId(job_id), PAUSES, message, EVENT, 1)


@pytest.fixture
def worker() -> Iterator[Worker]:
    worker = Worker()
    yield worker
    worker.may_end.set()


def broken(job_id: str = "job", *, claims: int = 1) -> Leased:
    """A job whose task this worker does not have."""
    return Leased(JobId(job_id), "sonic.unheard_of", "", EVENT, claims)


@pytest.mark.parametrize(("claims", "seconds"), [(1, 2), (3, 8), (9, 300), (5000, 300)])
def test_a_job_that_cannot_be_resumed_is_put_off_ever_longer_up_to_five_minutes(
    worker: Worker, claims: int, seconds: float
) -> None:
    ready = Ready(broken(claims=claims))
    worker.conductor(ready).run_once()
    wait_until(lambda: ready.renewed == [(["job"], seconds)], what="it is put off")


def test_jobs_that_cannot_be_put_off_either_stop_no_thread(worker: Worker) -> None:
    ready = Ready(*(broken(f"broken-{number}") for number in range(2 * AT_ONCE)))
    ready.is_away = True
    conductor = worker.conductor(ready)
    while ready.jobs:
        conductor.run_once()
    wait_until(lambda: len(ready.renewed) == 2 * AT_ONCE, what="all are tried")


def test_a_conductor_that_stops_gives_back_what_it_has_not_begun(worker: Worker) -> None:
    ready = Ready(*(worker.pausing(f"job-{number}") for number in range(2 * AT_ONCE)))
    conductor = worker.conductor(ready)
    conductor.run_once()
    wait_until(lambda: len(worker.begun) == THREADS, what="as many are begun as there are threads")

    with ThreadPoolExecutor(1) as stopping:
        stopped = stopping.submit(conductor.stop)
        wait_until(
            lambda: (ready.leased[THREADS:], 0) in ready.renewed, what="the rest is another's"
        )
        assert not stopped.done()
        worker.may_end.set()
        stopped.result(5)

    assert len(ready.leased) == AT_ONCE
    assert sorted(worker.begun) == sorted(ready.leased[:THREADS])


def test_a_job_that_is_in_hand_already_is_not_run_a_second_time(worker: Worker) -> None:
    """A worker that stood still finds its own lease at its end."""
    job = worker.pausing("job")
    ready = Ready(job)
    conductor = worker.conductor(ready)
    conductor.run_once()
    ready.jobs = [job]
    conductor.run_once()
    worker.may_end.set()
    conductor.stop()
    assert (ready.leased, worker.begun) == (["job", "job"], ["job"])


def test_a_monitor_that_cannot_be_told_puts_no_job_off(worker: Worker) -> None:
    ready, away = Ready(worker.pausing("job")), Mock(side_effect=OperationalError("it is away"))
    conductor = worker.conductor(ready)
    worker.consumer = Mock(event_dispatcher=Mock(enabled=True, groups=None, send=away))
    worker.may_end.set()
    conductor.run_once()
    wait_until(lambda: away.called, what="the leg has ended")
    conductor.stop()
    assert ready.renewed == []


@pytest.mark.parametrize("error", [SystemExit, asyncio.CancelledError])
def test_a_leg_that_would_end_its_thread_is_put_off_and_the_thread_goes_on(
    monkeypatch: pytest.MonkeyPatch, worker: Worker, error: type[BaseException]
) -> None:
    ready = Ready(*(worker.pausing(f"job-{number}") for number in range(2 * AT_ONCE)))
    conductor = worker.conductor(ready)
    monkeypatch.setattr(worker.legs, "run", Mock(side_effect=error))
    while ready.jobs:
        conductor.run_once()
    wait_until(lambda: len(ready.renewed) == 2 * AT_ONCE, what="all are put off")


def test_legs_that_never_end_keep_nobody_waiting(
    monkeypatch: pytest.MonkeyPatch, worker: Worker
) -> None:
    monkeypatch.setattr(conductor_module, "LONG_SECONDS", 0.0)
    monkeypatch.setattr(conductor_module, "LISTEN_SECONDS", 0.01)
    ready = Ready(*(worker.pausing(f"job-{number}") for number in range(2 * AT_ONCE)))
    conductor = worker.conductor(ready)
    while len(worker.begun) < 2 * AT_ONCE:
        conductor.run_once()
        conductor.tend()
    assert sorted(worker.begun) == sorted(ready.leased)


def test_with_too_many_legs_that_never_end_the_others_are_given_back(
    monkeypatch: pytest.MonkeyPatch, worker: Worker
) -> None:
    monkeypatch.setattr(conductor_module, "LONG_SECONDS", 0.0)
    monkeypatch.setattr(conductor_module, "LISTEN_SECONDS", 0.01)
    jobs = [worker.pausing(f"job-{number}") for number in range(MOST_ASIDE + AT_ONCE)]
    ready = Ready(*jobs)
    conductor = worker.conductor(ready)
    while len(worker.begun) < MOST_ASIDE:
        conductor.run_once()
        conductor.tend()

    def none_waits() -> bool:
        conductor.tend()
        given_back = {job_id for ids, seconds in ready.renewed if seconds == 0 for job_id in ids}
        return {*ready.leased} - {*worker.begun} == given_back

    wait_until(none_waits, what="what waits is given back")
    conductor.tend()
    assert {*ready.renewed[-1][0]} == {*worker.begun}


def test_jobs_that_cannot_be_settled_keep_no_other_from_being_settled(
    monkeypatch: pytest.MonkeyPatch, worker: Worker
) -> None:
    settled: list[str] = []

    def run(ended: Ended) -> None:
        ended.settlement = Settlement(ended.job_id, Turn.SUCCEED, "", {}, [], {})

    def try_to_settle(settlements: Sequence[Settlement]) -> Any:
        settled.extend(each.job_id for each in settlements)
        return [each for each in settlements if each.job_id.startswith("refused")], None

    def settle(settlements: Sequence[Settlement]) -> None:
        worker.may_end.wait(60)

    monkeypatch.setattr(worker.legs, "run", run)
    monkeypatch.setattr(conductor_module, "LISTEN_SECONDS", 0.01)
    worker.settlements.try_to_settle, worker.settlements.settle = try_to_settle, settle
    ready = Ready(*(worker.pausing(f"refused-{number}") for number in range(2 * AT_ONCE)))
    ready.jobs.append(worker.pausing("good"))
    conductor = worker.conductor(ready)

    def is_settled() -> bool:
        conductor.run_once()
        return "good" in settled

    wait_until(is_settled, what="the last job is settled")


class Slow(Ready):
    """A Redis that takes its time."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = self.answered = 0

    def lease(self, *, seconds: float, limit: int) -> list[Leased]:
        self.asked += 1
        time.sleep(0.3)
        self.answered += 1
        return []


def test_a_worker_that_stops_waits_for_the_lease_that_it_has_asked_for(
    monkeypatch: pytest.MonkeyPatch, worker: Worker
) -> None:
    slow = Slow()
    settings = SimpleNamespace(redis_timeout_seconds=1, redis_url="redis://127.0.0.1:1")
    parts = SimpleNamespace(agenda=slow, settings=settings, settlements=Mock())
    monkeypatch.setattr(startup, "parts", lambda: parts)
    step = ConductorStep(worker)
    step.start(worker)
    wait_until(lambda: slow.asked, what="a lease is asked for")

    step.stop(worker)

    assert slow.answered == slow.asked
