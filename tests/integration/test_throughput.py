"""What parking is for: one worker process, hundreds of jobs under way, and no slot held."""

from collections.abc import Iterator

import pytest
from celery import group
from celery.result import AsyncResult

from tests.integration.conftest import Flows
from tests.integration.flow import Flow, active, clip, completed
from tests.system import System, wait_until, within

JOBS = 200
WEBHOOK_SECONDS = 3
LIMIT_SECONDS = 15
"""With a slot held for each job, one process would take 600 s."""


@pytest.fixture
def one_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flow]:
    with System(tmp_path_factory.mktemp("one-process")) as system:
        system.worker(concurrency=1, app="tests.canvas_app")
        flows = Flows(system)
        yield flows.open()
        flows.close()


def test_one_process_settles_200_jobs_of_3_seconds_within_15_seconds(one_process: Flow) -> None:
    flow, system = one_process, one_process.system
    # One more job that nobody calls back for now, so that something is parked whenever we look.
    held = flow.hold()
    unanswered = held.apply_async()
    flow.waits(held.id)
    # The first rule that matches decides, so this one is for the others.
    system.simulator.rule("webhook_url", latency_seconds=WEBHOOK_SECONDS)
    jobs = [flow.job(clip()) for _ in range(JOBS)]

    with within(LIMIT_SECONDS):
        group(jobs, app=system.app).apply_async()
        wait_until(lambda: len(flow.accepted("")) == JOBS + 1, what="all are submitted")
        states = {AsyncResult(job.id, app=system.app).state for job in jobs}
        wait_until(lambda: {flow.state(j.id) for j in jobs} == {"succeeded"}, what="all settled")

    assert states <= {"PARKED", "SUCCESS"}
    assert str(unanswered.state) == "PARKED"
    assert active(system) == []
    flow.deliver(held.id, completed())
    flow.ends()
    flow.paid_once()
