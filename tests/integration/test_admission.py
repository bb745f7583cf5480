"""The gate before the provider, as real processes meet it; judged by the simulator's own books."""

import json
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from celery import Celery, chain
from celery.canvas import Signature

from tests.acceptance.test_cli import fermata
from tests.integration.conftest import Flows
from tests.integration.flow import GET_SECONDS, Flow, clip, completed, streaming, who
from tests.job import Job
from tests.launcher import Started
from tests.system import System, busyness, recording, stop, wait_until
from worker.core import keys
from worker.core.contract import PRIORITY_HEADER, QUEUE, SLOW_QUEUE, TENANT_HEADER
from worker.core.errors import DeadlineExceeded, JobCancelled, OutOfCredits
from worker.core.job.lanes import Limits
from worker.core.job.models import JobId
from worker.core.job.states import JobState
from worker.core.job.timing import Policy
from worker.engine.cancel import Cancellations
from worker.engine.submit import MOST_REFUSALS
from worker.messages.press import Publisher
from worker.messages.recording import Recorder
from worker.store.gate import Gate

BATCH = {PRIORITY_HEADER: "batch"}
PRICE = 10
Start = Callable[..., Flow]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start a system with settings of its own, and a flow over it."""
    with ExitStack() as stack:

        def begin(*, concurrency: int = 2, workers: bool = True, **settings: Any) -> Flow:
            system = stack.enter_context(System(tmp_path / "system", **settings))
            if workers:
                work(system, concurrency=concurrency)
            flows = Flows(system)
            stack.callback(flows.close)
            return flows.open()

        yield begin


def work(system: System, name: str = "worker", **options: Any) -> Started:
    return system.worker(name, app="tests.canvas_app", **options)


def backend(system: System) -> None:
    """Enqueue from now on as one who has our code: jobs are recorded before their messages."""
    recorder = Recorder(system.records, system.readings, Policy(), time.time)
    system.app = Celery(
        broker=system.broker_url,
        backend=system.redis_url,
        set_as_current=False,
        amqp=recording(lambda: recorder),
    )


def enqueue(canvas: Signature[Any], **headers: str) -> None:
    """Enqueue what is of a batch."""
    canvas.set(headers=BATCH | headers).apply_async()


def held(flow: Flow, job_id: str) -> None:
    wait_until(lambda: flow.state(job_id) == "held", what=f"{job_id} is held")


def succeeded(flow: Flow, *job_ids: str) -> bool:
    return all(flow.state(job_id) == "succeeded" for job_id in job_ids)


def why_held(flow: Flow, job_id: str) -> list[str]:
    return [turn["why"] for turn in flow.record(job_id).timeline if turn["what"] == "hold"]


def overtook(flow: Flow, job_id: str) -> int:
    """Count the jobs that the provider accepted while this one waited for its turn."""
    created_at = flow.record(job_id).created_at
    [accepted_at] = [task["accepted_at"] for task in flow.accepted(job_id)]
    return sum(created_at < task["accepted_at"] < accepted_at for task in flow.accepted(""))


def waited(flow: Flow, job_id: str) -> float:
    record = flow.record(job_id)
    at = next(turn["at"] for turn in record.timeline if turn["what"] == "submit")
    return float(at) - record.created_at


# --- Rate, places, fairness. ---


def test_the_rate_is_kept_while_slots_stay_free(start: Start) -> None:
    flow = start(
        FERMATA_SUBMITS_PER_SECOND="8", SIMULATOR_SUBMITS_PER_SECOND="8", FERMATA_IN_FLIGHT="20",
        SIMULATOR_IN_FLIGHT="20",
    )  # fmt: skip
    jobs = [flow.job(clip()) for _ in range(60)]
    flow.group(*jobs).apply_async()
    wait_until(lambda: len(flow.accepted("")) > 5, what="the first are accepted")
    plain = flow.note("at once")
    assert plain.apply_async().get(timeout=GET_SECONDS) == "at once"
    assert len(flow.accepted("")) < 60
    flow.ends()
    flow.paid_once()

    books = flow.system.simulator.books()
    assert (books["refused"], len(books["tasks"])) == ({}, 60)


def test_no_more_are_in_flight_than_may_be(start: Start) -> None:
    flow = start(FERMATA_IN_FLIGHT="5", SIMULATOR_IN_FLIGHT="5")
    takes_long = {"latency_seconds": 3}
    flow.group(*(flow.job(clip(), rule=takes_long) for _ in range(12))).apply_async()
    flow.ends()
    flow.paid_once()
    books = flow.system.simulator.books()
    assert (books["refused"], books["peak_in_flight"]) == ({}, 5)


def test_neither_a_person_nor_another_tenant_waits_for_a_large_batch(start: Start) -> None:
    # A minute for the batch: much longer than it takes to enqueue it.
    flow = start(FERMATA_SUBMITS_PER_SECOND="5", SIMULATOR_SUBMITS_PER_SECOND="5")
    backend(flow.system)
    many = [flow.job(clip()) for _ in range(300)]
    for job in many:
        enqueue(job, **{TENANT_HEADER: "many"})
    few = [flow.job(clip()) for _ in range(10)]
    for job in few:
        enqueue(job, **{TENANT_HEADER: "few"})
    person = flow.job(clip())
    person.apply_async()

    wait_until(lambda: succeeded(flow, person.id, *(job.id for job in few)), seconds=60)
    done = flow.system.simulator.submissions(job.id for job in many).total()
    assert overtook(flow, person.id) < len(many) / 3
    assert done < len(many)
    assert flow.system.simulator.books()["refused"] == {}


def test_what_follows_has_the_lane_of_what_it_follows(start: Start) -> None:
    flow = start()
    first, second, third = flow.job(clip()), flow.job(), flow.job()
    members = [flow.job(clip()), flow.job(clip())]
    body = flow.job(clip(), immutable=True)
    canvas = chain(
        first.set(headers=BATCH | {TENANT_HEADER: "acme"}), second, flow.note(), third,
        app=flow.system.app,
    )  # fmt: skip
    fork = canvas | flow.chord([member.set(immutable=True) for member in members], body)
    fork.apply_async()
    flow.ends()
    assert {flow.record(job_id).lane for job_id in flow.jobs} == {"batch:acme"}


# --- Credits and the breaker. ---


def test_with_a_floor_exactly_what_can_be_paid_is_submitted(start: Start) -> None:
    flow = start(
        FERMATA_CREDIT_FLOOR="0", FERMATA_CREDITS_EVERY_SECONDS="0.3",
        SIMULATOR_CREDITS=str(3 * PRICE + 9),
    )  # fmt: skip
    jobs = [flow.job(clip()).id for _ in range(6)]
    _apply(flow, jobs)
    _three_pass(flow, jobs, lambda: flow.redis.hget(keys.GATE, "balance") == "9000")
    assert why_held(flow, _held(flow, jobs)[0])

    flow.system.simulator.set_credits(3 * PRICE)
    flow.ends()
    flow.paid_once()
    assert flow.system.simulator.books()["refused"] == {}


def test_credits_that_run_out_at_row_100_hold_the_other_150_until_there_are_more(
    start: Start,
) -> None:
    flow = start(
        FERMATA_CREDIT_FLOOR="0", FERMATA_CREDITS_EVERY_SECONDS="0.3", FERMATA_HELD_SECONDS="600",
        SIMULATOR_CREDITS=str(100 * PRICE + 9),
    )  # fmt: skip
    flow.system.simulator.rule("", latency_seconds=0.1)
    sources = [clip() for _ in range(250)]
    rows = ({"operation": "sonic.remaster", "mv": "chirp-v5", "source": s} for s in sources)
    manifest = flow.system.folder / "songs.jsonl"
    manifest.write_text("\n".join(map(json.dumps, rows)))
    fermata(flow.system, "batch", "submit", str(manifest))

    def stand() -> tuple[int, int]:
        """How many have succeeded, and how many have not ended."""
        batch = flow.system.batch("songs")
        return batch.ended[JobState.SUCCEEDED], batch.live

    wait_until(lambda: stand() == (100, 150), seconds=90, what="what can be paid has succeeded")
    wait_until(lambda: flow.redis.hget(keys.GATE, "balance") == "9000", what="it has looked again")
    told = json.loads(fermata(flow.system, "batch", "status", "songs", "--json").stdout)
    assert (told["ended"]["succeeded"], told["live"]) == (100, 150)
    assert flow.system.simulator.submissions(sources) == Counter(sources[:100])
    assert len(flow.accepted("")) == 100

    flow.system.simulator.set_credits(150 * PRICE)
    wait_until(lambda: stand() == (250, 0), seconds=90, what="all have succeeded")
    books = flow.system.simulator.books()
    assert (len(books["tasks"]), books["refused"]) == (250, {})


def test_without_a_floor_the_first_refusal_holds_the_others(start: Start) -> None:
    flow = start(SIMULATOR_CREDITS=str(3 * PRICE + 9))
    jobs = [flow.job(clip()).id for _ in range(6)]
    _apply(flow, jobs)
    books = flow.system.simulator.books
    _three_pass(flow, jobs, lambda: books()["refused"].get("402", 0) > 2)
    assert any("OutOfCredits" in why_held(flow, job_id) for job_id in _held(flow, jobs))

    flow.system.simulator.set_credits(1000)
    flow.ends()
    flow.paid_once()
    assert set(flow.system.simulator.books()["refused"]) == {"402"}


def _apply(flow: Flow, jobs: list[str]) -> None:
    for job_id in jobs:
        flow.system.app.send_task(
            "fermata.sonic.remaster", (clip(),), {"mv": "chirp-v5"}, task_id=job_id, queue=QUEUE
        )


def _held(flow: Flow, jobs: list[str]) -> list[str]:
    return [job_id for job_id in jobs if flow.state(job_id) == "held"]


def _three_pass(flow: Flow, jobs: list[str], looked_again: Callable[[], bool]) -> None:
    """Three of six are submitted, and none of the others fails, however often the gate looks."""

    def states() -> Counter[str | None]:
        return Counter(map(flow.state, jobs))

    wait_until(lambda: states() == {"succeeded": 3, "held": 3}, what="three pass")
    wait_until(looked_again, what="the gate has looked again")
    wait_until(lambda: states() == {"succeeded": 3, "held": 3}, what="it is as it was")
    assert len(flow.accepted("")) == 3


def test_a_refused_key_closes_the_gate_for_all_until_it_works_again(start: Start) -> None:
    flow = start()
    flow.system.simulator.rule("", submit="key_refused_401")
    jobs = [flow.job(clip()) for _ in range(5)]
    flow.group(*jobs).apply_async()
    wait_until(lambda: len(_held(flow, flow.jobs)) == 5, what="all are held")
    assert any("KeyRefused" in why_held(flow, job_id) for job_id in flow.jobs)

    flow.system.simulator.forget_rules()
    flow.ends()
    flow.paid_once()


def test_five_failures_close_the_gate_and_a_probe_opens_it(start: Start) -> None:
    flow = start(concurrency=1, FERMATA_PROBE_SECONDS="2", FERMATA_UNCONFIRMED_GRACE_SECONDS="1")
    flow.system.simulator.rule("", times=5, submit="upstream_502")
    failing, others = [[flow.job(clip()) for _ in range(n)] for n in (5, 3)]
    for job in failing + others:
        job.apply_async()
    flow.ends()
    assert [flow.state(job.id) for job in failing] == ["failed"] * 5
    assert succeeded(flow, *(job.id for job in others))
    assert why_held(flow, others[0].id) == ["the provider fails"]
    assert flow.system.simulator.books()["submits"] == 8


def test_a_job_that_alone_cannot_be_paid_fails_and_starves_nobody(start: Start) -> None:
    flow = start()
    dear = flow.job(clip(), rule={"submit": "no_credits_402"})
    result = dear.apply_async()
    while not result.ready():
        other = flow.job(clip())
        assert other.apply_async().get(timeout=GET_SECONDS)
    with pytest.raises(OutOfCredits):
        result.get(timeout=GET_SECONDS)
    flow.ends()
    assert flow.record(dear.id).refusals == MOST_REFUSALS


def test_a_limit_that_we_do_not_know_of_is_met_with_patience(start: Start) -> None:
    flow = start()
    job = flow.job(clip(), rule=None)
    flow.system.simulator.forget_rules()
    flow.system.simulator.rule(job.id, times=2, submit="rate_limited", retry_after_seconds=1)
    job.apply_async()
    flow.ends()
    flow.paid_once()
    assert (flow.record(job.id).attempts, flow.state(job.id)) == (3, "succeeded")


# --- Pauses. ---


@pytest.mark.parametrize(
    "part", [("--tenant", "acme"), ("--operation", "sonic.remaster")], ids=["tenant", "operation"]
)
def test_what_is_paused_is_held_and_the_rest_passes_whichever_worker_dies(
    start: Start, part: tuple[str, str]
) -> None:
    flow = start(workers=False)
    doomed = work(flow.system)
    said = fermata(flow.system, "gate", "pause", *part).stdout
    named = f"{part[0].removeprefix('--')} {part[1]}"
    assert re.match(rf"open; {re.escape(named)} paused \d+ s ago by the operator: ", said)
    paused, other = flow.job(clip()), flow.song()
    paused.set(headers={TENANT_HEADER: "acme"})
    (paused | flow.note()).apply_async()
    held(flow, paused.id)

    stop(doomed, kill=True)
    heir = work(flow.system, "heir")
    assert other.apply_async().get(timeout=GET_SECONDS)
    assert (flow.state(paused.id), flow.accepted(paused.id)) == ("held", [])
    assert why_held(flow, paused.id) == [f"{named} is paused by the operator"]
    status = json.loads(fermata(flow.system, "status", "--json").stdout)
    assert f"open; {named} paused" in status["gate"]
    assert "1 waiting" in status["gate"]

    stop(heir, kill=True)
    assert fermata(flow.system, "gate", "resume", *part).stdout.startswith("open: ")
    work(flow.system, "last")
    flow.ends()
    flow.paid_once()
    assert "That was not paused." in fermata(flow.system, "gate", "resume", *part).stderr


# --- Held jobs. ---


def occupy(flow: Flow) -> str:
    """Take the one place there is; nothing is delivered until the test does."""
    job = flow.hold()
    job.apply_async()
    flow.waits(job.id)
    return job.id


def leave(flow: Flow, job_id: str) -> None:
    flow.deliver(job_id, completed())


@pytest.fixture
def place(start: Start) -> Flow:
    """One place in our books; the simulator would take more."""
    return start(FERMATA_IN_FLIGHT="1", FERMATA_HELD_SECONDS="60")


@pytest.mark.parametrize("how", ["command", "revoke"])
def test_a_held_job_can_be_cancelled(place: Flow, how: str) -> None:
    first, job = occupy(place), place.job(clip())
    result = (job | place.note(runs=0)).apply_async(link_error=place.errback())
    held(place, job.id)
    if how == "command":
        assert place.system.fermata("cancel", job.id).returncode == 0
    else:
        place.system.app.control.revoke(job.id)
    with pytest.raises(JobCancelled):
        result.get(timeout=GET_SECONDS)
    leave(place, first)
    place.ends()
    assert place.accepted(job.id) == []


def test_a_job_that_is_held_too_long_expires_natively(start: Start) -> None:
    flow = start(FERMATA_IN_FLIGHT="1", FERMATA_HELD_SECONDS="1")
    first, job = occupy(flow), flow.job(clip())
    result = (job | flow.note(runs=0)).apply_async(link_error=flow.errback())
    with pytest.raises(DeadlineExceeded, match="not admitted within 1 s: as many"):
        result.get(timeout=GET_SECONDS)
    leave(flow, first)
    flow.ends()
    assert (flow.state(job.id), flow.accepted(job.id)) == ("expired", [])


def test_a_message_that_expires_while_its_job_is_held_is_not_submitted(place: Flow) -> None:
    first, job = occupy(place), place.job(clip())
    result = job.apply_async(expires=1.5)
    with pytest.raises(DeadlineExceeded):
        result.get(timeout=GET_SECONDS)
    leave(place, first)
    place.ends()
    assert place.accepted(job.id) == []


def test_a_held_job_that_comes_twice_is_submitted_once(place: Flow) -> None:
    first, job = occupy(place), place.job(clip())
    for _ in range(3):
        job.apply_async()
    held(place, job.id)
    job.apply_async()
    place.quiet()
    leave(place, first)
    place.ends()
    place.paid_once()


def test_a_job_held_before_its_second_submission_is_not_sent_again_once_the_first_streams(
    start: Start,
) -> None:
    flow = start(
        FERMATA_IN_FLIGHT="1", FERMATA_ON_UNCONFIRMED="resubmit",
        FERMATA_UNCONFIRMED_GRACE_SECONDS="1",
    )  # fmt: skip
    job, other = flow.job(clip(), rule={"submit": "drop", "webhook": "lost"}), flow.hold()
    result = job.apply_async()
    wait_until(lambda: flow.state(job.id) == "unconfirmed", what="nobody knows of it")
    other.apply_async()
    held(flow, job.id)
    flow.waits(other.id)

    assert flow.deliver(job.id, streaming()).json() == {"status": "progress"}

    assert (flow.state(job.id), flow.record(job.id).provider_task_id) == ("waiting", "delivered")
    leave(flow, other.id)
    leave(flow, job.id)
    assert who(result.get(timeout=GET_SECONDS)) == job.id
    flow.ends()
    flow.paid_once()


def test_held_jobs_outlive_their_workers(start: Start) -> None:
    flow = start(workers=False, FERMATA_IN_FLIGHT="1")
    worker = work(flow.system)
    first, jobs = occupy(flow), [flow.job(clip()) for _ in range(3)]
    flow.group(*jobs).apply_async()
    for job in jobs:
        held(flow, job.id)
    stop(worker, kill=True)
    leave(flow, first)
    work(flow.system, "successor")
    flow.ends()
    flow.paid_once()


@pytest.mark.parametrize("copies", [0, 3])
def test_a_job_admitted_by_a_worker_that_died_is_submitted_once(start: Start, copies: int) -> None:
    """It died before it published the message; or the broker delivers it three times."""
    flow = start(workers=False)
    system = flow.system
    backend(system)
    job = flow.job(clip())
    enqueue(job)
    now = time.time()
    gate = Gate(flow.redis, Limits(), held_seconds=60)
    assert list(gate.release(now=now, stale_at=now + 30).job_ids) == [job.id]
    publisher = Publisher(system.broker_url, {}, 5)
    for _ in range(copies):
        publisher.publish(system.readings.message(JobId(job.id)) or "")
    flow.redis.zadd(keys.DUE, {job.id: now})
    work(system)
    flow.ends()
    flow.paid_once()


def test_a_batch_waits_without_messages_until_a_worker_comes(start: Start) -> None:
    flow = start(workers=False)
    backend(flow.system)
    first, second = flow.job(clip()), flow.job()
    enqueue(first | second)
    others = [flow.job(clip()) for _ in range(20)]
    for job in others:
        enqueue(job)
    assert (flow.redis.llen(QUEUE), flow.state(others[0].id)) == (0, "held")
    work(flow.system)
    flow.ends()
    flow.paid_once()
    assert flow.turns(second.id)[:3] == ["hold", "admit", "submit"]


def upload(flow: Flow, queue: str) -> Job:
    task, url, app = "fermata.sonic.upload", "https://files.example/a.mp3", flow.system.app
    return Job(task, (), {"url": url}, app=app, queue=queue, task_id=clip())


def test_a_slow_job_of_a_batch_reaches_the_workers_of_its_queue(start: Start) -> None:
    flow = start(workers=False, FERMATA_IN_FLIGHT="1")
    backend(flow.system)
    slow = upload(flow, QUEUE)
    flow.jobs.append(slow.id)
    enqueue(slow)
    assert flow.record(slow.id).lane == "batch.slow:default"
    work(flow.system)
    work(flow.system, "slow", queues=SLOW_QUEUE)
    flow.ends()
    assert succeeded(flow, slow.id)
    assert flow.record(slow.id).lane == "batch.slow:default"


def test_uploads_of_a_batch_that_no_worker_takes_keep_nobody_waiting(start: Start) -> None:
    flow = start()
    backend(flow.system)
    uploads = [upload(flow, SLOW_QUEUE) for _ in range(25)]
    for slow in uploads:
        enqueue(slow)
    wait_until(lambda: flow.state(uploads[0].id) == "admitted", what="the first are admitted")
    person = flow.job(clip())
    person.apply_async()
    flow.ends()
    assert waited(flow, person.id) < 2 * busyness()


def test_a_cancelled_batch_needs_no_worker_and_no_place(start: Start) -> None:
    flow = start(workers=False, FERMATA_IN_FLIGHT="1")
    backend(flow.system)
    jobs = [flow.job(clip()) for _ in range(5)]
    for job in jobs:
        enqueue(job)
    cancellations = Cancellations(flow.system.records, time.time)
    for job in jobs[:-1]:
        cancellations.cancel(JobId(job.id), by="a test")
    work(flow.system)
    flow.ends()
    assert [flow.state(job.id) for job in jobs] == ["cancelled"] * 4 + ["succeeded"]
    assert len(flow.accepted("")) == 1


def test_a_job_of_a_batch_that_was_sent_by_name_waits_before_the_gate(start: Start) -> None:
    """Its record is written by the worker that takes the message, and not by its publisher."""
    flow = start(FERMATA_IN_FLIGHT="1")
    first = occupy(flow)
    job = flow.job(clip()).set(headers={PRIORITY_HEADER: "batch"})
    result = job.apply_async()
    held(flow, str(job.id))
    assert flow.turns(str(job.id)) == ["hold"]
    leave(flow, first)
    assert who(result.get(timeout=GET_SECONDS)) == job.id
    flow.ends()
    flow.paid_once()


def test_a_job_that_has_begun_does_not_expire_before_the_gate(place: Flow) -> None:
    backend(place.system)
    source, soon = clip(), 40
    place.system.simulator.rule(source, times=1, submit="rate_limited", retry_after_seconds=30)
    job = place.job(source, expires=soon)
    job.apply_async()
    wait_until(lambda: "postpone" in place.turns(job.id), what="it has begun, and was put off")
    first = occupy(place)
    place.redis.zadd(keys.DUE, {job.id: time.time()})
    held(place, job.id)
    assert place.record(job.id).deadline_at > place.record(job.id).created_at + soon + 1
    leave(place, first)
    place.ends()
    assert place.state(job.id) == "succeeded"
