"""Redis frozen, killed and restarted under a running system: errors in seconds, nothing lost,
and no process restarted by hand."""

import re
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from signal import SIGCONT, SIGKILL, SIGSTOP
from typing import Any

import pytest

from tests.acceptance.test_cli import fermata
from tests.integration.conftest import Flows
from tests.integration.flow import HELD, Flow, clip, completed, outcome, who
from tests.system import System, wait_until, within
from worker.mends.redelivery import DELIVERY_SECONDS
from worker.store.embedded import EmbeddedValkey

FROZEN_SECONDS = 20
JOBS = 500
IN_SECONDS = 20
"""What bounds a command, its start-up on a busy machine included; a hang has no bound."""

SETTINGS: dict[str, Any] = {"FERMATA_REDIS_TIMEOUT_SECONDS": "2"}


@pytest.fixture(scope="module")
def outage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    folder = tmp_path_factory.mktemp("outage")
    # Killed, a server that forces nothing to the disk may have held back what it had answered.
    valkey = EmbeddedValkey(folder, appendfsync="always")
    with System(folder, redis=valkey, **SETTINGS) as system:
        system.worker(app="tests.canvas_app")
        yield system


@pytest.fixture
def flow(outage: System) -> Iterator[Flow]:
    flows = Flows(outage)
    yield flows.open()
    flows.close()


@contextmanager
def frozen(system: System) -> Iterator[None]:
    """Stop the server's process: connections stay open, and nothing answers."""
    system.valkey.signal(SIGSTOP)
    try:
        yield
    finally:
        system.valkey.signal(SIGCONT)


def restart(system: System) -> None:
    """Kill the server, and start it again with what its AOF holds."""
    system.valkey.signal(SIGKILL)
    system.valkey.wait(lambda: None)
    system.valkey.start()


def test_a_frozen_redis_is_503_and_exit_code_4_in_seconds_and_all_goes_on_after(
    flow: Flow,
) -> None:
    job = flow.hold()
    result = (job | flow.note()).apply_async()
    flow.waits(job.id)

    with frozen(flow.system):
        with within(IN_SECONDS):
            answer = flow.deliver(job.id, completed())
        with within(IN_SECONDS):
            submitted = fermata(flow.system, "submit", "account.credits")

    assert (answer.status_code, answer.json()) == (503, {"error": "try again"})
    assert submitted.returncode == 4, submitted.stderr
    assert flow.deliver(job.id, completed()).status_code == 200
    assert who(outcome(result)) == job.id
    flow.ends()


def test_all_of_500_jobs_settle_though_redis_freezes_for_20_seconds_amid_them(
    flow: Flow,
) -> None:
    results = [(flow.job(clip()) | flow.note()).apply_async() for _ in range(JOBS)]
    most = JOBS * 4 / 5
    wait_until(
        lambda: sum(1 for _ in unsettled(flow)) < most, what="a fifth has settled", seconds=60
    )

    with frozen(flow.system):
        time.sleep(FROZEN_SECONDS)

    wait_until(lambda: not any(unsettled(flow)), seconds=90, what="all have settled")
    wait_until(lambda: all(result.state == "SUCCESS" for result in results), what="all have run")
    assert flow.system.simulator.submissions(flow.jobs) == Counter(flow.jobs)
    # A plain step that a worker has in hand when its broker goes away comes again, and no other.
    runs = flow.runs().values()
    given_back = re.findall(r"Restoring (\d+) unacknowledged", flow.system.log("worker"))
    assert min(runs) == 1
    assert sum(runs) - JOBS <= sum(map(int, given_back))


def test_parked_jobs_are_resumed_after_redis_was_killed_and_restarted(flow: Flow) -> None:
    jobs = [flow.hold() for _ in range(20)]
    results = [(job | flow.note()).apply_async() for job in jobs]
    for job in jobs:
        flow.waits(job.id)
    flow.quiet()

    restart(flow.system)

    assert {flow.deliver(job.id, completed()).status_code for job in jobs} == {200}
    assert [who(outcome(r)) for r in results] == [job.id for job in jobs]
    flow.ends()
    flow.paid_once()


def test_a_worker_with_messages_in_its_hands_outlives_a_restart_of_redis(flow: Flow) -> None:
    # No plain step runs when Redis is killed: it runs again if its end was not written.
    slow = {"submit": "slow", "submit_delay_seconds": 2, **HELD}
    jobs = [flow.job(clip(), rule=slow) for _ in range(6)]
    results = [(job | flow.note()).apply_async() for job in jobs]
    wait_until(lambda: "submitting" in map(flow.state, flow.jobs), what="a submit has begun")

    restart(flow.system)

    for job in jobs:
        # Redis may die when it has popped a message and the worker has not got it: it comes again.
        flow.waits(job.id, seconds=2 * DELIVERY_SECONDS)
        assert flow.deliver(job.id, completed()).status_code == 200
    assert [who(outcome(r)) for r in results] == [job.id for job in jobs]
    flow.ends()
    flow.paid_once()


def unsettled(flow: Flow) -> Iterator[str]:
    return (job_id for job_id in flow.jobs if flow.state(job_id) != "succeeded")
