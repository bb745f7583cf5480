"""Cancelling: `fermata cancel` and `AsyncResult.revoke()` end a job, and its canvas with it."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from celery.exceptions import TimeoutError as NotYet

from tests.integration.flow import GET_SECONDS, Flow, clip, completed
from tests.launcher import Started
from tests.system import System, stop, wait_until
from worker.app.revoke import CANCEL_COMMAND
from worker.core.errors import JobCancelled
from worker.core.job.models import JobId

RATE_LIMITED: dict[str, Any] = {"submit": "rate_limited", "retry_after_seconds": 60}

Cancel = Callable[[Flow, str], Any]


def by_command(flow: Flow, *job_ids: str) -> dict[str, str]:
    """Run `fermata cancel`; returns what became of each job."""
    done = flow.system.fermata("cancel", "--json", *job_ids)
    outcomes: dict[str, str] = json.loads(done.stdout)
    worst = 1 if "too late" in outcomes.values() else 2 if "waiting" in outcomes.values() else 0
    assert done.returncode == worst, done.stderr
    return outcomes


def by_revoke(flow: Flow, job_id: str) -> None:
    flow.system.app.control.revoke(job_id)


either_way = pytest.mark.parametrize("cancel", [by_command, by_revoke])


@either_way
def test_a_parked_job_ends_with_its_chain_and_its_errback(flow: Flow, cancel: Cancel) -> None:
    job = flow.hold()
    canvas = job | flow.note(runs=0)
    result = canvas.apply_async(link_error=flow.errback())
    flow.waits(job.id)

    cancel(flow, job.id)

    with pytest.raises(JobCancelled, match=job.id):
        result.get(timeout=GET_SECONDS)
    flow.ends()
    assert flow.state(job.id) == "cancelled"
    flow.paid_once()


@either_way
def test_a_cancelled_member_fails_its_chord_once(flow: Flow, cancel: Cancel) -> None:
    held, other = flow.hold(), flow.job(clip())
    body = flow.note(runs=0).on_error(flow.errback())
    flow.chord([held, other], body).apply_async()
    flow.waits(held.id)

    cancel(flow, held.id)

    flow.ends()
    assert flow.state(other.id) == "succeeded"


class Idle:
    """A queue that no worker consumes until one begins."""

    def __init__(self, system: System) -> None:
        self._system = system
        self._workers: list[Started] = []
        self.queue = f"idle.{clip()}"

    def begins(self) -> None:
        worker = self._system.worker(self.queue, queues=self.queue, app="tests.canvas_app")
        self._workers.append(worker)

    def ends(self) -> None:
        for worker in self._workers:
            stop(worker)


@pytest.fixture
def idle(flow: Flow) -> Iterator[Idle]:
    idle = Idle(flow.system)
    yield idle
    idle.ends()


def test_a_job_that_no_worker_has_begun_is_never_submitted(flow: Flow, idle: Idle) -> None:
    """By name, from a backend: there is no record yet, so the cancellation waits for it."""
    job = flow.job(clip(), queue=idle.queue)
    result = (job | flow.note(runs=0)).apply_async(link_error=flow.errback())

    assert by_command(flow, job.id) == {job.id: "waiting"}
    with pytest.raises(NotYet):
        result.get(timeout=0.5)
    idle.begins()

    with pytest.raises(JobCancelled):
        result.get(timeout=GET_SECONDS)
    flow.ends()
    assert flow.accepted(job.id) == []


def test_a_revoked_job_that_no_worker_has_begun_ends_natively_too(flow: Flow, idle: Idle) -> None:
    job = flow.job(clip(), queue=idle.queue)
    result = (job | flow.note(runs=0)).apply_async(link_error=flow.errback())

    by_revoke(flow, job.id)
    key = f"fermata:job:{job.id}"
    wait_until(lambda: flow.redis.hget(key, "cancelled_by") == "revoke", what="the revoke is noted")
    idle.begins()

    wait_until(lambda: flow.state(job.id) == "cancelled")
    with pytest.raises(JobCancelled):
        wait_until(lambda: result.state == "FAILURE" and result.get(timeout=GET_SECONDS))
    flow.ends()
    assert flow.accepted(job.id) == []


def test_a_step_of_a_chain_can_be_cancelled_before_its_turn(flow: Flow) -> None:
    first, second = flow.hold(), flow.job()
    result = (first | second | flow.note(runs=0)).apply_async(link_error=flow.errback())
    flow.waits(first.id)

    assert by_command(flow, second.id) == {second.id: "waiting"}
    flow.deliver(first.id, completed())

    with pytest.raises(JobCancelled, match=second.id):
        result.get(timeout=GET_SECONDS)
    flow.ends()
    assert (flow.state(first.id), flow.accepted(second.id)) == ("succeeded", [])


def test_a_job_that_backs_off_is_not_submitted_again(flow: Flow) -> None:
    job = flow.job(clip(), rule=RATE_LIMITED)
    result = job.apply_async()
    wait_until(lambda: "postpone" in flow.turns(job.id) if flow.state(job.id) else False)

    assert by_command(flow, job.id) == {job.id: "ending"}

    with pytest.raises(JobCancelled):
        result.get(timeout=GET_SECONDS)
    flow.ends()
    assert flow.accepted(job.id) == []


def test_what_has_settled_stays_as_it_is(flow: Flow) -> None:
    job = flow.job(clip())
    result = job.apply_async()
    result.get(timeout=GET_SECONDS)
    flow.ends()

    assert by_command(flow, job.id) == {job.id: "too late"}

    assert (result.state, flow.state(job.id)) == ("SUCCESS", "succeeded")


def test_a_job_cancelled_while_it_is_being_submitted_is_not_submitted_again(flow: Flow) -> None:
    job = flow.job(clip(), rule={"submit": "slow", "submit_delay_seconds": 4, "webhook": "lost"})
    result = job.apply_async()
    wait_until(
        lambda: flow.system.readings.standing(JobId(job.id)).announced, what="it is submitted"
    )

    # Asked of the worker: a command may take longer to start than the provider to answer.
    asked = {"job_ids": [job.id], "by": "a test"}
    answers: Any = flow.system.app.control.broadcast(
        CANCEL_COMMAND, arguments=asked, reply=True, limit=1, timeout=GET_SECONDS
    )
    assert answers == [{"worker@test": {"ok": {job.id: "ending"}}}]

    with pytest.raises(JobCancelled):
        result.get(timeout=GET_SECONDS)
    wait_until(lambda: flow.record(job.id).provider_task_id, what="the answer is on the record")
    flow.ends()
    flow.paid_once()


def test_a_plain_task_is_revoked_as_ever(flow: Flow, idle: Idle) -> None:
    step = flow.note("unwanted", runs=0, queue=idle.queue)
    result = step.apply_async()

    by_revoke(flow, result.id)

    wait_until(lambda: str(result.state) == "REVOKED")


def stamped(job: Any, value: Any) -> str:
    """Stamp a job; returns the stamp."""
    job.options.update(stamped_headers=["album"], album=value)
    return str(value[0] if isinstance(value, list) else value)


def by_stamp(flow: Flow, stamp: str, **options: Any) -> Any:
    control: Any = flow.system.app.control
    return control.revoke_by_stamped_headers(
        {"album": [stamp, "no other"]}, destination=["worker@test"], **options
    )


def test_parked_jobs_with_a_revoked_stamp_end_natively_and_others_go_on(flow: Flow) -> None:
    job, backing_off = flow.hold(), flow.job(clip(), rule=RATE_LIMITED)
    other = flow.hold()
    stamp = stamped(job, [clip(), "another"])
    stamped(backing_off, stamp)
    stamped(other, clip())
    results = [(job | flow.note(runs=0)).apply_async(link_error=flow.errback())]
    results += [backing_off.apply_async(), other.apply_async()]
    for each in (job, other):
        flow.waits(each.id)
    wait_until(lambda: "postpone" in flow.turns(backing_off.id), what="it backs off")

    by_stamp(flow, stamp)

    for result in results[:2]:
        with pytest.raises(JobCancelled):
            result.get(timeout=GET_SECONDS)
    assert flow.state(other.id) == "waiting"
    flow.deliver(other.id, completed())
    flow.ends()
    assert [flow.state(each.id) for each in (job, backing_off)] == ["cancelled", "cancelled"]


def test_a_job_that_comes_with_a_revoked_stamp_ends_natively_too(flow: Flow) -> None:
    job = flow.job(clip())
    stamp = stamped(job, clip())
    heard: Any = by_stamp(flow, stamp, reply=True, limit=1, timeout=GET_SECONDS)
    assert heard

    result = (job | flow.note(runs=0)).apply_async(link_error=flow.errback())

    with pytest.raises(JobCancelled):
        result.get(timeout=GET_SECONDS)
    flow.ends()
    assert flow.accepted(job.id) == []


def test_a_job_that_is_being_submitted_is_not_killed_for_its_stamp(flow: Flow) -> None:
    job = flow.job(clip(), rule={"submit": "slow", "submit_delay_seconds": 4, "webhook": "lost"})
    stamp = stamped(job, clip())
    result = job.apply_async()
    wait_until(
        lambda: flow.system.readings.standing(JobId(job.id)).announced, what="it is submitted"
    )

    by_stamp(flow, stamp, terminate=True, signal="SIGKILL")

    with pytest.raises(JobCancelled):
        result.get(timeout=GET_SECONDS)
    wait_until(lambda: flow.record(job.id).provider_task_id, what="the answer is on the record")
    flow.ends()
    flow.paid_once()
