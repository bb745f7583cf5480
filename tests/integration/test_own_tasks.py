"""A user's own tasks in a Fermata worker: their limits, their deaths, what they publish beside."""

from collections.abc import Iterator
from typing import Any

import pytest
from billiard.exceptions import WorkerLostError
from celery import Celery
from celery.canvas import Signature

from fermata_client import Fermata
from tests.integration.conftest import Flows
from tests.integration.flow import GET_SECONDS, Flow, clip, who
from tests.integration.test_gotchas import Heard, heard  # noqa: F401  (a fixture)
from tests.integration.test_recording import through
from tests.system import System, wait_until
from worker.app.plain_task import DEATHS
from worker.core.errors import JobCancelled, ProcessDied
from worker.settings import Role, load
from worker.wiring.producer import open_producer

IN_ITSELF = ["threads", "solo"]
"""Pools that run tasks in the worker's own process, and here one at a time: their queues' names."""


def on(*brokers: str) -> pytest.MarkDecorator:
    """Choose the brokers of a test. On RabbitMQ, Celery notices a death only after 5 s."""
    return pytest.mark.parametrize("system", brokers, indirect=True, scope="module")


@pytest.fixture(scope="module")
def system(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[System]:
    rabbitmq = request.param == "RabbitMQ"
    with System(tmp_path_factory.mktemp("own"), rabbitmq=rabbitmq) as system:
        system.worker(app="tests.own_app", pool="prefork", concurrency=2)
        for pool in IN_ITSELF:
            system.worker(pool, app="tests.own_app", pool=pool, concurrency=1, queues=pool)
        yield system


@pytest.fixture(scope="module")
def flows(system: System) -> Iterator[Flows]:
    flows = Flows(system)
    yield flows
    flows.close()


@pytest.fixture
def producer(system: System, monkeypatch: pytest.MonkeyPatch) -> Celery:
    """Our own producer, in a backend that Flower watches."""
    for name, value in system.environment.items():
        monkeypatch.setenv(name, value)
    app = open_producer(load(Role.CLIENT))
    app.conf.task_send_sent_event = True
    return app


def own(flow: Flow, name: str, *value: Any, runs: int = 1) -> Signature[Any]:
    return flow._plain(f"own.{name}", value, runs, {})


@on("Redis")
@pytest.mark.parametrize("name", ["limited", "patient"])
def test_a_task_with_a_limit_of_its_own_follows_a_job(flow: Flow, name: str) -> None:
    job = flow.job(clip())

    result = (job | own(flow, name)).apply_async().get(timeout=GET_SECONDS)

    assert who(result) == job.id
    flow.ends()


@on("Redis", "RabbitMQ")
def test_a_task_that_kills_its_process_each_time_fails_in_the_end(flow: Flow) -> None:
    deadly, errback = own(flow, "deadly", runs=DEATHS), flow.errback()

    result = (flow.job(clip()) | deadly).on_error(errback).apply_async()

    with pytest.raises(ProcessDied, match=f"begun {DEATHS} times"):
        result.get(timeout=GET_SECONDS)
    flow.quiet()
    flow.ends()
    assert flow.ran(errback) == ["ProcessDied"]


@on("Redis")
def test_one_that_kills_it_twice_ends_well_and_its_deaths_are_forgotten(flow: Flow) -> None:
    deadly = own(flow, "deadly", runs=DEATHS)
    deadly.kwargs["deaths"] = DEATHS - 1

    result = (flow.job(clip()) | deadly).apply_async()

    assert who(result.get(timeout=GET_SECONDS)) == flow.jobs[0]
    flow.ends()
    flow.quiet()
    assert not flow.redis.exists(f"fermata:deaths:{result.id}:0")


@on("Redis")
@pytest.mark.parametrize("name", ["deadly_once", "deadly_and_resigned"])
def test_a_task_that_says_so_itself_runs_once(flow: Flow, name: str) -> None:
    deadly = own(flow, name, "alone")

    result = deadly.apply_async()

    with pytest.raises(WorkerLostError):
        result.get(timeout=GET_SECONDS)
    flow.quiet()
    flow.ends()


@on("Redis", "RabbitMQ")
@pytest.mark.parametrize("queue", ["fermata", *IN_ITSELF])
def test_a_task_that_exits_each_time_fails_in_the_end_and_gives_its_slot_back(
    flow: Flow, queue: str
) -> None:
    exiting, errback = own(flow, "exiting", runs=DEATHS), flow.errback()

    result = (flow.job(clip()) | exiting.set(queue=queue)).on_error(errback).apply_async()

    with pytest.raises(ProcessDied, match=f"begun {DEATHS} times"):
        result.get(timeout=GET_SECONDS)
    after = flow.note("after", queue=queue).apply_async()
    assert after.get(timeout=GET_SECONDS) == "after"
    flow.ends()
    assert flow.ran(errback) == ["ProcessDied"]


@on("Redis", "RabbitMQ")
def test_a_task_in_a_thread_goes_on_when_it_is_terminated_and_whoever_asks_is_told(
    flow: Flow,
) -> None:
    lingering = own(flow, "lingering")
    result = lingering.set(queue="threads").apply_async()
    wait_until(lambda: flow.ran(lingering), what="it runs")

    node: dict[str, Any] = {"destination": ["threads@test"], "reply": True}
    control: Any = flow.system.app.control
    [told] = control.revoke(result.id, terminate=True, timeout=GET_SECONDS, limit=1, **node)

    assert "cannot be terminated" in told["threads@test"]["error"]
    flow.redis.rpush(f"test:told:{lingering.args[-1]}", "a word")
    assert result.get(timeout=GET_SECONDS) == "a word"
    flow.ends()


@on("Redis", "RabbitMQ")
def test_a_parked_job_is_cancelled_by_a_stamp_that_a_task_in_a_thread_has_too(flow: Flow) -> None:
    stamp: dict[str, Any] = {"stamped_headers": ["album"], "album": clip()}
    lingering, job = own(flow, "lingering"), flow.hold()
    busy = lingering.set(queue="threads", **stamp).apply_async()
    parked = job.set(**stamp).apply_async()
    wait_until(lambda: flow.ran(lingering), what="it runs")
    flow.waits(job.id)

    control: Any = flow.system.app.control
    node: dict[str, Any] = {"destination": ["threads@test"], "reply": True}
    by = {"album": stamp["album"]}
    [told] = control.revoke_by_stamped_headers(
        by, terminate=True, timeout=GET_SECONDS, limit=1, **node
    )

    assert "cannot be terminated" in told["threads@test"]["ok"]
    with pytest.raises(JobCancelled):
        parked.get(timeout=GET_SECONDS)
    flow.redis.rpush(f"test:told:{lingering.args[-1]}", "a word")
    assert busy.get(timeout=GET_SECONDS) == "a word"
    flow.ends()


@on("Redis")
def test_a_chord_whose_step_kills_its_process_each_time_ends(flow: Flow) -> None:
    errback = flow.errback()
    body = flow.note(runs=0).on_error(errback)
    header = [flow.job(clip()), own(flow, "deadly", "alone", runs=DEATHS)]

    result = flow.chord(header, body).apply_async()

    with pytest.raises(Exception, match=f"begun {DEATHS} times"):
        result.get(timeout=GET_SECONDS)
    flow.ends()


@on("Redis", "RabbitMQ")
def test_a_job_that_another_follows_is_told_to_monitors_as_sent_once(
    flow: Flow,
    heard: Heard,  # noqa: F811
    producer: Celery,
) -> None:
    first, second = flow.job(clip()), flow.job()

    result = through(producer, first | second | flow.note())

    assert who(result.get(timeout=GET_SECONDS)) == second.id
    flow.ends()
    flow.paid_once()
    for job in (first, second):
        wait_until(lambda j=job: "task-succeeded" in heard.of(j.id), what="its success is told")
        assert heard.of(job.id).count("task-sent") == 1


@on("Redis", "RabbitMQ")
def test_the_client_enqueues_through_an_application_that_tells_what_it_sends(flow: Flow) -> None:
    app = Celery(broker=flow.system.broker_url, set_as_current=False)
    app.conf.update(task_send_sent_event=True, result_backend="disabled")
    source = clip()
    flow.system.simulator.rule(source, latency_seconds=0.1)

    with app:
        job = Fermata(app, redis_url=flow.system.redis_url).enqueue(
            "sonic.remaster", source, mv="chirp-v5"
        )
        assert job.wait(GET_SECONDS)["job_id"] == job.id
