"""RabbitMQ as the broker: killed, frozen, without the queue, and under a killed worker.

That flows work on it is shown by every test that takes ``system``, ``impatient`` or a kill point in
a leg. On Redis alone run: every operation, the named flows and the batches (to a broker they are
messages like those of ``system``), the example backends (they are told one URL, for broker and
records), ``fermata dev`` and the demo (they bring their own server), and the chaos, whose audit
looks into Redis's queues.
"""

import os
from collections.abc import Iterator
from signal import SIGCONT, SIGSTOP
from typing import Any

import psutil
import pytest
from kombu import Queue

from tests.acceptance.test_cli import fermata
from tests.integration.conftest import Flows
from tests.integration.flow import Flow, clip, completed, who
from tests.integration.test_recording import through
from tests.job import pressed
from tests.servers import RabbitMQ
from tests.system import System, stop, wait_until, within
from worker.messages.press import Publisher
from worker.settings import Role, load
from worker.wiring.producer import open_producer

GET_SECONDS = 60
TIMEOUT_SECONDS = 2
IN_SECONDS = 20
"""What bounds a command, its start-up on a busy machine included; a hang has no bound."""


@pytest.fixture(scope="module")
def rabbitmq(tmp_path_factory: pytest.TempPathFactory) -> RabbitMQ:
    """A node that the tests may freeze and kill."""
    return RabbitMQ(tmp_path_factory.mktemp("node"))


@pytest.fixture(scope="module")
def patient(tmp_path_factory: pytest.TempPathFactory, rabbitmq: RabbitMQ) -> Iterator[System]:
    """A system on RabbitMQ in which nothing is polled: only messages move its jobs."""
    settings: dict[str, Any] = {"FERMATA_REDIS_TIMEOUT_SECONDS": "2"}
    settings |= {"FERMATA_POLL_FIRST_SECONDS": "600"}
    with System(tmp_path_factory.mktemp("patient"), rabbitmq=rabbitmq, **settings) as system:
        system.worker(app="tests.canvas_app")
        yield system


@pytest.fixture
def flow(patient: System) -> Iterator[Flow]:
    flows = Flows(patient)
    yield flows.open()
    flows.close()


def test_a_frozen_rabbitmq_is_an_error_in_seconds_and_no_delivery_is_lost(
    flow: Flow, rabbitmq: RabbitMQ
) -> None:
    job = flow.hold()
    result = (job | flow.note()).apply_async()
    flow.waits(job.id)

    rabbitmq.signal(SIGSTOP)
    try:
        with within(IN_SECONDS):
            answer = flow.deliver(job.id, completed())
        with within(IN_SECONDS):
            submitted = fermata(flow.system, "submit", "account.credits")
    finally:
        rabbitmq.signal(SIGCONT)

    # The event is on the record: the next step is published when RabbitMQ takes it again.
    assert (answer.status_code, answer.json()) == (200, {"status": "resumed"})
    assert submitted.returncode == 4, submitted.stderr
    assert who(result.get(timeout=GET_SECONDS)) == job.id
    flow.ends()


def test_a_worker_and_a_receiver_find_a_restarted_rabbitmq_again(
    flow: Flow, rabbitmq: RabbitMQ
) -> None:
    before, after = flow.hold(), flow.job(clip())
    parked = (before | flow.note()).apply_async()
    flow.waits(before.id)

    rabbitmq.restart()

    flow.deliver(before.id, completed(), timeout=IN_SECONDS)
    result = (after | flow.note()).apply_async(retry=True)
    assert who(parked.get(timeout=GET_SECONDS)) == before.id
    assert who(result.get(timeout=GET_SECONDS)) == after.id
    flow.ends()
    flow.paid_once(after.id)


def test_a_message_for_a_queue_that_is_not_there_is_an_error_and_not_dropped(
    flow: Flow,
) -> None:
    signature = flow.system.app.signature("test.note", (1, "k"), queue=f"missing-{clip()}")
    publisher = Publisher(flow.system.broker_url, {"confirm_publish": True}, TIMEOUT_SECONDS)
    try:
        with pytest.raises(Exception, match="NO_ROUTE"):
            publisher.publish(pressed(signature).message)
    finally:
        publisher.close()


def test_what_follows_a_job_reaches_a_queue_of_another_kind(flow: Flow) -> None:
    """RabbitMQ refuses a declaration that differs from the one of the backend's own worker."""
    queue = f"quorum-{clip()}"
    with flow.system.app.connection_for_write() as connection:
        theirs = Queue(queue, queue_arguments={"x-queue-type": "quorum"})
        theirs.declare(channel=connection.default_channel)

    (flow.job(clip()) | flow.note(queue=queue, runs=0)).apply_async()

    wait_until(lambda: flow.system.backlog(queue)[0] == 1, what="its message is there")
    flow.ends()


def test_a_job_whose_worker_is_killed_begins_when_rabbitmq_delivers_it_again(flow: Flow) -> None:
    """The first worker is stopped with the message in its hand: it is redelivered."""
    system = flow.system
    doomed = system.worker("doomed", concurrency=1, queues="doomed", app="tests.canvas_app")
    for process in _family(doomed.pid):
        process.suspend()
    job = flow.job(clip(), queue="doomed")
    result = (job | flow.note()).apply_async()
    wait_until(lambda: system.backlog("doomed")[0] == 0, what="it was delivered")
    stop(doomed, kill=True)

    successor = system.worker("successor", concurrency=1, queues="doomed", app="tests.canvas_app")

    assert who(result.get(timeout=GET_SECONDS)) == job.id
    flow.ends()
    flow.paid_once()
    stop(successor)


def _family(pid: int) -> list[psutil.Process]:
    parent = psutil.Process(pid)
    return [parent, *parent.children(recursive=True)]


def test_messages_of_jobs_survive_a_restart_of_rabbitmq(
    flow: Flow, rabbitmq: RabbitMQ, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Persistent messages in durable queues, which RabbitMQ has confirmed to our own producer."""
    for name, value in flow.system.environment.items():
        monkeypatch.setenv(name, value)
    queue = f"durable-{os.getpid()}"
    system = flow.system
    stop(system.worker("first", concurrency=1, queues=queue, app="tests.canvas_app"))
    job = flow.job(clip(), queue=queue)
    result = through(open_producer(load(Role.CLIENT)), job | flow.note())
    assert system.backlog(queue)[0] == 1

    rabbitmq.restart()

    second = system.worker("second", concurrency=1, queues=queue, app="tests.canvas_app")
    assert who(result.get(timeout=GET_SECONDS)) == job.id
    flow.ends()
    assert flow.record(job.id).republished == 0
    stop(second)
