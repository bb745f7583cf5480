"""A small run of the chaos, and the race that chaos found, on its own."""

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from celery.app.task import Context
from celery.exceptions import Reject
from kombu.exceptions import OperationalError
from redis.exceptions import ConnectionError as RedisConnectionError

from tests import system
from tests.chaos.run import Effort, run
from worker.app.accidents import PatientBackend
from worker.messages import recording
from worker.messages.recording import Recorder
from worker.store.embedded import EmbeddedValkey

SEED = 1
SMALL = Effort(jobs=120, faults=25)


@pytest.mark.timeout(600)
def test_every_promise_is_kept_under_faults(tmp_path: Path) -> None:
    outcome = run(SEED, SMALL, tmp_path / "stage", say=print)
    assert outcome.jobs >= SMALL.jobs
    assert outcome.faults.total() >= SMALL.faults
    assert not outcome.verdict.broken


@pytest.fixture
def backend(tmp_path: Path) -> Iterator[PatientBackend]:
    valkey = EmbeddedValkey(tmp_path)
    app = Celery(broker="memory://", backend=valkey.start(), set_as_current=False)
    redis: Any = app.backend
    redis.on_task_call = redis.remove_pending_result = lambda *_: None  # nobody waits for results
    yield PatientBackend(redis)
    redis.client.close()
    valkey.stop()


@pytest.mark.filterwarnings("ignore:Call to deprecated setex")  # celery's own
def test_a_leg_that_runs_again_does_not_end_while_a_dead_worker_claims_its_chord(
    backend: PatientBackend,
) -> None:
    job_id, group_id = str(uuid.uuid4()), str(uuid.uuid4())
    request = Context(id=job_id, group=group_id, group_index=0, chord={"task": "any"})
    claim = backend.get_key_for_group(group_id, ".c")
    backend.client.set(claim, "a dead worker's token")
    with pytest.raises(Reject) as left:
        backend.mark_as_done(job_id, {}, request)
    assert left.value.args[1] is False
    with pytest.raises(Reject):
        backend.mark_as_failure(job_id, ValueError(), request=request)
    assert backend.get_state(job_id) == "PENDING"

    backend.client.set(claim, "done")
    backend.mark_as_done(job_id, {}, request)
    assert backend.get_state(job_id) == "SUCCESS"


@pytest.mark.filterwarnings("ignore:Call to deprecated setex")
def test_a_chord_is_not_failed_by_a_redis_that_is_away_while_it_is_joined(
    backend: PatientBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = backend.app.signature("any", task_id=str(uuid.uuid4()), queue="bodies")
    job_id, group_id = str(uuid.uuid4()), str(uuid.uuid4())
    request = Context(id=job_id, group=group_id, group_index=0, chord=dict(body))
    backend.set_chord_size(group_id, 1)

    def away() -> None:
        monkeypatch.undo()
        raise RedisConnectionError("away")

    monkeypatch.setattr(backend.client, "pipeline", away)
    with pytest.raises(RedisConnectionError):
        backend.mark_as_done(job_id, {}, request, store_result=False)
    assert backend.get_state(body.id) == "PENDING"

    backend.client.delete(backend.get_key_for_group(group_id, ".c"))  # the claim has expired
    backend.mark_as_done(job_id, {}, request)
    with backend.app.connection() as connection:
        assert connection.SimpleQueue("bodies").get_nowait().headers["id"] == body.id


def test_a_next_step_is_published_when_the_broker_is_back(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [OperationalError("away"), ConnectionError("away"), None]

    def publish() -> None:
        answer = answers.pop(0)
        if answer:
            raise answer

    def no_recorder() -> Recorder:
        raise AssertionError("nothing is recorded here")

    monkeypatch.setattr(recording, "PAUSES_SECONDS", (0, 0))
    app = Celery(set_as_current=False, amqp=system.recording(no_recorder))
    amqp: Any = app.amqp
    amqp._retry_publish(publish)
    assert not answers
