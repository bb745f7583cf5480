"""The records in a real Valkey and in real Redis servers: each script closes the race that it
says it closes."""

import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from kombu.exceptions import OperationalError
from redis import Redis

from tests import servers
from tests.system import wait_until, within
from worker.core import keys
from worker.core.errors import UnknownJob
from worker.core.job.lanes import Limits
from worker.core.job.models import Event, JobId, Leased, Parked, ProviderTaskId, Source
from worker.core.job.states import TERMINAL, JobState, Turn
from worker.core.job.timing import PUBLISH_LEASE_SECONDS, Policy
from worker.core.providers import chosen
from worker.core.providers.aimusic.operations import find
from worker.engine.cancel import Cancellation, Cancellations
from worker.engine.legs import Callbacks, Jobs
from worker.messages.press import Publisher, SubmitLegs
from worker.store import connection
from worker.store.connection import StoreUnavailable
from worker.store.embedded import EmbeddedValkey
from worker.store.gate import Gate
from worker.store.records import Store

NOW = 1_763_800_000.0
JOB = JobId("job-1")
THREADS = 50
EVENT = Event(Source.WEBHOOK, body='{"event": "song.completed"}', delivery_id="d-1")

AT_ONCE: dict[str, Any] = {
    "now": NOW,
    "stale_at": NOW,
    "published_stale_at": NOW,
    "push": False,
}


@pytest.fixture(scope="module", params=["Valkey 9", *servers.REDIS_VERSIONS])
def valkey(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Any]:
    folder = tmp_path_factory.mktemp("valkey")
    embedded = request.param == "Valkey 9"
    server = EmbeddedValkey(folder) if embedded else servers.redis(request.param, folder)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def records(redis: Any) -> Store:
    return Store(redis)


def at_once(call: Callable[[int], Any], *, threads: int = THREADS) -> list[Any]:
    """Make one call from many threads that start together; returns what each returned."""
    ready = threading.Barrier(threads)

    def run(number: int) -> Any:
        ready.wait()
        return call(number)

    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(run, range(threads)))


def begin(records: Store, job_id: JobId = JOB, *, leg: str = "leg-1", **fields: Any) -> bool:
    given = {"operation": "sonic.remaster", "parked": f"message of {job_id}"} | fields
    begun = records.turn(
        job_id, Turn.SUBMIT, now=NOW, due_at=NOW + 100, fields=given, leg=leg, count="attempts"
    )
    return begun and bool(records.announce(job_id, leg))


def claim(records: Store, job_id: JobId = JOB, *, event: Event = EVENT, **options: Any) -> bool:
    return records.claim(job_id, event, now=NOW, **options)


def lease(records: Store, *, seconds: float = 60, limit: int = 9) -> list[JobId]:
    return [leased.job_id for leased in records.lease(seconds=seconds, limit=limit)]


def make_ready(records: Store, *job_ids: str) -> None:
    """Claim jobs, in this order."""
    for job_id in job_ids:
        begin(records, JobId(job_id))
        assert claim(records, JobId(job_id))


def leasable_in(records: Store, redis: Any, job_id: str = JOB) -> float:
    """The seconds until a job may be leased, by the server's clock."""
    return float(redis.zscore(keys.READY, job_id)) - records.clock()


def enqueue(records: Store, *, due_at: float, **fields: Any) -> None:
    given = {"operation": "sonic.remaster", "parked": "m"} | fields
    assert records.turn(JOB, Turn.ENQUEUE, now=NOW, due_at=due_at, fields=given)


def settle(records: Store, turn: Turn = Turn.SUCCEED, *, retain: int | None = 600) -> bool:
    return records.turn(JOB, turn, now=NOW, due_at=None, retain_seconds=retain)


def settled(records: Store, turn: Turn = Turn.SUCCEED) -> None:
    """Bring a job to its end."""
    begin(records)
    claim(records)
    assert settle(records, turn)


def due_at(redis: Any, job_id: JobId = JOB) -> float | None:
    moment: float | None = redis.zscore(keys.DUE, job_id)
    return moment


# -- turns ------------------------------------------------------------------------------------


def test_a_turn_writes_the_record_and_its_next_moment(records: Store, redis: Any) -> None:
    assert begin(records, deadline_at=str(NOW + 3600))
    job = records.read(JOB)
    assert (job.state, job.operation, job.attempts) == (JobState.SUBMITTING, "sonic.remaster", 1)
    assert (job.created_at, job.deadline_at, job.due_at) == (NOW, NOW + 3600, NOW + 100)
    assert job.timeline[0] == {"at": NOW, "what": "submit", "state": "submitting"}
    assert redis.zscore(keys.JOBS, JOB) == NOW


def test_of_many_legs_at_once_exactly_one_begins(records: Store) -> None:
    won = at_once(lambda number: begin(records, leg=f"leg-{number}"))
    assert won.count(True) == 1
    job = records.read(JOB)
    assert (job.attempts, len(job.timeline)) == (1, 1)


def test_of_many_turns_at_once_each_is_taken_at_most_once(records: Store) -> None:
    begin(records)
    turns = (Turn.ACCEPT, Turn.POSTPONE, Turn.DOUBT)

    def take(number: int) -> bool:
        return records.turn(JOB, turns[number % 3], now=NOW, due_at=NOW + number)

    won = [turns[number % 3] for number, each in enumerate(at_once(take)) if each]
    # A late answer is still accepted: one turn more, and in that order.
    assert Counter(won) <= Counter((Turn.ACCEPT, Turn.POSTPONE)) or Counter(won) <= Counter(
        (Turn.ACCEPT, Turn.DOUBT)
    )
    assert len(records.read(JOB).timeline) == 1 + len(won)


def test_a_turn_that_is_sent_twice_by_its_leg_has_won_twice_and_happened_once(
    records: Store,
) -> None:
    assert begin(records, leg="leg-1")
    assert begin(records, leg="leg-1")
    job = records.read(JOB)
    assert (job.attempts, len(job.timeline)) == (1, 1)


def test_another_leg_does_not_win_what_the_first_has(records: Store) -> None:
    begin(records, leg="leg-1")
    assert not begin(records, leg="leg-2")
    assert records.turn(JOB, Turn.POSTPONE, now=NOW, due_at=NOW)
    assert begin(records, leg="leg-2")
    assert records.read(JOB).attempts == 2


def test_a_turn_that_is_not_allowed_changes_nothing(records: Store, redis: Any) -> None:
    begin(records)
    before = redis.hgetall(keys.job(JOB))
    assert not records.turn(
        JOB, Turn.SUCCEED, now=NOW + 1, due_at=None, fields={"x": "y"}, drop=("parked",),
        count="polls", retain_seconds=60,
    )  # fmt: skip
    assert redis.hgetall(keys.job(JOB)) == before
    assert due_at(redis) == NOW + 100
    assert redis.ttl(keys.job(JOB)) == -1


@pytest.mark.parametrize("turn", [Turn.ACCEPT, Turn.DOUBT, Turn.SUCCEED, Turn.RESUBMIT])
def test_a_turn_makes_no_record_where_there_is_none(records: Store, redis: Any, turn: Turn) -> None:
    assert not records.turn(JOB, turn, now=NOW, due_at=NOW)
    assert redis.keys("*") == []


@pytest.mark.parametrize("turn", [Turn.SUCCEED, Turn.FAIL, Turn.EXPIRE])
def test_no_turn_leaves_a_terminal_state(records: Store, redis: Any, turn: Turn) -> None:
    settled(records, turn)
    before = redis.hgetall(keys.job(JOB))
    assert not any(records.turn(JOB, each, now=NOW + 9, due_at=NOW + 9) for each in Turn)
    assert not claim(records)
    assert redis.hgetall(keys.job(JOB)) == before
    assert due_at(redis) is None


def test_a_settled_job_keeps_its_record_for_its_retention(records: Store, redis: Any) -> None:
    begin(records)
    claim(records)
    assert redis.ttl(keys.job(JOB)) == -1
    assert settle(records, retain=600)
    assert 590 < redis.ttl(keys.job(JOB)) <= 600
    records.note(JOB, now=NOW, sources=JobState, fields={"provider_task_id": "t-1"})
    assert 590 < redis.ttl(keys.job(JOB)) <= 600


def test_a_request_that_was_wrong_from_the_start_is_recorded_too(
    records: Store, redis: Any
) -> None:
    fields = {"operation": "sonic.wav", "error": {"type": "InvalidRequest", "message": "No."}}
    assert records.turn(JOB, Turn.FAIL, now=NOW, due_at=None, fields=fields, retain_seconds=600)
    job = records.read(JOB)
    assert (job.state, job.error, job.due_at) == (JobState.FAILED, fields["error"], None)
    assert redis.ttl(keys.job(JOB)) > 0


def test_fields_are_set_and_dropped_in_one_turn(records: Store, redis: Any) -> None:
    begin(records)
    claim(records)
    records.turn(
        JOB, Turn.SUCCEED, now=NOW, due_at=None, fields={"result": {"clips": []}},
        drop=("parked", "event"),
    )  # fmt: skip
    assert records.read(JOB).result == {"clips": []}
    assert records.message(JOB) is None
    assert {"parked", "event"}.isdisjoint(redis.hgetall(keys.job(JOB)))


# -- notes ------------------------------------------------------------------------------------


def test_a_note_writes_without_a_turn(records: Store, redis: Any) -> None:
    begin(records)
    state = records.note(
        JOB, now=NOW + 1, what="song.streaming", fields={"progress": {"clips": []}}, count="polls"
    )
    job = records.read(JOB)
    assert state is job.state is JobState.SUBMITTING
    assert (job.progress, job.polls, job.due_at) == ({"clips": []}, 1, NOW + 100)
    assert job.timeline[-1] == {"at": NOW + 1, "what": "song.streaming"}


def test_a_note_of_other_states_moves_nothing(records: Store, redis: Any) -> None:
    begin(records)
    state = records.note(
        JOB, now=NOW, sources=(JobState.WAITING,), due_at=NOW + 5, fields={"progress": {"x": 1}}
    )
    assert state is JobState.SUBMITTING
    assert due_at(redis) == NOW + 100
    assert records.read(JOB).progress is None


@pytest.mark.parametrize("turn", [Turn.SUCCEED, Turn.FAIL, Turn.EXPIRE])
def test_a_note_in_a_terminal_state_changes_nothing(records: Store, redis: Any, turn: Turn) -> None:
    settled(records, turn)
    before = redis.hgetall(keys.job(JOB))
    state = records.note(
        JOB, now=NOW, what="late", due_at=NOW, fields={"progress": {"x": 1}}, count="polls"
    )
    assert state in TERMINAL
    assert redis.hgetall(keys.job(JOB)) == before
    assert due_at(redis) is None


def test_a_note_makes_no_record_where_there_is_none(records: Store, redis: Any) -> None:
    assert records.note(JOB, now=NOW, what="x", due_at=NOW, sources=JobState) is None
    assert redis.keys("*") == []


def test_the_timeline_is_bounded(records: Store, redis: Any) -> None:
    begin(records)
    for number in range(600):
        records.note(JOB, now=NOW + number, what="song.streaming", why="w" * 100)
    assert redis.strlen(keys.timeline(JOB)) < 32768 + 500
    timeline = records.read(JOB).timeline
    assert 100 < len(timeline) < 600
    assert timeline[0]["what"] == "submit"


def test_a_full_timeline_still_tells_how_the_job_ended(records: Store) -> None:
    begin(records)
    for number in range(600):
        records.note(JOB, now=NOW + number, what="song.streaming", why="w" * 100)
    claim(records)
    settle(records)
    told = [entry["what"] for entry in records.read(JOB).timeline]
    assert told[-2:] == ["claim", "succeed"]


# -- claims -----------------------------------------------------------------------------------


def test_of_many_claims_at_once_exactly_one_wins(records: Store) -> None:
    begin(records)

    def one(number: int) -> bool:
        event = Event(Source.WEBHOOK, body=str(number), delivery_id=f"d-{number}")
        return claim(records, event=event)

    won = at_once(one)
    assert won.count(True) == 1
    [leased] = records.lease(seconds=60, limit=9)
    assert leased.event.delivery_id == f"d-{won.index(True)}"


def test_a_claim_makes_the_job_ready_and_leaves_nothing_to_the_sweep(
    records: Store, redis: Any
) -> None:
    begin(records)
    assert claim(records)
    assert leasable_in(records, redis) <= 0
    assert due_at(redis) is None


def test_a_claim_wakes_a_conductor_that_waits(records: Store, redis: Any) -> None:
    begin(records)
    with ThreadPoolExecutor(1) as conductor:
        waiting = conductor.submit(records.wait_for_ready, 4)
        claim(records)
        waiting.result()
    assert redis.llen(keys.RING) == 0  # it was taken, and by nobody else
    assert lease(records) == [JOB]


def test_of_many_claims_few_words_stay_behind(records: Store, redis: Any) -> None:
    make_ready(records, *(f"job-{number}" for number in range(20)))
    assert redis.llen(keys.RING) == 8


def test_a_job_without_a_parked_message_cannot_be_claimed(records: Store, redis: Any) -> None:
    fields = {"operation": "sonic.remaster"}
    records.turn(JOB, Turn.SUBMIT, now=NOW, due_at=NOW + 100, fields=fields, leg="leg-1")
    before = redis.hgetall(keys.job(JOB))
    assert not claim(records)
    assert redis.hgetall(keys.job(JOB)) == before


def test_a_job_that_does_not_exist_cannot_be_claimed(records: Store, redis: Any) -> None:
    assert not claim(records)
    assert redis.keys("*") == []


@pytest.mark.parametrize(
    ("turn", "state"),
    [
        (None, JobState.SUBMITTING),
        (Turn.POSTPONE, JobState.QUEUED),
        (Turn.DOUBT, JobState.UNCONFIRMED),
        (Turn.ACCEPT, JobState.WAITING),
    ],
)
def test_a_job_can_be_claimed_from_the_moment_its_callback_exists(
    records: Store, turn: Turn | None, state: JobState
) -> None:
    begin(records)
    if turn:
        records.turn(JOB, turn, now=NOW, due_at=NOW)
    assert records.state(JOB) is state
    assert claim(records)
    assert records.state(JOB) is JobState.RESUMING


# -- leases -----------------------------------------------------------------------------------


def test_of_many_conductors_that_lease_at_once_each_job_goes_to_one(
    records: Store, redis: Any
) -> None:
    make_ready(records, *(f"job-{number}" for number in range(100)))
    shares = at_once(lambda _: lease(records, limit=3))
    leased = [job_id for share in shares for job_id in share]
    assert len(leased) == len(set(leased)) == 100
    assert max(map(len, shares)) == 3
    assert {records.read(job_id).claims for job_id in leased} == {1}


def test_the_longest_ready_are_leased_first(records: Store) -> None:
    make_ready(records, "first", "second", "third")
    assert lease(records, limit=2) == ["first", "second"]
    assert lease(records, limit=2) == ["third"]


def test_a_lease_hands_out_all_that_the_leg_needs(records: Store) -> None:
    event = Event(Source.POLL, body='{"title": "Café \\ud83c\\udfb5 \\ud800", "n": 1}')
    begin(records, clip_id="c-1", provider_task_id="t-1")
    claim(records, event=event)
    assert records.lease(seconds=60, limit=9) == [
        Leased(
            JOB, "sonic.remaster", f"message of {JOB}", event, 1,
            clip_id="c-1", provider_task_id=ProviderTaskId("t-1"),
        )
    ]  # fmt: skip


@pytest.mark.parametrize("broken", ["{", "[]", '{"source": "an oracle"}', ""])
def test_an_event_that_cannot_be_read_fails_its_job_and_hinders_no_other(
    records: Store, redis: Any, broken: str
) -> None:
    make_ready(records, "first", JOB)
    redis.hset(keys.job("first"), "event", broken)
    first, second = records.lease(seconds=60, limit=9)
    assert (first.event.error or {})["type"] == "InvalidPayload"
    assert second.event == EVENT


def test_when_a_lease_ends_another_conductor_has_the_job(records: Store, redis: Any) -> None:
    make_ready(records, JOB)
    assert lease(records, seconds=0.2) == [JOB]
    assert lease(records) == []
    wait_until(lambda: leasable_in(records, redis) <= 0)
    won = at_once(lambda _: records.lease(seconds=60, limit=9))
    [leased] = [job for share in won for job in share]
    assert (leased.job_id, leased.claims, leased.event) == (JOB, 2, EVENT)


def test_leases_go_by_the_servers_clock(
    records: Store, redis: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A conductor or receiver whose clock is wrong neither takes what is another's nor hides it."""
    monkeypatch.setattr(time, "time", lambda: NOW + 10**9)
    make_ready(records, JOB)
    assert lease(records, seconds=60) == [JOB]
    assert lease(records) == []
    assert leasable_in(records, redis) == pytest.approx(60, abs=5)


def test_a_renewed_lease_ends_later_or_at_once(records: Store, redis: Any) -> None:
    make_ready(records, JOB, "job-2")
    lease(records, seconds=60)
    records.renew([JOB], seconds=300)
    records.renew([JobId("job-2")], seconds=0)
    assert leasable_in(records, redis) == pytest.approx(300, abs=5)
    assert lease(records) == ["job-2"]


def test_only_what_is_still_ready_is_renewed(records: Store, redis: Any) -> None:
    make_ready(records, JOB, "job-2")
    lease(records)
    assert settle(records)
    records.renew([JOB, JobId("job-2"), JobId("never-heard-of")], seconds=300)
    assert redis.zrange(keys.READY, 0, -1) == ["job-2"]


def test_leases_are_renewed_however_many_they_are(records: Store, redis: Any) -> None:
    make_ready(records, JOB)
    lease(records, seconds=60)
    others = [JobId(f"job-{number}") for number in range(2, 20_001)]
    records.renew([*others, JOB], seconds=300)
    assert leasable_in(records, redis) == pytest.approx(300, abs=5)


@pytest.mark.parametrize("turn", [Turn.SUCCEED, Turn.FAIL, Turn.CANCEL, Turn.EXPIRE])
def test_a_settled_job_is_ready_no_more(records: Store, redis: Any, turn: Turn) -> None:
    settled(records, turn)
    assert redis.zcard(keys.READY) == 0
    assert lease(records) == []


@pytest.mark.parametrize("gone", [False, True])
def test_what_is_ready_and_cannot_be_resumed_is_forgotten(
    records: Store, redis: Any, gone: bool
) -> None:
    begin(records)
    if gone:
        redis.delete(keys.job(JOB))
    redis.zadd(keys.READY, {JOB: 1})
    assert lease(records) == []
    assert redis.zcard(keys.READY) == 0


def test_a_job_that_the_version_before_had_claimed_is_made_ready(
    records: Store, redis: Any
) -> None:
    """That version kept its claims among what is due."""
    begin(records)
    redis.hset(keys.job(JOB), mapping={"state": "resuming", "event": EVENT.dumps(), "claims": 1})
    redis.zadd(keys.DUE, {JOB: NOW - 1, "job-2": NOW - 1})
    assert records.due(now=NOW, lease_until=NOW + 60, limit=9) == ["job-2"]
    assert due_at(redis) is None
    [leased] = records.lease(seconds=60, limit=9)
    assert (leased.job_id, leased.event, leased.claims) == (JOB, EVENT, 2)


# -- moments ----------------------------------------------------------------------------------


def test_each_due_job_goes_to_one_of_many_sweepers(records: Store, redis: Any) -> None:
    jobs = {f"job-{number}": NOW + number for number in range(200)}
    redis.zadd(keys.DUE, jobs)
    shares = at_once(lambda _: records.due(now=NOW + 300, lease_until=NOW + 360, limit=7))
    leased = [job_id for share in shares for job_id in share]
    assert len(leased) == len(set(leased)) == 200
    assert max(map(len, shares)) <= 7
    assert redis.zcount(keys.DUE, NOW + 360, NOW + 360) == 200


def test_the_longest_overdue_come_first_and_the_rest_not_at_all(records: Store, redis: Any) -> None:
    redis.zadd(keys.DUE, {"late": NOW - 5, "later": NOW - 9, "now": NOW, "soon": NOW + 0.001})
    assert records.due(now=NOW, lease_until=NOW + 60, limit=2) == ["later", "late"]
    assert records.due(now=NOW, lease_until=NOW + 60, limit=9) == ["now"]
    assert redis.zscore(keys.DUE, "soon") == NOW + 0.001


def test_a_lease_that_nobody_used_comes_due_again(records: Store, redis: Any) -> None:
    redis.zadd(keys.DUE, {JOB: NOW})
    assert records.due(now=NOW, lease_until=NOW + 60, limit=9) == [JOB]
    assert records.due(now=NOW + 59, lease_until=NOW + 60, limit=9) == []
    assert records.due(now=NOW + 60, lease_until=NOW + 120, limit=9) == [JOB]


@pytest.mark.parametrize("moment", [NOW + 30, NOW + 0.1 + 0.2, NOW + 30.123456789])
def test_a_published_message_moves_the_moment_its_publisher_had_set(
    records: Store, redis: Any, moment: float
) -> None:
    enqueue(records, due_at=moment)
    records.mark_published(JOB, stale_at=moment, until=NOW + 900)
    assert due_at(redis) == NOW + 900


def test_a_moment_that_somebody_else_has_set_is_not_overwritten(records: Store, redis: Any) -> None:
    enqueue(records, due_at=NOW + 30)
    begin(records)
    records.mark_published(JOB, stale_at=NOW + 30, until=NOW + 900)
    assert due_at(redis) == NOW + 100


def test_a_job_that_has_settled_gets_no_moment_from_its_publisher(
    records: Store, redis: Any
) -> None:
    settled(records)
    records.mark_published(JOB, stale_at=NOW + 30, until=NOW + 900)
    assert due_at(redis) is None


def test_the_moment_of_a_job_without_a_record_can_be_forgotten(records: Store, redis: Any) -> None:
    begin(records)
    redis.delete(keys.job(JOB))
    records.drop_due(JOB)
    assert due_at(redis) is None


def test_the_moment_of_a_job_that_has_not_ended_is_kept(records: Store, redis: Any) -> None:
    """Its record may have been written after the sweep saw that there was none."""
    begin(records)
    records.drop_due(JOB)
    assert due_at(redis) == NOW + 100


# -- reading ----------------------------------------------------------------------------------


def test_a_job_that_is_not_there_is_unknown(records: Store) -> None:
    assert records.state(JOB) is None
    assert records.message(JOB) is None
    with pytest.raises(UnknownJob, match=JOB):
        records.read(JOB)


def test_the_newest_jobs_come_first_and_the_forgotten_not_at_all(
    records: Store, redis: Any
) -> None:
    for number in range(5):
        job_id = JobId(f"job-{number}")
        records.turn(
            job_id, Turn.SUBMIT, now=NOW + number, due_at=None, fields={"operation": "sonic.wav"}
        )
    redis.delete(keys.job("job-3"))
    assert [job.job_id for job in records.recent(3)] == ["job-4", "job-2"]
    records.forget_index(before=NOW + 2)
    assert redis.zrange(keys.JOBS, 0, -1) == ["job-3", "job-4"]


LATE = {"at": NOW, "delivery_id": "d-1", "final": True, "body": "{}"}


def keep_late(records: Store, late: Any = LATE, **options: Any) -> bool:
    return records.keep_late(JOB, late, now=NOW, why="webhook d-1", retain_seconds=60, **options)


@pytest.mark.parametrize("turn", [Turn.FAIL, Turn.EXPIRE])
def test_what_comes_late_is_kept_once_and_the_record_with_it(
    records: Store, redis: Any, turn: Turn
) -> None:
    begin(records)
    claim(records)
    records.turn(JOB, turn, now=NOW, due_at=None, retain_seconds=5)
    kept = at_once(lambda n: keep_late(records, LATE | {"delivery_id": f"d-{n}"}))
    assert sorted(kept) == [False] * (THREADS - 1) + [True]
    assert records.read(JOB).late == LATE | {"delivery_id": f"d-{kept.index(True)}"}
    assert [entry["what"] for entry in records.read(JOB).timeline].count("late") == 1
    assert 5 < redis.ttl(keys.job(JOB)) <= 60


def test_an_end_that_comes_late_takes_the_place_of_what_was_none(records: Store) -> None:
    begin(records)
    claim(records)
    records.turn(JOB, Turn.FAIL, now=NOW, due_at=None)
    part = LATE | {"final": False, "body": '{"final": true}'}
    assert [keep_late(records, each) for each in (part, part, LATE, part, LATE)] == [
        True, False, True, False, False,
    ]  # fmt: skip
    assert records.read(JOB).late == LATE


def test_a_delivery_between_the_claim_and_the_end_is_late_only_where_that_is_asked_for(
    records: Store, redis: Any
) -> None:
    begin(records)
    claim(records)
    assert not keep_late(records)
    assert keep_late(records, sources=[JobState.RESUMING])
    assert redis.ttl(keys.job(JOB)) == -1


def test_nothing_is_late_for_a_job_that_goes_on_or_succeeded_or_is_gone(
    records: Store, redis: Any
) -> None:
    assert not keep_late(records)
    assert not redis.exists(keys.job(JOB))
    begin(records)
    assert not keep_late(records)
    claim(records)
    records.turn(JOB, Turn.SUCCEED, now=NOW, due_at=None)
    assert not keep_late(records)


# -- the check --------------------------------------------------------------------------------


def test_the_check_writes_nothing_and_yet_finds_a_server_that_would_not_write(
    records: Store, redis: Any
) -> None:
    before = redis.info("persistence")["rdb_changes_since_last_save"]
    records.check()
    assert redis.info("persistence")["rdb_changes_since_last_save"] == before
    redis.config_set("maxmemory", 1)
    with pytest.raises(StoreUnavailable, match="maxmemory"):
        records.check()
    redis.config_set("maxmemory", 0)
    redis.slaveof("127.0.0.1", 1)
    with pytest.raises(StoreUnavailable, match="read only"):
        records.check()
    redis.slaveof()
    records.check()


# -- away -------------------------------------------------------------------------------------

CALLS: dict[str, Callable[[Store], Any]] = {
    "turn": begin,
    "note": lambda records: records.note(JOB, now=NOW),
    "claim": claim,
    "lease": lease,
    "renew": lambda records: records.renew([JOB], seconds=1),
    "wait_for_ready": lambda records: records.wait_for_ready(0.1),
    "due": lambda records: records.due(now=NOW, lease_until=NOW, limit=1),
    "mark_published": lambda records: records.mark_published(JOB, stale_at=NOW, until=NOW),
    "read": lambda records: records.read(JOB),
    "recent": lambda records: records.recent(1),
    "keep_late": keep_late,
    "check": lambda records: records.check(),
}


@pytest.fixture(scope="module")
def gone(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The URL of a server that has ended."""
    server = EmbeddedValkey(tmp_path_factory.mktemp("gone"))
    url = server.start()
    server.stop()
    return url


@pytest.mark.parametrize("call", CALLS)
def test_a_redis_that_is_gone_is_one_error_in_time(gone: str, call: str) -> None:
    records = Store(connection.connect(gone, timeout_seconds=0.3, retries=0))
    with within(seconds=0.6), pytest.raises(StoreUnavailable):
        CALLS[call](records)


@pytest.fixture(scope="module")
def hung(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a server that accepts connections and says nothing."""
    server = EmbeddedValkey(tmp_path_factory.mktemp("hung"))
    url = server.start()
    assert server.pid
    os.kill(server.pid, signal.SIGSTOP)
    yield url
    os.kill(server.pid, signal.SIGCONT)
    server.stop()


@pytest.mark.parametrize("call", CALLS)
def test_a_redis_that_hangs_is_one_error_in_time(hung: str, call: str) -> None:
    records = Store(connection.connect(hung, timeout_seconds=0.3, retries=0))
    with within(seconds=0.9), pytest.raises(StoreUnavailable):
        CALLS[call](records)


def test_retries_are_bounded_too(hung: str) -> None:
    records = Store(connection.connect(hung, timeout_seconds=0.2, retries=2))
    with within(seconds=2), pytest.raises(StoreUnavailable):
        records.check()


def test_a_restarted_server_still_knows_the_jobs(tmp_path: Path) -> None:
    server = EmbeddedValkey(tmp_path)
    begin(Store(Redis.from_url(server.start(), decode_responses=True)))
    server.stop()
    try:
        records = Store(Redis.from_url(server.start(), decode_responses=True))
        assert records.read(JOB).state is JobState.SUBMITTING
    finally:
        server.stop()


def test_a_leg_that_speaks_late_is_not_heard_once_another_has_begun(records: Store) -> None:
    """A lost reply to "not accepted", sent again, must not put back what its successor submits."""
    begin(records, leg="leg-1")
    postpone: dict[str, Any] = {"now": NOW, "due_at": NOW + 2, "leg": "leg-1"}
    assert records.turn(JOB, Turn.POSTPONE, **postpone)
    assert begin(records, leg="leg-2")
    for turn in (Turn.POSTPONE, Turn.DOUBT, Turn.ACCEPT):
        assert not records.turn(JOB, turn, **postpone)
    assert records.state(JOB) is JobState.SUBMITTING


def test_a_claim_on_behalf_of_a_leg_is_refused_once_another_has_begun(records: Store) -> None:
    begin(records, leg="leg-1")
    records.turn(JOB, Turn.POSTPONE, now=NOW, due_at=NOW + 2, leg="leg-1")
    begin(records, leg="leg-2")
    assert not claim(records, leg="leg-1")
    assert claim(records, leg="leg-2")


@pytest.mark.parametrize("turn", [Turn.POSTPONE, Turn.DOUBT, Turn.ACCEPT])
def test_what_only_waits_is_looked_at_by_its_deadline(
    records: Store, redis: Any, turn: Turn
) -> None:
    begin(records, deadline_at=str(NOW + 100))
    assert records.turn(JOB, turn, now=NOW, due_at=NOW + 900, leg="leg-1")
    assert due_at(redis) == NOW + 100


def test_of_the_copies_of_a_plain_step_one_runs_and_may_be_redelivered(records: Store) -> None:
    taken = at_once(lambda n: records.take_step("step:0", f"copy-{n}", seconds=60))
    assert sum(taken) == 1
    mine = f"copy-{taken.index(True)}"
    assert records.take_step("step:0", mine, seconds=60)
    assert not records.take_step("step:0", "another copy", seconds=60)
    assert records.take_step("step:1", "another copy", seconds=60)


def test_a_claim_for_a_state_that_was_seen_is_refused_in_another(records: Store) -> None:
    begin(records)
    assert not claim(records, seen=JobState.QUEUED)
    assert claim(records, seen=JobState.SUBMITTING)


def test_a_claim_of_a_leg_that_was_sent_twice_was_won_once(records: Store) -> None:
    begin(records)
    assert claim(records, leg="leg-1")
    assert claim(records, leg="leg-1")
    assert not claim(records)
    assert not claim(records, event=Event(Source.WEBHOOK, body="{}"), leg="leg-1")
    assert lease(records) == [JOB]


def test_until_parked_is_stored_a_job_is_claimed_by_its_leg_or_the_provider_alone(
    records: Store, redis: Any
) -> None:
    """Else PARKED, stored a moment later, would overwrite the FAILURE of a cancelled job."""
    cancel = Event(Source.CANCEL, error={"type": "JobCancelled", "message": "by a test"})
    for ours, leg, wins in ((cancel, "", False), (cancel, "leg-1", True), (EVENT, "", True)):
        redis.flushdb()
        begin(records)
        redis.hdel(keys.job(JOB), "announced")
        assert claim(records, event=ours, leg=leg) is wins


def test_a_job_cancelled_before_parked_is_stored_is_marked_for_its_leg(
    records: Store, redis: Any
) -> None:
    begin(records)
    redis.hdel(keys.job(JOB), "announced")
    cancellations = Cancellations(records, lambda: NOW)

    assert cancellations.cancel(JOB, by="a test") is Cancellation.ENDING

    assert redis.ttl(keys.job(JOB)) == -1
    standing = records.announce(JOB, "leg-1")
    assert standing is not None
    assert standing.cancelled_by == "a test"


def test_a_leg_that_has_not_announced_its_job_can_be_given_up_and_then_sends_nothing(
    records: Store, redis: Any
) -> None:
    begin(records)
    redis.hset(keys.job(JOB), "announced", "an earlier leg")
    assert not records.take_from(JOB, "another leg")
    assert records.take_from(JOB, "leg-1")
    assert records.announce(JOB, "leg-1") is None


@pytest.mark.parametrize("announced", ["leg-1", "1"])
def test_a_leg_that_may_have_sent_something_keeps_its_job(
    records: Store, redis: Any, announced: str
) -> None:
    begin(records)
    redis.hset(keys.job(JOB), "announced", announced)
    assert not records.take_from(JOB, "leg-1")
    assert records.announce(JOB, "leg-1")


def test_an_announced_job_whose_record_is_gone_is_unknown(records: Store) -> None:
    with pytest.raises(UnknownJob, match=JOB):
        records.announce(JOB, "leg-1")


def test_what_is_noted_of_a_job_that_the_version_before_ended_goes_with_its_record(
    records: Store, redis: Any
) -> None:
    begin(records)
    claim(records)
    redis.delete(keys.timeline(JOB))
    redis.hset(
        keys.job(JOB), mapping={"state": "failed", "timeline": '{"at": 1, "what": "cancel"}'}
    )
    redis.expire(keys.job(JOB), 100)

    records.note(JOB, now=NOW, what="replayed", sources=JobState)

    assert 0 < redis.ttl(keys.timeline(JOB)) <= 100
    assert [entry["what"] for entry in records.read(JOB).timeline] == ["cancel", "replayed"]
    assert "state" not in records.read(JOB).timeline[0]
    assert records.keep_late(JOB, {"final": True}, now=NOW, why="late", retain_seconds=500)
    assert 400 < redis.ttl(keys.timeline(JOB)) <= 500


def test_a_message_in_its_queue_does_not_outlast_the_deadline(records: Store, redis: Any) -> None:
    enqueue(records, due_at=NOW + 30, deadline_at=NOW + 100)
    records.mark_published(JOB, stale_at=NOW + 30, until=NOW + 900)
    assert redis.zscore(keys.DUE, JOB) == NOW + 100


@pytest.mark.parametrize(
    ("error", "seconds"), [(OperationalError("no such queue"), PUBLISH_LEASE_SECONDS), (None, 900)]
)
def test_a_slow_job_that_could_not_be_passed_on_is_soon_published_again(
    records: Store, redis: Any, error: Exception | None, seconds: float
) -> None:
    transport: Any = None
    jobs = Jobs(
        store=records, provider=chosen(), transport=transport,
        gate=Gate(redis, Limits(), held_seconds=60),
        callbacks=Callbacks("https://fermata.example", "k"), policy=Policy(), clock=lambda: NOW,
        jitter=lambda: 0.0,
    )  # fmt: skip
    publisher = Mock(spec=Publisher, **{"publish.side_effect": error})
    submit_legs = SubmitLegs(records, publisher, lambda: NOW, Policy())

    stale_at = jobs.pass_on(JOB, find("sonic.upload"), {}, Parked("a message", {}))
    assert stale_at is not None
    submit_legs.publish(JOB, stale_at=stale_at)

    publisher.publish.assert_called_once()
    assert due_at(redis) == NOW + seconds


def test_polls_are_spaced_by_the_servers_own_clock(records: Store) -> None:
    waits = [records.reserve_poll(spacing_seconds=10) for _ in range(3)]
    assert waits == pytest.approx([0, 10, 20], abs=1)


def test_an_error_with_half_a_character_is_counted_for_its_batch(
    records: Store, redis: Any
) -> None:
    begin(records, batch="b-1")
    error = {"type": "TaskFailed", "message": "cut \ud83d", "details": {}}
    claim(records)
    assert records.turn(JOB, Turn.FAIL, now=NOW, due_at=None, fields={"error": error})
    assert redis.hget(keys.BATCH + "b-1", "error:TaskFailed") == "1"
