"""RabbitMQ answers, and refuses what follows a job: an operator can mend that, and has a day."""

import re
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from celery.canvas import Signature
from kombu import Exchange, Queue

from tests.integration.conftest import Flows
from tests.integration.flow import GET_SECONDS, Flow, clip, who
from tests.system import System, wait_until
from worker.core import keys
from worker.core.errors import FollowUpRefused, InvalidRequest


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    with System(tmp_path_factory.mktemp("refused"), rabbitmq=True) as system:
        system.worker(app="tests.own_app")
        yield system


@pytest.fixture(scope="module")
def flows(system: System) -> Iterator[Flows]:
    flows = Flows(system)
    yield flows
    flows.close()


Refusal = Callable[[Flow, Signature[Any]], Callable[[], Any]]
"""Has RabbitMQ refuse a step; returns what mends that."""


def to_no_exchange(flow: Flow, step: Signature[Any]) -> Callable[[], Any]:
    name = f"missing-{clip()}"
    del step.options["queue"]
    step.options.update(exchange=name, routing_key="fermata")

    def mend() -> None:
        # In one step: RabbitMQ drops what comes to an exchange that has no queue yet.
        way = Exchange(f"{name}.way", "fanout")
        _declare(flow, Queue("fermata", way))
        _declare(flow, Exchange(name, arguments={"alternate-exchange": way.name}))

    return mend


def to_another_kind_of_exchange(flow: Flow, step: Signature[Any]) -> Callable[[], Any]:
    name = f"taken-{clip()}"
    _declare(flow, Exchange(name, "fanout"))
    step.options["queue"] = name

    def mend() -> None:
        with flow.system.app.connection_for_write() as connection:
            Exchange(name, channel=connection.default_channel).delete()

    return mend


def _declare(flow: Flow, entity: Any) -> None:
    with flow.system.app.connection_for_write() as connection:
        if isinstance(entity, Queue):
            entity(connection.default_channel).exchange.declare()
            entity(connection.default_channel).queue_bind()
        else:
            entity(connection.default_channel).declare()


def refused(flow: Flow, job_id: str, *, times: int = 1) -> str:
    """Wait until what follows a job was refused so often; returns why, as its record says."""
    wait_until(lambda: flow.state(job_id) == "resuming", what="its event has come")
    wait_until(lambda: flow.record(job_id).claims > times, what="it was resumed again")
    last = flow.record(job_id).timeline[-1]
    assert (flow.state(job_id), last["what"]) == ("resuming", "refused")
    return str(last["why"])


@pytest.mark.parametrize("refuse", [to_no_exchange, to_another_kind_of_exchange])
def test_a_job_waits_until_its_next_step_is_taken_and_others_go_on(
    flow: Flow, refuse: Refusal
) -> None:
    job, other, step = flow.job(clip()), flow.job(clip()), flow.note()
    if refuse is to_another_kind_of_exchange:
        flow.expected_runs[step.args[-1]] = 0  # nobody takes what stands in that queue
    mend = refuse(flow, step)
    (job | step).apply_async()
    assert re.search("NOT_FOUND|PRECONDITION_FAILED", refused(flow, job.id))
    assert who((other | flow.note()).apply_async().get(timeout=GET_SECONDS)) == other.id
    mend()
    wait_until(lambda: flow.state(job.id) == "succeeded", what="it goes on")
    flow.ends()
    flow.paid_once()


def test_a_step_that_is_refused_for_a_day_fails_by_itself(flow: Flow) -> None:
    job, step, noted = flow.job(clip()), flow.note(runs=0), flow.errback()
    to_no_exchange(flow, step)
    step.set(task_id=str(uuid.uuid4())).link_error(noted)
    (job | step).apply_async()
    refused(flow, job.id)
    flow.redis.hset(keys.job(job.id), "refused_at", str(time.time() - 86401))
    with pytest.raises(FollowUpRefused, match="NOT_FOUND"):
        flow.system.app.AsyncResult(step.options["task_id"]).get(timeout=GET_SECONDS)
    flow.ends()
    assert flow.state(job.id) == "succeeded"
    assert flow.ran(noted) == ["FollowUpRefused"]


def test_the_other_links_of_a_job_run_once_however_often_it_is_resumed(flow: Flow) -> None:
    job, step, links = flow.job(clip()), flow.note(), [flow.note(), flow.note()]
    mend = to_no_exchange(flow, step)
    for link in (*links, step):
        job.link(link)
    job.apply_async()
    refused(flow, job.id, times=2)
    mend()
    flow.ends()
    flow.quiet()
    assert flow.runs() == flow.expected_runs


def test_the_errbacks_of_a_job_run_once_however_often_it_is_resumed(flow: Flow) -> None:
    job = flow.job(clip(), rule={"submit": "copyright_400"})
    bad, good = flow._plain("backend.told", (), 0, {}), flow.errback()
    to_no_exchange(flow, bad)
    told = flow._plain("own.told", (), 1, {})
    for each in (good, told, bad):
        job.link_error(each)
    job.apply_async()
    refused(flow, job.id, times=2)
    flow.redis.hset(keys.job(job.id), "refused_at", str(time.time() - 86401))
    flow.ends()
    flow.quiet()
    assert flow.runs() == flow.expected_runs


def test_a_priority_that_amqp_cannot_write_fails_its_step_at_once(flow: Flow) -> None:
    job, step = flow.job(clip()), flow.note(runs=0, task_id=str(uuid.uuid4()))
    step.options["priority"] = "high"
    (job | step).apply_async()
    with pytest.raises(Exception, match="integer"):
        flow.system.app.AsyncResult(step.options["task_id"]).get(timeout=GET_SECONDS)
    flow.ends()
    assert flow.state(job.id) == "succeeded"


def test_a_job_that_can_never_be_published_ends_once_though_it_is_on_record(flow: Flow) -> None:
    job, following, noted = flow.job(clip()), flow.job(), flow.errback()
    following.options["priority"] = "high"
    following.link_error(noted)
    (job | following).apply_async()
    with pytest.raises(InvalidRequest, match="integer"):
        flow.system.app.AsyncResult(following.id).get(timeout=GET_SECONDS)
    flow.ends()
    assert (flow.state(job.id), flow.state(following.id)) == ("succeeded", "failed")
    assert flow.ran(noted) == ["InvalidRequest"]
    assert flow.redis.zscore(keys.DUE, following.id) is None
    assert flow.accepted(following.id) == []


def test_what_is_refused_after_a_plain_step_fails_at_once(flow: Flow) -> None:
    first, step = flow.note("a value"), flow.note(runs=0, task_id=str(uuid.uuid4()))
    to_no_exchange(flow, step)
    first.set(task_id=str(uuid.uuid4()))
    (first | step).apply_async()
    with pytest.raises(Exception, match="404"):
        flow.system.app.AsyncResult(step.options["task_id"]).get(timeout=GET_SECONDS)
    assert flow.system.app.AsyncResult(first.options["task_id"]).get(timeout=GET_SECONDS)
    flow.ends()
