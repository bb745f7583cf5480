"""The client for backends: by names alone, over a real broker, real records and a real worker."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from celery import chain

from fermata_client import Fermata, JobFailed, StillRunning, Unavailable
from tests.integration.flow import Flow, clip, completed, streaming
from tests.system import System, stop, wait_until
from worker.core.errors import JobCancelled
from worker.core.states import TERMINAL


@pytest.fixture
def fermata(flow: Flow) -> Iterator[Fermata]:
    system = flow.system
    fermata = Fermata(system.broker_url, redis_url=system.redis_url)
    yield fermata
    fermata.close()


pytestmark = pytest.mark.parametrize(
    "system", ["one script", "RabbitMQ"], indirect=True, scope="session"
)


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
    result = job.wait(20)
    assert (result["job_id"], result["operation"]) == (job.id, "sonic.remaster")
    assert result["clips"][0]["audio_url"]
    assert fermata.job(job.id).status().result == result


def test_a_failure_has_its_type_and_its_details(flow: Flow, fermata: Fermata) -> None:
    job = fermata.enqueue("sonic.remaster", clip(), mv="no-such-model")
    with pytest.raises(JobFailed) as caught:
        job.wait(20)
    assert caught.value.type == "InvalidRequest"
    assert "mv" in caught.value.details["fields"]


def test_a_key_that_is_used_again_is_the_same_job(flow: Flow, fermata: Fermata) -> None:
    key, source = clip(), clip()
    jobs = [
        fermata.enqueue("sonic.remaster", source, mv="chirp-v5", idempotency_key=key)
        for _ in range(3)
    ]
    assert len({job.id for job in jobs}) == 1
    jobs[0].wait(20)
    assert len(flow.accepted(source)) == 1


def test_signatures_compose_as_native_canvas(flow: Flow, fermata: Fermata) -> None:
    first = fermata.s("sonic.remaster", clip(), mv="chirp-v5", tenant="acme")
    last = fermata.s("sonic.wav")
    chain(first, last, app=fermata.app).apply_async()
    assert native(flow, last.id)["operation"] == "sonic.wav"
    assert flow.record(first.id).lane == "interactive:acme"


def test_a_named_flow_is_followed_to_its_ends(flow: Flow, fermata: Fermata) -> None:
    pack = fermata.enqueue_flow("flows.instrumental_pack", clip(), mv="chirp-v5")
    results = pack.wait(30)
    made = [each["operation"] for each in results]
    assert made == ["sonic.stems_full", "sonic.wav", "sonic.midi"]
    again = fermata.flow("flows.instrumental_pack", pack.id)
    assert [status.state for status in again.statuses()] == ["succeeded"] * 4


def test_a_flow_whose_first_job_fails_says_so_and_skips_the_rest(
    flow: Flow, fermata: Fermata
) -> None:
    broken = fermata.enqueue_flow("sonic.remaster", clip(), mv="nothing", then=["sonic.wav"])
    with pytest.raises(JobFailed, match="InvalidRequest"):
        broken.wait(20)
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
        song.wait(20)
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
    assert fermata.job(signature.id).cancel() is True
    signature.apply_async()
    with pytest.raises(JobCancelled):
        native(flow, signature.id)
    assert flow.accepted(source) == []
    assert flow.state(signature.id) in TERMINAL


def test_what_is_away_is_said_within_seconds(flow: Flow) -> None:
    away = Fermata("redis://127.0.0.1:1/0", timeout_seconds=1)
    with pytest.raises(Unavailable, match="broker"):
        away.enqueue("sonic.wav", clip())
    with pytest.raises(Unavailable, match="Redis"):
        away.job("some-job").status()
    away.close()
