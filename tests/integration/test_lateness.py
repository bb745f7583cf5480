"""What comes when a job's end is decided: kept where it brings what that end lacks, else noted."""

import json
import time
from datetime import timedelta
from typing import Any
from unittest import mock

import pytest

from tests.integration.flow import clip, completed, failed, raw, signed, streaming
from tests.system import SIGNING_KEY
from worker.core import keys
from worker.core.contract import PROBE_ID
from worker.core.job.models import Event, JobId, JSONObject, Source
from worker.core.job.states import Turn
from worker.core.job.timing import Policy
from worker.core.providers import chosen
from worker.core.providers.aimusic import results
from worker.core.providers.aimusic.operations import find
from worker.engine.receive import Deliveries
from worker.store.quarantine import Quarantine
from worker.store.readings import Readings
from worker.store.records import Records

JOB = JobId("job-1")
SONG = completed(task_id="the-song")
SONG_RESULT = results.job_result(JOB, find("sonic.create_music"), SONG)
HALF = completed(data=[SONG["data"][0], {"clip_id": clip(), "state": "failed"}])
ALL_FAILED = json.dumps({"code": 200, "data": [{"clip_id": clip(), "state": "failed"}]})
UNKNOWN_STATE = completed(data=[{"clip_id": clip(), "state": "complete"}])
NO_END = {
    "a clip in a state that we do not know": UNKNOWN_STATE,
    "one clip that still runs": completed(
        data=[*SONG["data"], {"clip_id": "c", "state": "running"}]
    ),
    "no clips": completed(data=[]),
}


class Door:
    """The receiver's use case, with nobody behind it: what is claimed waits for a worker."""

    def __init__(self, redis: Any) -> None:
        self.redis = redis
        self.records, self.readings = Records(redis), Readings(redis)
        self.quarantine = Quarantine(redis)
        self._deliveries = Deliveries(
            records=self.records,
            readings=self.readings,
            provider=chosen(),
            quarantine=self.quarantine,
            signing_keys=[SIGNING_KEY],
            tolerance=timedelta(minutes=5),
            policy=Policy(),
            clock=time.time,
        )

    def submit(self, job_id: JobId = JOB, *, accepted: bool = True) -> None:
        fields = {"operation": "sonic.create_music", "parked": "{}"}
        now = time.time()
        self.records.turn(job_id, Turn.SUBMIT, now=now, due_at=now, fields=fields, leg="leg")
        if accepted:
            self.records.turn(job_id, Turn.ACCEPT, now=now, due_at=now, leg="leg")

    def claim(self, event: Event) -> bool:
        return self.records.claim(JOB, event, now=time.time())

    def deliver(self, content: Any, job_id: JobId = JOB) -> str:
        body = raw(content)
        return self._deliveries.receive(job_id, signed(job_id, body), body)

    def settle(self, turn: Turn, **fields: Any) -> None:
        drop = ["parked", "event"]
        assert self.records.turn(JOB, turn, now=time.time(), due_at=None, fields=fields, drop=drop)

    def late(self) -> Any:
        return json.loads((self.readings.read(JOB).late or {"body": "null"})["body"])

    def timeline(self) -> Any:
        return self.readings.read(JOB).timeline

    def kept(self) -> list[Any]:
        return [(entry.kind, json.loads(entry.body)) for entry in self.quarantine.entries()]


@pytest.fixture
def door(redis: Any) -> Door:
    return Door(redis)


@pytest.fixture
def parked(door: Door) -> Door:
    door.submit()
    return door


FAILURES = {
    "a failure delivered": Event(Source.WEBHOOK, body=json.dumps(failed())),
    "a poll whose clips all failed": Event(Source.POLL, body=ALL_FAILED),
    "a poll that nobody can read": Event(Source.POLL, body=json.dumps(completed(data={"x": 1}))),
    "the deadline": Event(Source.SWEEP, error={"type": "DeadlineExceeded", "message": "late"}),
}


@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.parametrize("settled", [False, True])
def test_a_song_that_a_failure_was_ahead_of_is_kept_before_and_after_the_job_settles(
    parked: Door, failure: str, settled: bool
) -> None:
    assert parked.claim(FAILURES[failure])
    if settled:
        parked.settle(Turn.FAIL, error={"type": "TaskFailed"})

    assert [parked.deliver(SONG), parked.deliver(SONG)] == ["late", "without effect"]

    assert parked.late() == SONG
    if not settled:
        parked.settle(Turn.FAIL, error={"type": "TaskFailed"})
    assert parked.late() == SONG


@pytest.mark.parametrize("settled", [False, True])
@pytest.mark.parametrize("content", [SONG, failed()], ids=["a song", "a failure"])
def test_a_delivery_that_comes_again_is_noted_in_one_round_trip(
    parked: Door, content: Any, settled: bool
) -> None:
    assert parked.deliver(content) == "resumed"
    if settled and content is SONG:
        parked.settle(Turn.SUCCEED, result={"clips": []})
    elif settled:
        parked.settle(Turn.FAIL, error={"type": "TaskFailed"})
    before, timeline = parked.redis.hgetall(keys.job(JOB)), parked.timeline()

    with mock.patch.object(
        parked.redis, "execute_command", wraps=parked.redis.execute_command
    ) as ask:
        assert parked.deliver(content) == "without effect"

    assert ask.call_count == 1
    [added] = parked.timeline()[len(timeline) :]
    assert added["what"] == f"{content['event']} again"
    assert (parked.redis.hgetall(keys.job(JOB)), parked.late()) == (before, None)


def test_a_song_that_its_job_could_not_be_read_from_is_kept_when_it_comes_again(
    parked: Door,
) -> None:
    assert parked.deliver(SONG) == "resumed"
    parked.settle(Turn.FAIL, error={"type": "InvalidPayload"})
    assert [parked.deliver(SONG), parked.deliver(SONG)] == ["late", "without effect"]
    assert parked.late() == SONG


def test_a_failure_that_a_song_was_ahead_of_is_nothing_to_keep(parked: Door) -> None:
    assert parked.deliver(SONG) == "resumed"
    assert parked.deliver(failed()) == "without effect"
    assert parked.late() is None


@pytest.mark.parametrize("ahead", [SONG, SONG | {"message": "another wording"}])
def test_a_song_that_resumes_its_job_already_is_not_late(parked: Door, ahead: JSONObject) -> None:
    assert parked.claim(Event(Source.POLL, body=json.dumps(ahead)))
    assert parked.deliver(SONG) == "without effect"
    assert parked.late() is None


def test_a_failure_that_is_delivered_again_is_not_late(parked: Door) -> None:
    clips = completed(data=[{"clip_id": clip(), "state": "failed"}])
    assert [parked.deliver(clips), parked.deliver(clips)] == ["resumed", "without effect"]
    assert parked.late() is None


@pytest.mark.parametrize("settled", [False, True])
def test_the_whole_of_a_song_is_kept_where_a_part_of_it_was_ahead(
    parked: Door, settled: bool
) -> None:
    assert parked.deliver(HALF) == "resumed"
    if settled:
        parked.settle(Turn.SUCCEED, result={"clips": [], "data": {}, "partial": True})

    assert [parked.deliver(each) for each in (HALF, SONG, SONG)] == [
        "without effect", "late", "without effect",
    ]  # fmt: skip
    assert parked.late() == SONG


@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize("settled", [False, True])
def test_another_song_is_kept_where_its_job_was_submitted_more_than_once(
    door: Door, settled: bool, again: bool
) -> None:
    door.submit(accepted=False)
    if again:
        now = time.time()
        door.records.turn(JOB, Turn.DOUBT, now=now, due_at=now, leg="leg")
        assert door.records.turn(JOB, Turn.RESUBMIT, now=now, due_at=now, count="resubmissions")
        door.submit()
    other = completed(data=[SONG["data"][0] | {"clip_id": clip()}])
    assert door.deliver(SONG) == "resumed"
    if settled:
        door.settle(Turn.SUCCEED, result=SONG_RESULT)

    answers = [door.deliver(each) for each in (SONG | {"message": "again"}, other, other)]

    kept = "late" if again else "without effect"
    assert answers == ["without effect", kept, "without effect"]
    assert door.late() == (other if again else None)


@pytest.mark.parametrize("name", NO_END)
def test_a_completion_that_is_no_end_is_kept_where_the_job_is_gone(door: Door, name: str) -> None:
    assert door.deliver(NO_END[name]) == "quarantined"
    assert door.kept() == [("orphan", NO_END[name])]
    assert not door.redis.exists(keys.job(JOB))


@pytest.mark.parametrize("name", NO_END)
def test_a_completion_that_is_no_end_is_late_until_the_end_comes(parked: Door, name: str) -> None:
    assert parked.claim(FAILURES["the deadline"])
    parked.settle(Turn.EXPIRE, error={"type": "DeadlineExceeded"})

    assert parked.deliver(NO_END[name]) == "late"
    assert parked.late() == NO_END[name]
    assert [parked.deliver(each) for each in (NO_END[name], SONG, NO_END[name])] == [
        "without effect", "late", "without effect",
    ]  # fmt: skip
    assert parked.late() == SONG


@pytest.mark.parametrize("name", NO_END)
def test_a_completion_that_is_no_end_is_noted_where_the_job_succeeded(
    parked: Door, name: str
) -> None:
    assert parked.deliver(SONG) == "resumed"
    parked.settle(Turn.SUCCEED, result={"clips": [], "data": {}, "partial": False})

    assert parked.deliver(NO_END[name]) == "without effect"

    assert parked.readings.read(JOB).timeline[-1]["what"] == "song.completed again"
    assert (parked.late(), parked.kept()) == (None, [])


def test_a_task_id_that_is_half_a_character_does_no_harm(door: Door) -> None:
    door.submit(accepted=False)
    body = raw(streaming() | {"task_id": "X"}).replace(b'"X"', b'"\\ud800"')
    assert door.deliver(body) == "progress"
    record = door.readings.read(JOB)
    assert (record.state, record.provider_task_id) == ("waiting", "\\ud800")


def test_a_job_that_is_called_as_the_doctors_probe_is_gets_its_webhook(door: Door) -> None:
    probe = JobId(PROBE_ID)
    assert door.deliver({}, probe) == "without effect"
    door.submit(probe)
    assert door.deliver(SONG, probe) == "resumed"
