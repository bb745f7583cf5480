"""A failed job runs again in its flow: what succeeded is not paid again, and the rest follows."""

import json
import re
import threading
import time
import uuid
from collections.abc import Iterator
from typing import Any
from unittest.mock import Mock

import pytest

from tests.integration.flow import HELD, Flow, clip, completed, outcome, who
from tests.integration.flow import failed as failed_body
from tests.system import wait_until
from worker.core import keys
from worker.core.errors import InvalidRequest, TaskFailed, UnknownJob
from worker.core.job.models import JobId
from worker.core.job.states import JobState
from worker.engine.cancel import Cancellations
from worker.messages import watch
from worker.messages.recording import Recorder
from worker.messages.retry import Retries
from worker.settings import Role, load
from worker.store.connection import StoreUnavailable
from worker.wiring.producer import open_retries

FAILS: dict[str, Any] = {"outcome": "fail"}
NOT_REFUNDED = {"refund_processed": False}


@pytest.fixture
def retries(flow: Flow, monkeypatch: pytest.MonkeyPatch) -> Iterator[Retries]:
    for name, value in flow.system.environment.items():
        monkeypatch.setenv(name, value)
    retries = open_retries(load(Role.CLIENT))
    yield retries
    retries.close()


def failed(flow: Flow, job_id: str) -> None:
    wait_until(lambda: flow.state(job_id) == "failed", what=f"{job_id} has failed")


def again_of(job_id: str) -> str:
    """Name the job that runs in the place of another one."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"fermata:again:{job_id}"))


def succeed(flow: Flow, *job_ids: str) -> None:
    for job_id in job_ids:
        wait_until(lambda j=job_id: flow.state(j) == "succeeded", what=f"{job_id} has succeeded")


def test_the_rest_of_a_chain_follows_and_what_succeeded_is_not_paid_again(
    flow: Flow, retries: Retries
) -> None:
    first, second = flow.job(clip()), flow.job(rule=FAILS)
    third = flow.job()
    last = flow.note(runs=1)
    result = (first | second | third | last).apply_async()
    failed(flow, second.id)
    with pytest.raises(TaskFailed):
        outcome(result)

    again = retries.retry(JobId(second.id), by="a test")

    # A result that was read once is kept by its object: ask anew.
    renewed = flow.system.app.AsyncResult
    wait_until(lambda: renewed(result.id).state == "SUCCESS", what="the last step has its result")
    assert who(outcome(renewed(result.id))) == third.id
    assert flow.record(second.id).again == again
    # The message of a failed job is kept for as long as its record.
    lifetimes = [flow.redis.ttl(key(JobId(second.id))) for key in (keys.job, keys.message)]
    assert 0 < lifetimes[0] == lifetimes[1]
    assert flow.record(again).state is JobState.SUCCEEDED
    assert flow.record(again).after == first.id
    assert flow.record(again).instead_of == second.id
    flow.ends()
    flow.paid_once(first.id, again, third.id)


def test_a_job_that_is_retried_at_once_by_many_is_paid_once(flow: Flow, retries: Retries) -> None:
    job = flow.job(clip(), rule=FAILS)
    job.apply_async()
    failed(flow, job.id)
    found: list[str] = []
    start = threading.Barrier(8)

    def press_the_button() -> None:
        start.wait()
        found.append(retries.retry(JobId(job.id), by="a test"))

    threads = [threading.Thread(target=press_the_button) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    [again] = set(found)
    flow.jobs.append(again)
    flow.ends()
    flow.paid_once(again)


def test_all_that_failed_of_a_flow_is_retried_and_nothing_else(
    flow: Flow, retries: Retries
) -> None:
    first = flow.job(clip())
    good, bad, worse = flow.job(), flow.job(rule=FAILS), flow.job(rule=FAILS)
    (first | flow.group(good, bad, worse)).apply_async()
    for job in (bad, worse):
        failed(flow, job.id)
    flow.ends()

    done = retries.retry_flow(JobId(good.id), by="a test")

    assert set(done.jobs) == {bad.id, worse.id}
    assert not done.refused
    flow.jobs += done.jobs.values()
    flow.ends()
    flow.paid_once(first.id, good.id, *done.jobs.values())
    assert {flow.state(each) for each in done.jobs.values()} == {"succeeded"}


def test_a_job_of_a_chord_is_refused_for_the_chord_has_failed_with_it(
    flow: Flow, retries: Retries
) -> None:
    good, bad = flow.job(clip()), flow.job(clip(), rule=FAILS)
    flow.chord([good, bad], flow.note(runs=0)).apply_async()
    failed(flow, bad.id)
    with pytest.raises(InvalidRequest, match="one of a chord"):
        retries.retry(JobId(bad.id), by="a test")


def test_a_chain_within_a_chord_is_refused_too(flow: Flow, retries: Retries) -> None:
    bad, after, good = flow.job(clip(), rule=FAILS), flow.job(), flow.job(clip())
    flow.chord([bad | after, good], flow.note(runs=0)).apply_async()
    failed(flow, bad.id)
    with pytest.raises(InvalidRequest, match="one of a chord"):
        retries.retry(JobId(bad.id), by="a test")


@pytest.mark.parametrize(
    "body",
    [completed(data=[{"clip_id": 7, "state": "succeeded"}]), failed_body() | NOT_REFUNDED],
    ids=["unreadable", "not refunded"],
)
def test_what_was_delivered_or_not_refunded_is_retried_only_if_that_is_accepted(
    flow: Flow, retries: Retries, body: Any
) -> None:
    job = flow.hold()
    job.apply_async()
    flow.waits(job.id)
    flow.deliver(job.id, body)
    failed(flow, job.id)
    with pytest.raises(InvalidRequest, match="may have charged"):
        retries.retry(JobId(job.id), by="a test")


def test_a_job_of_which_nobody_knows_is_retried_only_if_that_is_accepted(
    flow: Flow, retries: Retries
) -> None:
    job = flow.job(clip(), rule=HELD | {"submit": "drop"})
    job.apply_async()
    wait_until(lambda: flow.state(job.id) == "unconfirmed", what="nobody knows")
    Cancellations(flow.system.records, time.time).cancel(JobId(job.id), by="a test")
    wait_until(lambda: flow.state(job.id) == "cancelled", what="it is cancelled")
    with pytest.raises(InvalidRequest, match="may have charged"):
        retries.retry(JobId(job.id), by="a test")


def test_a_retry_that_failed_is_retried_in_its_turn_and_its_flow_goes_on(
    flow: Flow, retries: Retries
) -> None:
    job, last = flow.job(clip(), rule=FAILS), flow.job()
    (job | last).apply_async()
    failed(flow, job.id)
    again = again_of(job.id)
    flow.system.simulator.rule(again, **FAILS)
    retries.retry(JobId(job.id), by="a test")
    failed(flow, again)
    with pytest.raises(InvalidRequest, match=rf"is failed: retry that \({again}\)"):
        retries.retry(JobId(job.id), by="a test")

    done = retries.retry_flow(JobId(job.id), by="a test")

    assert done.jobs == {again: again_of(again)}
    succeed(flow, *done.jobs.values(), last.id)
    readings = flow.system.readings
    sights = watch.look(readings, watch.flow_of(readings, flow.record(job.id)))
    assert [sight.succeeded for sight in sights] == [True, True]


def test_a_retry_whose_record_cannot_be_written_leaves_no_mark(
    flow: Flow, retries: Retries, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = flow.job(clip(), rule=FAILS)
    job.apply_async()
    failed(flow, job.id)
    with monkeypatch.context() as away:
        away.setattr(Recorder, "record", Mock(side_effect=StoreUnavailable("it is away")))
        with pytest.raises(StoreUnavailable):
            retries.retry(JobId(job.id), by="a test")
    assert flow.record(job.id).again is None
    again = retries.retry(JobId(job.id), by="a test")
    assert flow.record(job.id).again == again
    succeed(flow, again)


def test_what_the_provider_may_have_charged_for_is_retried_if_that_is_accepted(
    flow: Flow, retries: Retries
) -> None:
    job = flow.job(clip(), rule=HELD)
    job.apply_async()
    flow.waits(job.id)
    Cancellations(flow.system.records, time.time).cancel(JobId(job.id), by="a test")
    wait_until(lambda: flow.state(job.id) == "cancelled", what="it is cancelled")
    with pytest.raises(InvalidRequest, match="may have charged"):
        retries.retry(JobId(job.id), by="a test")
    again = retries.retry(JobId(job.id), by="a test", even_if_paid=True)
    flow.jobs.append(again)
    flow.ends()
    assert flow.state(again) == "succeeded"


def test_a_job_that_has_not_failed_is_refused(flow: Flow, retries: Retries) -> None:
    job = flow.job(clip())
    job.apply_async()
    flow.ends()
    with pytest.raises(InvalidRequest, match="it is succeeded"):
        retries.retry(JobId(job.id), by="a test")
    with pytest.raises(UnknownJob):
        retries.retry(JobId(str(uuid.uuid4())), by="a test")


def test_the_command_retries_jobs_and_flows_and_says_why_not(flow: Flow) -> None:
    first, bad = flow.job(clip()), flow.job(rule=FAILS)
    (first | bad).apply_async()
    failed(flow, bad.id)

    refused = flow.system.fermata("retry", first.id, str(uuid.uuid4()))
    assert (refused.returncode, refused.stdout) == (1, "")
    assert f"{first.id} cannot be retried: it is succeeded" in refused.stderr
    assert "there is no record of job" in refused.stderr
    nobody = str(uuid.uuid4())
    retried = flow.system.fermata("retry", "--flow", first.id, nobody, "--json")
    assert retried.returncode == 1
    told = json.loads(retried.stdout)
    assert told["retried"] == {bad.id: flow.record(bad.id).again}
    assert set(told["refused"]) == {nobody}
    flow.jobs.append(told["retried"][bad.id])
    flow.ends()


def test_the_command_pauses_the_gate_and_resumes_it(flow: Flow) -> None:
    paused = flow.system.fermata("gate", "pause")
    assert re.match(r"paused \d+ s ago by the operator: ", paused.stdout)
    job = flow.job(clip())
    job.apply_async()
    wait_until(lambda: flow.state(job.id) == "held", what="it waits before the gate")
    resumed = flow.system.fermata("gate", "resume")
    assert resumed.stdout.startswith("open: ")
    flow.ends()
    assert flow.system.fermata("gate", "resume").stderr == "That was not paused.\n"
