"""Conductors of real workers: killed, stopped, hindered, watched, and after an upgrade."""

import json
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from signal import SIGTERM
from typing import Any
from unittest.mock import Mock

import pytest
from celery import Celery
from celery.events.state import State

from tests.conducted_app import DAWDLES, PAUSES
from tests.integration.conftest import Flows
from tests.integration.flow import GET_SECONDS, Flow, clip, completed, failed, who
from tests.launcher import Started
from tests.system import System, stop, wait_until, within
from worker.app.conductor import LEASE_SECONDS, STOP_SECONDS, THREADS, Conductor, Legs
from worker.app.monitors import Monitors
from worker.core import keys
from worker.core.contract import QUEUE
from worker.store import connection
from worker.store.agenda import Agenda
from worker.store.embedded import EmbeddedValkey

FOR_EVER = 600
PATIENT: dict[str, Any] = {"FERMATA_POLL_FIRST_SECONDS": "600"}
"""Nothing is polled: a job goes on by its webhook alone."""


@pytest.fixture(scope="module")
def conducted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """A system without workers: each test starts its own."""
    with System(tmp_path_factory.mktemp("conducted"), **PATIENT) as system:
        yield system


@pytest.fixture
def flow(conducted: System) -> Iterator[Flow]:
    flows = Flows(conducted)
    yield flows.open()
    flows.close()


Start = Callable[..., Started]


@pytest.fixture
def start(conducted: System) -> Iterator[Start]:
    """Starts workers; what is left of them at the end is stopped."""
    workers = []

    def start(name: str = "worker", queues: str = QUEUE) -> Started:
        (conducted.folder / f"{name}.log").write_bytes(b"")
        workers.append(conducted.worker(name, app="tests.conducted_app", queues=queues))
        return workers[-1]

    yield start
    for worker in workers:
        stop(worker)


def leg_begins(flow: Flow, job_id: str, *, pause: float) -> None:
    """Let a parked job be resumed, and its leg pause where it begins."""
    flow.waits(job_id)
    flow.redis.hset(PAUSES, job_id, pause)
    flow.deliver(job_id, completed())
    wait_until(lambda: not flow.redis.hexists(PAUSES, job_id), what="its leg has begun")


def claimed(flow: Flow, start: Start, jobs: int, *, then: str) -> list[Any]:
    """Jobs whose webhooks came while there was no worker; their next steps go to a queue."""
    worker = start()
    held = [flow.hold() for _ in range(jobs)]
    for job in held:
        (job | flow.note(queue=then)).apply_async()
    for job in held:
        flow.waits(job.id)
    flow.quiet()
    stop(worker)
    for job in held:
        assert flow.deliver(job.id, completed()).json() == {"status": "resumed"}
    return held


def test_a_job_whose_worker_is_killed_in_its_resumed_leg_is_resumed_within_15_seconds(
    flow: Flow, start: Start
) -> None:
    doomed = start("doomed")
    job = flow.hold()
    result = (job | flow.note()).apply_async()
    leg_begins(flow, job.id, pause=FOR_EVER)
    start("heir")

    stop(doomed, kill=True)
    with within(15):
        assert who(result.get(timeout=GET_SECONDS)) == job.id
    flow.ends()
    assert flow.record(job.id).claims == 2


def test_a_leg_that_takes_longer_than_a_lease_stays_with_its_conductor(
    flow: Flow, start: Start
) -> None:
    start("one")
    start("another")
    job = flow.hold()
    result = (job | flow.note()).apply_async()
    leg_begins(flow, job.id, pause=2 * LEASE_SECONDS)

    assert who(result.get(timeout=2 * GET_SECONDS)) == job.id

    flow.ends()
    assert flow.record(job.id).claims == 1


def test_a_worker_that_is_stopped_amid_200_resumptions_loses_none(flow: Flow, start: Start) -> None:
    # A pool with work in hand may need 30 s to end (billiard, _ensure_messages_consumed).
    jobs = claimed(flow, start, 200, then="heirs")
    flow.redis.hset(PAUSES, mapping={job.id: 0.15 for job in jobs})
    stopped = start("stopped")
    wait_until(lambda: flow.redis.zcard(keys.READY) < 180, what="some are resumed")

    stopped.send_signal(SIGTERM)
    assert stopped.wait(2 * STOP_SECONDS) == 0

    left = {job.id for job in jobs if flow.state(job.id) == "resuming"}
    assert left
    assert set(flow.redis.zrange(keys.READY, 0, -1)) == left
    # The jobs that it had leased and not begun are another's at once.
    assert flow.redis.zcount(keys.READY, "-inf", flow.system.agenda.clock()) == len(left)
    flow.redis.delete(PAUSES)
    start("heir", queues=f"{QUEUE},heirs")
    flow.ends()
    flow.paid_once()


@contextmanager
def no_queue(flow: Flow, job_id: str) -> Iterator[None]:
    """The broker refuses the next step."""
    flow.redis.set(f"refused.{job_id}", "no list")
    yield
    flow.redis.delete(f"refused.{job_id}")


@contextmanager
def no_result(flow: Flow, job_id: str) -> Iterator[None]:
    """The result backend refuses the result of jobs whose ids begin as this one's."""
    begin, rights = job_id[0], flow.redis
    keys_but_one = [f"~celery-task-meta-[^{begin}]*", "~[^c]*", "~c[^e]*", "~celery-taskset*"]
    rights.acl_setuser("default", enabled=True, reset_keys=True, keys=[k[1:] for k in keys_but_one])
    yield
    rights.acl_setuser("default", enabled=True, keys=["*"])


@pytest.mark.parametrize("refuse", [no_queue, no_result])
def test_a_job_that_cannot_be_resumed_neither_stops_nor_slows_the_others(
    flow: Flow, start: Start, refuse: Callable[[Flow, str], AbstractContextManager[None]]
) -> None:
    start()
    stuck, step = flow.hold(task_id=f"x{uuid.uuid4()}"), flow.note()
    others = [flow.hold() | flow.note() for _ in range(40)]
    for canvas in (stuck | step.set(queue=f"refused.{stuck.id}"), *others):
        canvas.apply_async()
    for job_id in flow.jobs:
        flow.waits(job_id)
    with refuse(flow, stuck.id):
        flow.deliver(stuck.id, completed())
        wait_until(lambda: "leg_put_off" in flow.system.log("worker"), what="it is put off")

        other_ids = set(flow.jobs) - {stuck.id}
        for job_id in other_ids:
            flow.deliver(job_id, completed())
        wait_until(lambda: {*map(flow.state, other_ids)} == {"succeeded"}, seconds=5)
        assert (flow.state(stuck.id), flow.ran(step)) == ("resuming", [])

    control, late = flow.system.app.control, f"refused.{stuck.id}"
    wait_until(lambda: control.add_consumer(late, reply=True, timeout=5), what="it is read")
    flow.ends()


def test_errbacks_that_take_long_and_raise_hold_up_neither_other_jobs_nor_a_settlement(
    flow: Flow, start: Start
) -> None:
    start()
    failing, other = [flow.hold() for _ in range(2 * THREADS)], flow.hold()
    for job in failing:
        job.on_error(flow.system.app.signature("test.dawdle")).apply_async()
    result = (other | flow.note()).apply_async()
    for job_id in flow.jobs:
        flow.waits(job_id)
    for job in failing:
        flow.deliver(job.id, failed())
    called = [f"test:dawdled:{job.id}" for job in failing]
    wait_until(lambda: flow.redis.exists(*called) == len(called), what="all errbacks are called")

    flow.deliver(other.id, completed())
    assert who(result.get(timeout=GET_SECONDS)) == other.id
    leases: Any = flow.redis.zrange(keys.READY, 0, -1, withscores=True)
    leased_until = max(at for _, at in leases)
    renewed = (keys.READY, f"({leased_until}", "+inf")
    wait_until(lambda: flow.redis.zcount(*renewed) == len(failing), what="leases are renewed")

    flow.redis.rpush(DAWDLES, *called)
    flow.ends()
    assert {flow.state(job.id) for job in failing} == {"failed"}
    assert [flow.redis.lrange(key, 0, -1) for key in called] == [["TaskFailed"]] * len(called)


class Monitor:
    """What Flower would show: Celery's own view of the events of a system's workers."""

    def __init__(self, connection: Any, view: Any) -> None:
        self._connection = connection
        self._view = view

    def task(self, job_id: str) -> Any:
        with suppress(TimeoutError):
            while True:
                self._connection.drain_events(timeout=0.1)
        return self._view.tasks.get(job_id)


@pytest.fixture
def monitor(conducted: System) -> Iterator[Monitor]:
    view = State()
    with conducted.app.connection_for_read() as connection:
        receiver = conducted.app.events.Receiver(connection, handlers={"*": view.event})
        with receiver.consumer_context(wakeup=False) as (listening, _, _):
            monitor = Monitor(listening, view)
            monitor.task("nobody")  # kombu's Redis subscribes when it is first asked
            yield monitor


@pytest.mark.parametrize(
    ("event", "state"),
    [(completed(), "SUCCESS"), (failed(), "FAILURE")],
    ids=["success", "failure"],
)
def test_monitors_and_signals_see_how_a_job_ends(
    flow: Flow, start: Start, monitor: Monitor, event: Any, state: str
) -> None:
    start()
    job = flow.hold()
    result = job.apply_async()
    flow.waits(job.id)
    flow.quiet()
    flow.deliver(job.id, event)

    wait_until(lambda: monitor.task(job.id).state == state, what=f"Flower shows {state}")

    shown = monitor.task(job.id)
    assert (result.state, shown.hostname) == (state, "worker@test")
    assert ("TaskFailed" in (shown.exception or "")) is (state == "FAILURE")
    told = flow.redis.lrange(f"test:signals:{job.id}", 0, -1)
    assert told == ["prerun", "postrun", "prerun", state.lower(), "postrun"]


VERSION_05CBB30 = json.loads((Path(__file__).parent / "version_05cbb30.json").read_text())
"""Two chains as that version had written them, each a job and a step. No webhook had come for the
one job; the other was claimed, and its message pushed to the queue."""


def test_jobs_of_the_version_before_are_resumed_and_its_messages_do_no_harm(
    flow: Flow, start: Start
) -> None:
    for name, due_at in (("waiting", time.time() + 600), ("resuming", time.time() + 900)):
        job_id = f"{name}-of-05cbb30"
        flow.jobs.append(job_id)
        flow.expected_runs[job_id] = 1
        flow.redis.hset(keys.job(job_id), mapping=VERSION_05CBB30[name]["record"])
        flow.redis.zadd(keys.DUE, {job_id: due_at})
    # Each message three times: the one that version had pushed, and what its broker gave twice.
    messages = [VERSION_05CBB30[name]["record"]["parked"] for name in ("waiting", "resuming")]
    flow.redis.rpush(QUEUE, *messages * 3)

    start()
    flow.quiet()
    assert flow.state("waiting-of-05cbb30") == "waiting"
    flow.deliver("waiting-of-05cbb30", completed())

    flow.ends()
    flow.redis.rpush(QUEUE, *messages)
    flow.quiet()
    assert set(flow.runs().values()) == {1}
    assert {*map(flow.state, flow.jobs)} == {"succeeded"}
    assert not any(map(flow.accepted, flow.jobs))


def test_a_broker_in_a_database_of_its_own_works(tmp_path: Path) -> None:
    with System(tmp_path, one_database=False) as system:
        system.worker(app="tests.canvas_app")
        flows = Flows(system)
        flow = flows.open()
        job, following = flow.job(clip()), flow.job()
        result = (job | following | flow.note()).apply_async()
        assert who(result.get(timeout=GET_SECONDS)) == following.id
        flow.ends()
        flow.paid_once()
        flows.close()


def test_a_conductor_that_has_nothing_to_do_takes_that_for_no_outage(
    valkey: EmbeddedValkey,
) -> None:
    """A wait that outlasts the timeout would be one, and be followed by a pause."""
    agenda = Agenda(connection.connect(valkey.url, timeout_seconds=0.4, retries=0))
    legs = Legs(Celery(set_as_current=False), "worker@test", Monitors(None))
    conductor = Conductor(legs, Mock(), agenda, agenda, "worker@test", patience_seconds=0.4)
    conductor.run_once()
