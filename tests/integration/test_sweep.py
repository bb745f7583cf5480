"""The sweep: how soon it finds what was lost, how often it asks, and many of them at once."""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from datetime import datetime
from functools import partial
from itertools import pairwise
from typing import Any

import pytest
from celery import Celery
from redis import Redis

from tests import launcher
from tests.integration.conftest import Flows
from tests.integration.flow import GET_SECONDS, Flow, clip, completed, who
from tests.system import System
from worker.core import keys
from worker.core.contract import PRIORITY_HEADER, QUEUE, task_name
from worker.core.job.lanes import Limits
from worker.core.job.models import JobId
from worker.core.job.states import JobState, Turn
from worker.core.job.timing import Policy, first_poll
from worker.core.providers import chosen
from worker.core.providers.aimusic.operations import OPERATIONS
from worker.core.wire import Answer, Request
from worker.engine.cancel import Cancellation, Cancellations
from worker.engine.poll import Polls
from worker.engine.sweep import Sweep
from worker.messages.press import Publisher, SubmitLegs, press
from worker.messages.recording import Recorder
from worker.store import connection
from worker.store.agenda import Agenda
from worker.store.embedded import EmbeddedValkey
from worker.store.gate import Gate
from worker.store.lists import Lists
from worker.store.readings import Readings
from worker.store.records import Records

LOST = {"webhook": "lost"}
REMASTER = "sonic.remaster"


# With the real simulator and real workers.


def test_with_every_webhook_lost_a_flow_still_ends(flow: Flow) -> None:
    first, last = flow.job(clip(), rule=LOST), flow.job(rule=LOST)
    header = [flow.job(rule=LOST), flow.job(rule=LOST) | flow.note()]

    canvas = first | flow.chord(header, flow.note()) | last | flow.note()
    result = canvas.apply_async().get(timeout=2 * GET_SECONDS)

    assert who(result) == last.id
    flow.ends()
    flow.paid_once()
    assert all(task["deliveries"] == [] for j in flow.jobs for task in flow.accepted(j))


POLLS_PER_SECOND = 5


@pytest.fixture
def paced(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flow]:
    """A flow of a system with three workers, each of which sweeps."""
    rate: dict[str, Any] = {"FERMATA_POLLS_PER_SECOND": str(POLLS_PER_SECOND)}
    rate |= {"FERMATA_POLL_FIRST_SECONDS": "4"}
    with System(tmp_path_factory.mktemp("paced"), **rate) as system:
        for name in ("worker", "second", "third"):
            system.worker(name, app="tests.canvas_app")
        flows = Flows(system)
        yield flows.open()
        flows.close()


def test_all_sweeps_together_keep_to_the_polls_per_second(paced: Flow) -> None:
    results = [paced.job(clip(), rule=LOST).apply_async() for _ in range(30)]
    for job_id in paced.jobs:
        paced.waits(job_id)
    begins = min(paced.record(job_id).due_at or 0 for job_id in paced.jobs)

    assert {who(result.get(timeout=GET_SECONDS)) for result in results} == set(paced.jobs)
    paced.ends()
    polled = re.findall(r"^(\S+ \S+) poll ", paced.system.log("simulator"), re.MULTILINE)
    assert len(polled) >= len(results)
    # However late a poll is, it never comes before the moment that it had reserved. The log has
    # milliseconds, and cuts off the rest.
    after = [datetime.fromisoformat(at).timestamp() + 0.001 - begins for at in polled]
    too_soon = [(n, at) for n, at in enumerate(after) if n > max(at, 0) * POLLS_PER_SECOND]
    assert not too_soon


# On a clock of the test's own, and before a provider that keeps count in Redis.


class Counting:
    """A provider whose every song is finished from a moment on; it counts who asks."""

    def __init__(self, redis: "Redis", finished: Callable[[str], bool]) -> None:
        self._redis = redis
        self._finished = finished

    def send(self, request: Request) -> Answer:
        provider_task_id = request.path.rpartition("/")[2]
        self._redis.hincrby("test:polls", provider_task_id, 1)
        running = completed(data=[{"clip_id": clip(), "state": "running"}])
        body = completed() if self._finished(provider_task_id) else running
        return Answer(200, {}, json.dumps(body).encode())


class Lab:
    """A store of the test's own, that no worker looks at."""

    def __init__(self, url: str) -> None:
        self.redis = Redis.from_url(url, decode_responses=True)
        client = connection.connect(url)
        self.records, self.readings = Records(client), Readings(client)
        self.agenda = Agenda(client)
        self.policy = Policy(polls_per_second=float("inf"))
        self.now = 1_000_000.0
        self.url = url
        self._app = Celery(broker=url, set_as_current=False)

    def sweep(self, *, finished: Callable[[str], bool] = lambda _: True) -> Sweep:
        clock = self.clock
        publisher = Publisher(self.url, {}, 5)
        polls = Polls(
            records=self.records,
            agenda=self.agenda,
            provider=chosen(),
            transport=Counting(self.redis, finished),
            policy=self.policy,
            clock=clock,
            jitter=lambda: 0.5,
        )
        return Sweep(
            records=self.records,
            readings=self.readings,
            agenda=self.agenda,
            indexes=Lists(self.redis),
            provider=chosen(),
            polls=polls,
            submit_legs=SubmitLegs(self.readings, self.agenda, publisher, clock, self.policy),
            policy=self.policy,
            clock=clock,
        )

    def clock(self) -> float:
        return self.now

    def queued(self, job_id: str, operation: str = REMASTER) -> JobId:
        signature = self._app.signature(task_name(operation), task_id=job_id, queue=QUEUE)
        wire = press(lambda to: signature.apply_async(producer=to, declare=[]))
        recorder = Recorder(self.records, self.readings, self.policy, self.clock)
        recorder.record(OPERATIONS[operation], wire)
        return JobId(job_id)

    def held(self, job_id: str) -> JobId:
        """A job that waits before the gate, as a row of a batch does."""
        signature = self._app.signature(task_name(REMASTER), task_id=job_id, queue=QUEUE)
        signature.set(headers={PRIORITY_HEADER: "batch"})
        wire = press(lambda to: signature.apply_async(producer=to, declare=[]))
        assert not Recorder(self.records, self.readings, self.policy, self.clock).record(
            OPERATIONS[REMASTER], wire
        )
        return JobId(job_id)

    def cancel(self, job_ids: list[JobId]) -> None:
        cancellations = Cancellations(self.records, self.clock)
        for job_id in job_ids:
            assert cancellations.cancel_in_turn(job_id, by="a test") is Cancellation.ENDING

    def waiting(self, job_id: str, operation: str = REMASTER) -> JobId:
        """A job that the provider accepted now; its provider task is named as the job is."""
        made, now = self.queued(job_id, operation), self.now
        self.records.turn(made, Turn.SUBMIT, now=now, due_at=now, leg="leg", count="attempts")
        due_at = first_poll(OPERATIONS[operation], self.policy, now=now)
        fields = {"provider_task_id": job_id, "deadline_at": now + 86400}
        self.records.turn(made, Turn.ACCEPT, now=now, due_at=due_at, leg="leg", fields=fields)
        return made

    def doubtful(self, job_id: str) -> JobId:
        """A job whose worker went silent in the middle of its submit."""
        made = self.queued(job_id)
        leg: dict[str, Any] = {"leg": "leg", "now": self.now, "due_at": self.now + 99}
        self.records.turn(made, Turn.SUBMIT, count="attempts", **leg)
        assert self.records.announce(made, "leg")
        return made

    def published(self) -> Counter[str]:
        """How often each job's message stands in the queue."""
        messages = self.redis.lrange(QUEUE, 0, -1)
        return Counter(json.loads(message)["headers"]["id"] for message in messages)

    def job_ids(self) -> list[JobId]:
        found: Any = self.redis.zrange(keys.JOBS, 0, -1)
        return [JobId(job_id) for job_id in found]

    def polls(self) -> Counter[str]:
        polls = self.redis.hgetall("test:polls").items()
        return Counter({str(job_id): int(times) for job_id, times in polls})


@pytest.fixture(scope="module")
def lab_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    valkey = EmbeddedValkey(tmp_path_factory.mktemp("lab"))
    yield valkey.start()
    valkey.stop()


@pytest.fixture
def lab(lab_url: str) -> Iterator[Lab]:
    lab = Lab(lab_url)
    yield lab
    lab.redis.flushdb()
    lab.redis.close()


SWEEP_EVERY_SECONDS = 2
CALLED_BACK = [each.name for each in OPERATIONS.values() if each.called_back]


@pytest.mark.parametrize("operation", CALLED_BACK)
def test_a_lost_webhook_is_found_within_10_s_of_the_operations_expected_time(
    lab: Lab, operation: str
) -> None:
    job_id, accepted_at = lab.waiting(clip(), operation), lab.now
    expected = OPERATIONS[operation].expected_seconds
    done_at = accepted_at + expected
    sweep = lab.sweep(finished=lambda _: lab.now >= done_at)

    # The sweep that is the least lucky: its turn comes just before the moment, every time.
    lab.now = done_at - 0.001
    while lab.readings.state(job_id) is JobState.WAITING and lab.now < done_at + 60:
        sweep.run_once()
        lab.now += SWEEP_EVERY_SECONDS

    assert lab.readings.state(job_id) is JobState.RESUMING
    found_at = lab.now - SWEEP_EVERY_SECONDS
    assert found_at - done_at <= 10
    assert lab.polls() == {job_id: 1}


def test_a_song_that_takes_longer_is_asked_for_ever_more_rarely(lab: Lab) -> None:
    job_id = lab.waiting(clip())
    sweep = lab.sweep(finished=lambda _: False)

    asked = []
    for _ in range(8):
        lab.now = lab.readings.read(job_id).due_at or 0
        asked.append(lab.now)
        assert sweep.run_once() == 1

    waits = [later - earlier for earlier, later in pairwise(asked)]
    assert waits == sorted(waits)
    assert [waits[0], waits[-1]] == pytest.approx([20, 200])
    assert lab.polls() == {job_id: 8}


JOBS = 200


def make_due(lab: Lab) -> None:
    """Two hundred jobs, of all kinds that a sweep sees to, whose moment has come."""
    makers = [lab.waiting, lab.waiting, lab.doubtful, lab.queued]
    for number in range(JOBS):
        makers[number % len(makers)](clip())
    lab.now += 7200
    lab.redis.delete(QUEUE)


def work_off(sweep: Sweep, _: int = 0) -> int:
    done = 0
    while leased := sweep.run_once():
        done += leased
    return done


def work_off_in_a_process(url: str, now: float, _: int) -> int:
    lab = Lab(url)
    lab.now = now
    return work_off(lab.sweep())


def by_threads(lab: Lab) -> list[int]:
    with ThreadPoolExecutor(8) as threads:
        return list(threads.map(work_off, [lab.sweep() for _ in range(8)]))


def by_processes(lab: Lab) -> list[int]:
    with ProcessPoolExecutor(4, mp_context=launcher.server()) as processes:
        return list(processes.map(partial(work_off_in_a_process, lab.url, lab.now), range(8)))


@pytest.mark.parametrize("together", [by_threads, by_processes])
def test_eight_sweeps_at_once_do_everything_and_nothing_twice(
    lab: Lab, together: Callable[[Lab], list[int]]
) -> None:
    make_due(lab)

    shares = together(lab)

    assert sum(shares) == JOBS
    assert Counter(lab.published().values()) == {1: JOBS / 4}
    assert Counter(lab.polls().values()) == {1: JOBS / 2}
    states = Counter(lab.readings.state(job_id) for job_id in lab.job_ids())
    assert states == {"resuming": JOBS / 2, "unconfirmed": JOBS / 4, "queued": JOBS / 4}
    assert lab.redis.zcount(keys.DUE, "-inf", lab.now) == 0


def cancel(lab: Lab, held: list[JobId]) -> None:
    lab.cancel(held)


def outwait(lab: Lab, _: list[JobId]) -> None:
    lab.now += lab.policy.held_seconds + 1


def on_their_way(lab: Lab, held: list[JobId]) -> list[JobId]:
    return [job_id for job_id in held if lab.readings.state(job_id) is JobState.RESUMING]


def settle(lab: Lab, job_ids: list[JobId]) -> None:
    for job_id in job_ids:
        assert lab.records.turn(job_id, Turn.CANCEL, now=lab.now, due_at=None, retain_seconds=99)


@pytest.mark.parametrize("end", [cancel, outwait])
def test_of_many_that_end_before_the_gate_few_are_on_their_way_at_a_time(
    lab: Lab, end: Callable[[Lab, list[JobId]], None]
) -> None:
    held = [lab.held(f"held-{number}") for number in range(300)]
    end(lab, held)
    sweeps = [lab.sweep() for _ in range(3)]

    for _ in range(3):
        for sweep in sweeps:
            work_off(sweep)
        leaving = on_their_way(lab, held)
        assert len(leaving) == 100
        settle(lab, leaving)

    assert {lab.readings.state(job_id) for job_id in held} == {JobState.CANCELLED}


def test_what_is_due_is_seen_to_while_many_end_before_the_gate(lab: Lab) -> None:
    lab.cancel([lab.held(f"held-{number}") for number in range(100)])
    lab.now += 1
    lost = lab.queued(clip())
    lab.now += lab.policy.backlog_seconds
    lab.sweep().run_once()
    assert lab.published()[lost] == 1


def test_those_that_no_worker_takes_do_not_keep_the_others_from_ending(lab: Lab) -> None:
    held = [lab.held(f"held-{number}") for number in range(250)]
    lab.cancel(held)
    sweep = lab.sweep()
    work_off(sweep)
    lab.now += 61
    work_off(sweep)
    assert len(on_their_way(lab, held)) == 200


def test_what_was_cancelled_before_the_gate_is_not_admitted(lab: Lab) -> None:
    held = [lab.held(f"held-{number}") for number in range(2)]
    lab.cancel(held[:1])
    gate = Gate(lab.redis, Limits(), held_seconds=99)
    assert gate.release(now=lab.now, stale_at=lab.now + 30).job_ids == held[1:]
