"""The client for backends: by names alone, over a real broker, real records and a real worker."""

import subprocess
import sys
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
from celery import Celery, chain

from fermata_client import Fermata, JobFailed, StillRunning, Unavailable
from tests.integration.flow import Flow, clip, completed, streaming
from tests.system import System, stop, wait_until
from worker.core.errors import JobCancelled


@pytest.fixture
def fermata(flow: Flow) -> Iterator[Fermata]:
    system = flow.system
    fermata = Fermata(system.broker_url, redis_url=system.redis_url)
    yield fermata
    fermata.close()


def native(flow: Flow, job_id: str) -> Any:
    return flow.system.app.AsyncResult(job_id).get(timeout=20)


def held(flow: Flow) -> str:
    """The id of a job that stays parked until the test delivers."""
    job_id = str(uuid.uuid4())
    flow.system.simulator.rule(job_id, webhook="lost", latency_seconds=600)
    flow.jobs.append(job_id)
    return job_id


def test_a_job_is_enqueued_and_its_result_awaited(flow: Flow, fermata: Fermata) -> None:
    job = fermata.enqueue("sonic.remaster", clip(), mv="chirp-v5")
    result = job.wait(60)
    assert (result["job_id"], result["operation"]) == (job.id, "sonic.remaster")
    assert result["clips"][0]["audio_url"]
    assert fermata.job(job.id).status().result == result


def test_a_failure_has_its_type_and_its_details(flow: Flow, fermata: Fermata) -> None:
    job = fermata.enqueue("sonic.remaster", clip(), mv="no-such-model")
    with pytest.raises(JobFailed) as caught:
        job.wait(60)
    assert caught.value.type == "InvalidRequest"
    assert "mv" in caught.value.details["fields"]


def test_a_key_that_is_used_again_is_the_same_job(flow: Flow, fermata: Fermata) -> None:
    key, source = clip(), clip()
    jobs = [
        fermata.enqueue("sonic.remaster", source, mv="chirp-v5", idempotency_key=key)
        for _ in range(3)
    ]
    assert len({job.id for job in jobs}) == 1
    jobs[0].wait(60)
    assert len(flow.accepted(source)) == 1


def test_signatures_compose_as_native_canvas(flow: Flow, fermata: Fermata) -> None:
    first = fermata.s("sonic.remaster", clip(), mv="chirp-v5", tenant="acme")
    last = fermata.s("sonic.wav")
    chain(first, last, app=fermata.app).apply_async()
    assert native(flow, str(last.id))["operation"] == "sonic.wav"
    assert flow.record(str(first.id)).lane == "interactive:acme"


def test_a_named_flow_is_followed_to_its_ends(flow: Flow, fermata: Fermata) -> None:
    pack = fermata.enqueue_flow("flows.instrumental_pack", clip(), mv="chirp-v5")
    results = pack.wait(60)
    made = [each["operation"] for each in results]
    assert made == ["sonic.stems_full", "sonic.wav", "sonic.midi"]
    again = fermata.flow("flows.instrumental_pack", pack.id)
    assert [status.state for status in again.statuses()] == ["succeeded"] * 4


def test_a_flow_whose_first_job_fails_says_so_and_skips_the_rest(
    flow: Flow, fermata: Fermata
) -> None:
    broken = fermata.enqueue_flow("sonic.remaster", clip(), mv="nothing", then=["sonic.wav"])
    with pytest.raises(JobFailed, match="InvalidRequest"):
        broken.wait(60)
    assert [status.state for status in broken.statuses()] == ["failed", "skipped"]


def test_progress_is_streamed_before_the_end(flow: Flow, fermata: Fermata) -> None:
    job = fermata.enqueue("sonic.remaster", clip(), job_id=held(flow), mv="chirp-v5")
    flow.waits(job.id)
    seen = []
    for update in job.updates(timeout=20):
        seen.append(update.event)
        if update.status.state == "waiting" and "streaming" not in seen:
            flow.deliver(job.id, streaming())
        elif update.event == "streaming":
            assert update.status.progress
            flow.deliver(job.id, completed())
    assert seen[-2:] == ["streaming", "settled"] or seen[-3:-1] == ["streaming", "state"]
    assert seen[-1] == "settled"


def test_a_job_that_goes_on_is_no_failure(flow: Flow, fermata: Fermata) -> None:
    job = fermata.enqueue("sonic.remaster", clip(), job_id=held(flow), mv="chirp-v5")
    with pytest.raises(StillRunning):
        job.wait(0.5)
    job.cancel()


def test_a_parked_job_is_cancelled_with_its_chain(flow: Flow, fermata: Fermata) -> None:
    job_id = held(flow)
    song = fermata.enqueue_flow(
        "sonic.remaster", clip(), job_id=job_id, mv="chirp-v5", then=["sonic.wav"]
    )
    flow.waits(job_id)
    assert song.cancel() is True
    with pytest.raises(JobFailed, match=r"JobCancelled: .* by the backend"):
        song.wait(60)
    assert song.cancel() is False


@contextmanager
def stranger(system: System, broker_url: str) -> Iterator[None]:
    """Run a worker of another application on a broker."""
    name = f"stranger-{uuid.uuid4()}"
    process = system.run(
        name, "-m", "celery", "-b", broker_url, "worker", "-l", "INFO", "-n", f"{name}@test",
        "-P", "solo", "-Q", "theirs", "--without-gossip", "--without-mingle",
    )  # fmt: skip
    try:
        wait_until(lambda: "ready." in system.log(name), what="the stranger is ready")
        yield
    finally:
        stop(process)


def test_another_applications_worker_does_not_answer_for_fermatas(
    flow: Flow, fermata: Fermata
) -> None:
    job = fermata.enqueue("sonic.remaster", clip(), job_id=held(flow), mv="chirp-v5")
    flow.waits(job.id)
    elsewhere = flow.system.redis_url.removesuffix("/0") + "/5"
    alone = Fermata(elsewhere, redis_url=flow.system.redis_url)

    with stranger(flow.system, elsewhere), pytest.raises(Unavailable, match="no worker"):
        alone.job(job.id).cancel()
    alone.close()
    assert flow.state(job.id) == "waiting"

    with stranger(flow.system, flow.system.broker_url):
        assert job.cancel() is True
    wait_until(lambda: flow.state(job.id) == "cancelled")


def test_a_job_that_no_worker_has_begun_is_cancelled_before_it_costs_anything(
    flow: Flow, fermata: Fermata
) -> None:
    source = clip()
    signature = fermata.s("sonic.remaster", source, mv="chirp-v5")
    job = fermata.job(str(signature.id))
    flow.jobs.append(job.id)
    assert job.cancel() is True
    signature.apply_async()
    with pytest.raises(JobCancelled):
        native(flow, job.id)
    flow.ends()
    assert (flow.state(job.id), flow.accepted(source)) == ("cancelled", [])


def test_what_is_away_is_said_within_seconds(flow: Flow) -> None:
    away = Fermata("redis://127.0.0.1:1/0", timeout_seconds=1)
    with pytest.raises(Unavailable, match="broker"):
        away.enqueue("sonic.wav", clip())
    with pytest.raises(Unavailable, match="Redis"):
        away.job("some-job").status()
    away.close()


def test_a_job_is_enqueued_where_the_result_backend_is_away(flow: Flow) -> None:
    """Only native canvas that is awaited with ``.get()`` needs one."""
    system = flow.system
    fermata = Fermata(system.broker_url, "redis://127.0.0.1:1/0", system.redis_url)
    assert fermata.enqueue("sonic.remaster", clip(), mv="chirp-v5").wait(60)["clips"]
    fermata.enqueue_flow("sonic.remaster", clip(), mv="chirp-v5", then=["sonic.wav"]).wait(60)
    fermata.close()


def test_a_result_backend_that_an_app_brought_along_is_told_to_be_away(flow: Flow) -> None:
    theirs = Celery(broker=flow.system.broker_url, backend="redis://127.0.0.1:1/0")
    theirs.conf.result_backend_transport_options = {"retry_policy": {"max_retries": 0}}
    with pytest.raises(Unavailable):
        Fermata(theirs, redis_url=flow.system.redis_url).enqueue("sonic.wav", clip())
    theirs.close()


def test_native_canvas_is_awaited_with_get(flow: Flow) -> None:
    system = flow.system
    fermata = Fermata(system.broker_url, system.redis_url, system.redis_url)
    first, last = fermata.s("sonic.remaster", clip(), mv="chirp-v5"), fermata.s("sonic.wav")
    result = chain(first, last, app=fermata.app).apply_async()
    assert result.get(timeout=20)["operation"] == "sonic.wav"
    backend: Any = fermata.app.backend
    backend.result_consumer.stop()
    backend.client.close()
    fermata.close()


def test_many_threads_share_one_client(flow: Flow) -> None:
    system = flow.system
    fermata = Fermata(system.broker_url, redis_url=system.redis_url)  # nothing is open yet

    def ends_as_it_should(number: int) -> bool:
        if number % 4:
            job = fermata.enqueue("sonic.remaster", clip(), mv="chirp-v5")
            return job.wait(60)["job_id"] == job.id
        job = fermata.enqueue("sonic.remaster", clip(), job_id=ids[number], mv="chirp-v5")
        flow.waits(job.id)
        return job.cancel()

    ids = [held(flow) if number % 4 == 0 else "" for number in range(24)]
    with ThreadPoolExecutor(12) as pool:
        assert all(pool.map(ends_as_it_should, range(24)))
    for job_id in filter(None, ids):
        wait_until(lambda j=job_id: flow.state(j) == "cancelled")
    fermata.close()


FORKS = """
import os, sys
from fermata_client import Fermata

fermata = Fermata(sys.argv[1], redis_url=sys.argv[2])
enqueue = lambda: fermata.enqueue("sonic.remaster", sys.argv[3], mv="chirp-v5")
before = enqueue().status()
child = os.fork()
jobs = [enqueue() for _ in range(20)]
for job in jobs:
    assert job.wait(60)["job_id"] == job.id
if child:
    assert os.waitpid(child, 0)[1] == 0
"""


def test_a_forked_child_enqueues_beside_its_parent(flow: Flow) -> None:
    source, system = clip(), flow.system
    command = [sys.executable, "-c", FORKS, system.broker_url, system.redis_url, source]
    subprocess.run(command, env=system.environment, timeout=60, check=True)
    assert len(flow.accepted(source)) == 41
