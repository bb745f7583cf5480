"""The record before the message: what was enqueued is never lost, and never done twice."""

import json
import os
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from celery import Celery
from celery.canvas import Signature
from celery.result import AsyncResult
from kombu.exceptions import OperationalError
from redis import Redis

from tests import launcher
from tests.integration.flow import GET_SECONDS, Flow, clip, who
from tests.integration.test_cancel import Idle
from tests.job import Job
from tests.ports import take_port
from tests.system import System, wait_until
from worker.core import keys
from worker.core.batch.flows import Plan
from worker.core.contract import TENANT_HEADER
from worker.core.errors import DeadlineExceeded, InvalidRequest
from worker.core.job.models import JobId
from worker.messages import flow
from worker.messages.press import Publisher
from worker.settings import Role, load
from worker.store.connection import StoreUnavailable
from worker.wiring.producer import open_producer

# These look into the broker's lists, and lose messages there.
pytestmark = pytest.mark.parametrize("system", ["Redis"], indirect=True, scope="session")

REMASTER = "sonic.remaster"
MODEL = {"mv": "chirp-v5"}


@pytest.fixture
def producer(system: System, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Celery]:
    """Opens our own producer, with settings of its own where a test wants them."""
    for name, value in system.environment.items():
        monkeypatch.setenv(name, value)

    def opened(**settings: str) -> Celery:
        for name, value in settings.items():
            monkeypatch.setenv(name, value)
        return open_producer(load(Role.CLIENT))

    return opened


class Lossy(Idle):
    """An idle queue that can lose what stands in it."""

    def __init__(self, system: System) -> None:
        super().__init__(system)
        self._broker = Redis.from_url(system.broker_url)

    @property
    def length(self) -> int:
        return int(self._broker.llen(self.queue))

    def loses_its_message(self) -> None:
        assert self._broker.lpop(self.queue)

    def ends(self) -> None:
        self._broker.close()
        super().ends()


@pytest.fixture
def idle(system: System) -> Iterator[Lossy]:
    idle = Lossy(system)
    yield idle
    idle.ends()


def through(app: Celery, canvas: Any) -> AsyncResult[Any]:
    """Enqueue a canvas through our own producer."""
    ids: AsyncResult[Any] = canvas.freeze()
    Signature.from_dict(json.loads(json.dumps(canvas)), app=app).apply_async()
    return ids


def moment_comes(flow: Flow, job_id: str) -> None:
    flow.redis.zadd(keys.DUE, {job_id: 1}, xx=True)
    wait_until(lambda: (flow.redis.zscore(keys.DUE, job_id) or 0) != 1, what="a sweep came by")


def test_a_job_is_on_record_with_its_message_before_the_broker_has_it(
    flow: Flow, producer: Callable[..., Celery]
) -> None:
    job = flow.job(clip())
    away = producer(FERMATA_BROKER_URL=f"redis://127.0.0.1:{take_port()}/0")

    with pytest.raises(OperationalError):
        through(away, job | flow.note())

    assert (flow.state(job.id), flow.turns(job.id)) == ("queued", ["enqueue"])
    assert flow.parked_message(job.id)["headers"]["id"] == job.id
    moment_comes(flow, job.id)
    flow.ends()
    flow.paid_once()
    assert flow.turns(job.id)[:2] == ["enqueue", "republish"]


def test_without_redis_nothing_is_recorded_and_nothing_published(
    flow: Flow, producer: Callable[..., Celery]
) -> None:
    job = flow.job(clip())
    away = producer(FERMATA_REDIS_URL=f"redis://127.0.0.1:{take_port()}/0")

    # Celery words it as an error of the broker's, which may be the same Redis.
    with pytest.raises((StoreUnavailable, OperationalError)):
        through(away, job)

    flow.quiet()
    assert (flow.state(job.id), flow.accepted(job.id)) == (None, [])


def test_the_next_steps_of_a_chain_are_recorded_by_the_worker_that_publishes_them(
    flow: Flow, idle: Lossy, producer: Callable[..., Celery]
) -> None:
    first, second = flow.job(clip()), flow.job(queue=idle.queue)
    result = through(producer(), first | second | flow.note())

    wait_until(lambda: flow.state(second.id) == "queued", what="the second is on record")
    assert flow.turns(first.id)[0] == "enqueue"
    wait_until(lambda: idle.length, what="its message is in the queue")
    idle.loses_its_message()
    moment_comes(flow, second.id)
    idle.begins()

    assert who(result.get(timeout=GET_SECONDS)) == second.id
    flow.ends()
    flow.paid_once()


@pytest.mark.parametrize(
    "options", [{}, {"expires": 3600}], ids=["for ever", "to expire much later"]
)
def test_a_message_that_the_broker_lost_is_published_again_and_runs_once(
    flow: Flow, idle: Lossy, producer: Callable[..., Celery], options: dict[str, Any]
) -> None:
    job = flow.job(clip(), queue=idle.queue, **options)
    result = through(producer(), job | flow.note())
    idle.loses_its_message()

    moment_comes(flow, job.id)
    wait_until(lambda: idle.length == 1, what="the message is back")
    idle.begins()

    assert who(result.get(timeout=GET_SECONDS)) == job.id
    flow.ends()
    flow.paid_once()
    assert (flow.record(job.id).republished, flow.record(job.id).attempts) == (1, 1)


def backs_off(flow: Flow) -> Job:
    """A job that the provider has put off for longer than any test lasts."""
    job = flow.job(clip(), rule={"submit": "rate_limited", "retry_after_seconds": 600})
    job.apply_async()
    wait_until(lambda: flow.state(job.id) == "queued", what="it was put off")
    return job


def test_a_second_message_of_a_job_that_was_put_off_neither_hurries_nor_changes_it(
    flow: Flow,
) -> None:
    job = backs_off(flow)
    before = flow.parked_message(job.id)
    flow.system.simulator.forget_rules()

    for model in ("chirp-v4", "no-such-model"):
        job.clone(kwargs={"mv": model}).apply_async()

    flow.quiet()
    assert (flow.state(job.id), flow.record(job.id).attempts) == ("queued", 1)
    assert flow.parked_message(job.id) == before
    moment_comes(flow, job.id)
    flow.ends()
    flow.paid_once()


def test_a_job_whose_message_stood_in_its_queue_past_the_deadline_is_not_submitted(
    flow: Flow,
) -> None:
    job = backs_off(flow)
    flow.system.simulator.forget_rules()
    flow.redis.hset(keys.job(job.id), "deadline_at", 1)
    publisher = Publisher(flow.system.broker_url, {}, 5)
    publisher.publish(flow.system.readings.message(JobId(job.id)) or "")
    publisher.close()

    flow.quiet()
    assert (flow.state(job.id), flow.record(job.id).attempts) == ("queued", 1)
    moment_comes(flow, job.id)
    flow.ends()
    assert (flow.state(job.id), flow.accepted(job.id)) == ("expired", [])


@pytest.mark.parametrize("zone", [None, UTC])
def test_an_expiry_may_have_a_time_zone_or_none(flow: Flow, zone: Any) -> None:
    job = flow.job(clip())
    in_an_hour = datetime.now(UTC) + timedelta(hours=1)
    result = job.apply_async(expires=in_an_hour.replace(tzinfo=zone))
    assert who(result.get(timeout=GET_SECONDS)) == job.id
    flow.ends()


def test_a_follow_up_that_names_no_tenant_right_does_not_fail_what_was_paid_for(
    flow: Flow,
) -> None:
    job, second = flow.job(clip()), flow.job(headers={TENANT_HEADER: "acme corp"})
    result = (job | second).apply_async()

    with pytest.raises(InvalidRequest, match=TENANT_HEADER):
        result.get(timeout=GET_SECONDS)

    flow.ends()
    assert (flow.state(job.id), flow.state(second.id)) == ("succeeded", "failed")
    assert flow.accepted(second.id) == []


def test_a_slow_job_that_is_passed_on_expires_though_nobody_reads_its_queue(flow: Flow) -> None:
    address = f"https://files.example/{clip()}.mp3"
    job = flow.job(operation="sonic.upload", expires=3600)
    job.kwargs["url"] = address
    result = job.apply_async()
    wait_until(lambda: flow.state(job.id) and "reroute" in flow.turns(job.id), what="it is passed")
    record = flow.record(job.id)
    assert record.deadline_at - record.created_at == pytest.approx(3600, abs=60)

    flow.redis.hset(keys.job(job.id), "deadline_at", 1)
    moment_comes(flow, job.id)

    with pytest.raises(DeadlineExceeded):
        result.get(timeout=GET_SECONDS)
    flow.ends()
    assert flow.accepted(address) == []


def test_a_message_that_only_waited_runs_once_beside_its_copies(
    flow: Flow, idle: Lossy, producer: Callable[..., Celery]
) -> None:
    job = flow.job(clip(), queue=idle.queue)
    result = through(producer(), job | flow.note())
    for copies in (2, 3):
        moment_comes(flow, job.id)
        wait_until(lambda n=copies: idle.length == n, what=f"{copies} messages")

    idle.begins()

    assert who(result.get(timeout=GET_SECONDS)) == job.id
    wait_until(lambda: not idle.length, what="every copy was taken")
    flow.ends()
    flow.paid_once()
    assert flow.record(job.id).attempts == 1


def test_copies_come_ever_more_rarely_while_nobody_takes_them(
    flow: Flow, idle: Lossy, producer: Callable[..., Celery]
) -> None:
    job = flow.job(clip(), queue=idle.queue)
    flow.jobs.remove(job.id)
    through(producer(), job)
    waits = []
    for copies in (2, 3, 4):
        moment_comes(flow, job.id)
        wait_until(lambda n=copies: idle.length == n, what=f"{copies} messages")
        now = flow.record(job.id).timeline[-1]["at"]
        wait_until(lambda now=now: (flow.record(job.id).due_at or 0) > now + 900, what="marked")
        waits.append(round(((flow.record(job.id).due_at or 0) - now) / 900))

    assert waits == [2, 4, 8]


@pytest.mark.parametrize("option", ["countdown", "eta"])
def test_a_job_that_is_to_begin_later_is_not_published_again_before(
    flow: Flow, idle: Lossy, producer: Callable[..., Celery], option: str
) -> None:
    later: Any = {"countdown": 3600, "eta": datetime.now(UTC) + timedelta(hours=1)}[option]
    job = flow.job(clip(), queue=idle.queue)
    flow.jobs.remove(job.id)
    app = producer()
    Signature.from_dict(dict(job), app=app).apply_async(**{option: later})

    record = flow.record(job.id)

    assert record.due_at is not None
    assert record.due_at - record.created_at == pytest.approx(3600 + 900, abs=30)
    assert record.deadline_at - record.created_at == pytest.approx(3600 + 86400, abs=30)


def test_a_job_that_expires_in_a_queue_that_nobody_reads_says_so_natively(
    flow: Flow, idle: Lossy, producer: Callable[..., Celery]
) -> None:
    job = flow.job(clip(), queue=idle.queue, expires=1)
    result = through(producer(), (job | flow.note(runs=0)).on_error(flow.errback()))

    with pytest.raises(DeadlineExceeded):
        result.get(timeout=GET_SECONDS)

    flow.ends()
    assert (flow.state(job.id), flow.accepted(job.id)) == ("expired", [])


class Keyed:
    """One flow of two jobs, enqueued again and again under one idempotency key."""

    def __init__(self, tests_flow: Flow) -> None:
        self.key, self.source = clip(), clip()
        self.flow = tests_flow

    def enqueue(self, app: Celery, **changes: Any) -> list[str]:
        asked: dict[str, Any] = {"parameters": MODEL, "then": (REMASTER, MODEL)}
        plan = Plan(REMASTER, **(asked | {"source": self.source} | changes))
        enqueued = flow.enqueue(app, plan, idempotency_key=self.key)
        return [step.job_id for step in enqueued.steps]

    def ends_once(self, job_ids: list[str]) -> None:
        self.flow.jobs = job_ids
        self.flow.ends()
        self.flow.quiet()
        self.flow.paid_once()


@pytest.fixture
def keyed(flow: Flow) -> Keyed:
    return Keyed(flow)


def test_a_repeated_enqueue_under_one_key_is_the_first_flow(
    keyed: Keyed, producer: Callable[..., Celery]
) -> None:
    app = producer()

    first = keyed.enqueue(app)
    again = [keyed.enqueue(app), keyed.enqueue(app)]
    again.append(keyed.enqueue(app, source=uuid.UUID(keyed.source)))
    keyed.ends_once(first)
    after_its_end = keyed.enqueue(app)

    assert [*again, after_its_end] == [first] * 4
    keyed.ends_once(first)


def test_eight_threads_that_enqueue_under_one_key_at_once_enqueue_one_flow(
    keyed: Keyed, producer: Callable[..., Celery]
) -> None:
    app = producer()

    with ThreadPoolExecutor(8) as threads:
        flows = list(threads.map(lambda _: keyed.enqueue(app), range(8)))

    assert flows == [flows[0]] * 8
    keyed.ends_once(flows[0])


def _in_a_process(asked: tuple[str, str, dict[str, str]]) -> list[str]:
    key, source, environment = asked
    os.environ.update(environment)
    plan = Plan(REMASTER, MODEL, source, then=(REMASTER, MODEL))
    producer = open_producer(load(Role.CLIENT))
    enqueued = flow.enqueue(producer, plan, idempotency_key=key)
    return [str(step.job_id) for step in enqueued.steps]


def test_processes_that_enqueue_under_one_key_at_once_enqueue_one_flow(keyed: Keyed) -> None:
    asked = (keyed.key, keyed.source, keyed.flow.system.environment)

    with ProcessPoolExecutor(3, mp_context=launcher.server()) as processes:
        flows = list(processes.map(_in_a_process, [asked] * 6))

    assert flows == [flows[0]] * 6
    keyed.ends_once(flows[0])


@pytest.mark.parametrize(
    "changes",
    [
        {"parameters": {"mv": "chirp-v4-5"}},
        {"then": None},
        {"branches": (("sonic.wav",),)},
    ],
    ids=["parameters", "then", "branches"],
)
def test_one_key_for_two_different_requests_is_an_error_that_names_the_job(
    keyed: Keyed, producer: Callable[..., Celery], changes: dict[str, Any]
) -> None:
    app = producer()
    first = keyed.enqueue(app)

    with pytest.raises(InvalidRequest, match=first[0]):
        keyed.enqueue(app, **changes)

    keyed.ends_once(first)


def command(system: System, *arguments: str, **settings: str) -> tuple[int, str, str]:
    done = system.fermata("submit", REMASTER, "-p", "mv=chirp-v5", *arguments, **settings)
    return done.returncode, done.stdout, done.stderr


def test_a_key_of_one_tenant_is_not_the_job_of_another(
    keyed: Keyed, producer: Callable[..., Celery]
) -> None:
    app = producer()
    plan = Plan(REMASTER, MODEL, source=keyed.source)

    def ask(tenant: str) -> list[str]:
        headers = {TENANT_HEADER: tenant}
        enqueued = flow.enqueue(app, plan, idempotency_key=keyed.key, headers=headers)
        return [step.job_id for step in enqueued.steps]

    job_ids = ask("acme")
    with pytest.raises(InvalidRequest, match="stands for another request"):
        ask("trial")
    assert ask("acme") == job_ids
    keyed.ends_once(job_ids)


def test_the_command_takes_an_idempotency_key(keyed: Keyed) -> None:
    asked = ["--source", keyed.source, "--idempotency-key", keyed.key, "--json"]
    asked += ["--then", "sonic.wav"]

    said = [command(keyed.flow.system, *asked) for _ in range(2)]

    assert [code for code, _, _ in said] == [0, 0]
    first, again = (json.loads(printed) for _, printed, _ in said)
    assert first == again
    keyed.ends_once([first[0]["job_id"]])


def test_the_command_says_that_redis_is_away_and_publishes_nothing(flow: Flow) -> None:
    job_id, source = str(uuid.uuid4()), clip()
    away = f"redis://127.0.0.1:{take_port()}/0"

    code, printed, said = command(
        flow.system, "--source", source, "--id", job_id,
        FERMATA_REDIS_URL=away, FERMATA_BROKER_URL=flow.system.broker_url,
    )  # fmt: skip

    assert (code, printed) == (4, "")
    assert "cannot be reached" in said
    flow.quiet()
    assert (flow.state(job_id), flow.accepted(source)) == (None, [])
