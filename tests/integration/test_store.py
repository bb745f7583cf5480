"""The records in a real Valkey and in real Redis servers: each script closes the race that it
says it closes. The fakes pass every test that does not ask for Redis (``tests/fakes.py``)."""

import json
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from kombu.exceptions import OperationalError
from redis import Redis

from tests import fakes, servers
from tests.system import wait_until, within
from worker.core import keys, ports
from worker.core.errors import OutOfCredits, RequestRefused, UnknownJob
from worker.core.job.lanes import Lane, Limits, Priority
from worker.core.job.models import (
    Event,
    Heard,
    JobId,
    Leased,
    Parked,
    ProviderTaskId,
    Settlement,
    Source,
    Standing,
)
from worker.core.job.states import TERMINAL, JobState, Turn
from worker.core.job.timing import PUBLISH_LEASE_SECONDS, Policy
from worker.core.providers.aimusic.operations import find
from worker.core.wire import Refused, SubmitOutcome, Unknown
from worker.engine.attempts import Attempts
from worker.engine.cancel import Cancellation, Cancellations
from worker.messages.press import Publisher, SubmitLegs
from worker.store import connection
from worker.store.agenda import Agenda
from worker.store.connection import StoreUnavailable, check
from worker.store.embedded import EmbeddedValkey
from worker.store.gate import Gate
from worker.store.lists import Lists
from worker.store.plain_steps import PlainSteps
from worker.store.readings import Readings
from worker.store.records import Records

NOW = 1_763_800_000.0
OTHER = JobId("job-2")
JOB = JobId("job-1")
THREADS = 50
EVENT = Event(Source.WEBHOOK, body='{"event": "song.completed"}', delivery_id="d-1")

AT_ONCE: dict[str, Any] = {
    "now": NOW,
    "stale_at": NOW,
    "published_stale_at": NOW,
    "push": False,
}


SERVERS = ["Valkey 9", *servers.REDIS_VERSIONS]
IN_MEMORY = "in memory"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Let a test that looks at no key of Redis run on the fakes too."""
    if "valkey" in metafunc.fixturenames:
        more = [] if "redis" in metafunc.fixturenames else [IN_MEMORY]
        metafunc.parametrize("valkey", [*SERVERS, *more], indirect=True, scope="module")


@pytest.fixture(scope="module")
def valkey(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Any]:
    if request.param == IN_MEMORY:
        yield None
        return
    folder = tmp_path_factory.mktemp("valkey")
    embedded = request.param == "Valkey 9"
    server = EmbeddedValkey(folder) if embedded else servers.redis(request.param, folder)
    server.start()
    yield server
    server.stop()


@dataclass(frozen=True)
class Parts:
    """The parts of the state that a test looks at: those in Redis, or the fakes."""

    records: ports.Records
    readings: ports.Readings
    agenda: Any
    """In Redis, what a conductor asks for too."""
    gate: ports.Gate

    def seen(self, job_id: JobId = JOB) -> Any:
        """Read all that there is to know of a job."""
        return self.readings.read(job_id), self.readings.event(job_id)

    def due_at(self) -> float | None:
        return self.readings.read(JOB).due_at


def parts_of(redis: Any) -> Parts:
    gate = Gate(redis, Limits(), held_seconds=1000)
    return Parts(Records(redis), Readings(redis), Agenda(redis), gate)


def parts_in_memory() -> Parts:
    memory = fakes.Memory()
    return Parts(
        fakes.Records(memory), fakes.Readings(memory), fakes.Agenda(memory), fakes.Gate(memory)
    )


@pytest.fixture
def parts(valkey: Any, request: pytest.FixtureRequest) -> Parts:
    return parts_of(request.getfixturevalue("redis")) if valkey else parts_in_memory()


def at_once(call: Callable[[int], Any], *, threads: int = THREADS) -> list[Any]:
    """Make one call from many threads that start together; returns what each returned."""
    ready = threading.Barrier(threads)

    def run(number: int) -> Any:
        ready.wait()
        return call(number)

    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(run, range(threads)))


def begin(
    parts: Parts, job_id: JobId = JOB, *, leg: str = "leg-1", announced: bool = True, **fields: Any
) -> bool:
    given = {"operation": "sonic.remaster", "parked": f"message of {job_id}"} | fields
    begun = parts.records.turn(
        job_id, Turn.SUBMIT, now=NOW, due_at=NOW + 100, fields=given, leg=leg, count="attempts"
    )
    return begun and (not announced or bool(parts.records.announce(job_id, leg)))


def claim(parts: Parts, job_id: JobId = JOB, *, event: Event = EVENT, **options: Any) -> bool:
    return parts.records.claim(job_id, event, now=NOW, **options)


def lease(parts: Parts, *, seconds: float = 60, limit: int = 9) -> list[JobId]:
    return [leased.job_id for leased in parts.agenda.lease(seconds=seconds, limit=limit)]


def make_ready(parts: Parts, *job_ids: str) -> None:
    """Claim jobs, in this order."""
    for job_id in job_ids:
        begin(parts, JobId(job_id))
        assert claim(parts, JobId(job_id))


def leasable_in(parts: Parts, redis: Any, job_id: str = JOB) -> float:
    """The seconds until a job may be leased, by the server's clock."""
    return float(redis.zscore(keys.READY, job_id) - parts.agenda.clock())


def enqueue(parts: Parts, job_id: str = JOB, *, due_at: float, **fields: Any) -> None:
    given = {"operation": "sonic.remaster", "parked": "m"} | fields
    assert parts.records.turn(JobId(job_id), Turn.ENQUEUE, now=NOW, due_at=due_at, fields=given)


def settle(parts: Parts, turn: Turn = Turn.SUCCEED, *, retain: int | None = 600) -> bool:
    return parts.records.turn(JOB, turn, now=NOW, due_at=None, retain_seconds=retain)


def settled(parts: Parts, turn: Turn = Turn.SUCCEED) -> None:
    """Bring a job to its end."""
    begin(parts)
    claim(parts)
    assert settle(parts, turn)


def due_at(redis: Any, job_id: JobId = JOB) -> float | None:
    moment: float | None = redis.zscore(keys.DUE, job_id)
    return moment


# -- turns ------------------------------------------------------------------------------------


def test_a_turn_writes_the_record_and_its_due_time(parts: Parts) -> None:
    assert begin(parts, deadline_at=str(NOW + 3600))
    job = parts.readings.read(JOB)
    assert (job.state, job.operation, job.attempts) == (JobState.SUBMITTING, "sonic.remaster", 1)
    assert (job.created_at, job.deadline_at, job.due_at) == (NOW, NOW + 3600, NOW + 100)
    assert job.timeline[0] == {"at": NOW, "what": "submit", "state": "submitting"}


def test_of_many_legs_at_once_exactly_one_begins(parts: Parts) -> None:
    won = at_once(lambda number: begin(parts, leg=f"leg-{number}"))
    assert won.count(True) == 1
    job = parts.readings.read(JOB)
    assert (job.attempts, len(job.timeline)) == (1, 1)


def test_of_many_turns_at_once_each_is_taken_at_most_once(parts: Parts) -> None:
    begin(parts)
    turns = (Turn.ACCEPT, Turn.POSTPONE, Turn.DOUBT)

    def take(number: int) -> bool:
        return parts.records.turn(JOB, turns[number % 3], now=NOW, due_at=NOW + number)

    won = [turns[number % 3] for number, each in enumerate(at_once(take)) if each]
    # A late answer is still accepted: one turn more, and in that order.
    assert Counter(won) <= Counter((Turn.ACCEPT, Turn.POSTPONE)) or Counter(won) <= Counter(
        (Turn.ACCEPT, Turn.DOUBT)
    )
    assert len(parts.readings.read(JOB).timeline) == 1 + len(won)


def test_a_turn_that_is_sent_twice_by_its_leg_has_won_twice_and_happened_once(
    parts: Parts,
) -> None:
    assert begin(parts, leg="leg-1")
    assert begin(parts, leg="leg-1")
    job = parts.readings.read(JOB)
    assert (job.attempts, len(job.timeline)) == (1, 1)


def test_another_leg_does_not_win_what_the_first_has(parts: Parts) -> None:
    begin(parts, leg="leg-1")
    assert not begin(parts, leg="leg-2")
    assert parts.records.turn(JOB, Turn.POSTPONE, now=NOW, due_at=NOW)
    assert begin(parts, leg="leg-2")
    assert parts.readings.read(JOB).attempts == 2


def test_a_turn_that_is_not_allowed_changes_nothing(parts: Parts, redis: Any) -> None:
    begin(parts)
    before = redis.hgetall(keys.job(JOB))
    assert not parts.records.turn(
        JOB, Turn.SUCCEED, now=NOW + 1, due_at=None, fields={"x": "y"}, drop=("parked",),
        count="polls", retain_seconds=60,
    )  # fmt: skip
    assert redis.hgetall(keys.job(JOB)) == before
    assert due_at(redis) == NOW + 100
    assert redis.ttl(keys.job(JOB)) == -1


@pytest.mark.parametrize("turn", [Turn.ACCEPT, Turn.DOUBT, Turn.SUCCEED, Turn.RESUBMIT])
def test_a_turn_makes_no_record_where_there_is_none(parts: Parts, redis: Any, turn: Turn) -> None:
    assert not parts.records.turn(JOB, turn, now=NOW, due_at=NOW)
    assert redis.keys("*") == []


@pytest.mark.parametrize("turn", [Turn.SUCCEED, Turn.FAIL, Turn.EXPIRE])
def test_no_turn_leaves_a_terminal_state(parts: Parts, turn: Turn) -> None:
    settled(parts, turn)
    before = parts.seen()
    assert not any(parts.records.turn(JOB, each, now=NOW + 9, due_at=NOW + 9) for each in Turn)
    assert not claim(parts)
    assert parts.seen() == before
    assert parts.due_at() is None


def test_a_settled_job_keeps_its_record_for_its_retention(parts: Parts, redis: Any) -> None:
    begin(parts)
    claim(parts)
    assert redis.ttl(keys.job(JOB)) == -1
    assert settle(parts, retain=600)
    assert 590 < redis.ttl(keys.job(JOB)) <= 600
    parts.records.note(JOB, now=NOW, sources=JobState, fields={"provider_task_id": "t-1"})
    assert 590 < redis.ttl(keys.job(JOB)) <= 600


def test_many_jobs_are_settled_in_one_round_trip_each_by_its_own_state(parts: Parts) -> None:
    begin(parts)
    claim(parts)
    begin(parts, OTHER)
    ends = [
        Settlement(job_id, Turn.SUCCEED, "", {"result": {"clips": []}}, ["parked"], {})
        for job_id in (JOB, OTHER, JobId("nobody"))
    ]
    assert parts.records.settle(ends, now=NOW, retain_seconds=60) == [True, False, False]
    assert parts.records.settle(ends, now=NOW, retain_seconds=60) == [False, False, False]
    job, other = parts.readings.read(JOB), parts.readings.read(OTHER)
    assert (job.state, job.result) == (JobState.SUCCEEDED, {"clips": []})
    assert (other.state, other.result) == (JobState.SUBMITTING, None)


def test_a_job_whose_record_is_broken_keeps_no_other_from_being_settled(
    parts: Parts, redis: Any
) -> None:
    begin(parts)
    claim(parts)
    redis.set(keys.job(OTHER), "no hash")
    ends = [Settlement(job_id, Turn.SUCCEED, "", {}, [], {}) for job_id in (OTHER, JOB)]
    refused, won = parts.records.settle(ends, now=NOW, retain_seconds=60)
    assert won is True
    assert isinstance(refused, StoreUnavailable)


def test_a_server_that_has_lost_its_scripts_gets_them_again(parts: Parts, redis: Any) -> None:
    begin(parts)
    claim(parts)
    redis.script_flush()
    ends = [Settlement(JOB, Turn.SUCCEED, "", {}, [], {})]
    assert parts.records.settle(ends, now=NOW, retain_seconds=60) == [True]


def test_a_request_that_was_wrong_from_the_start_is_recorded_too(parts: Parts, redis: Any) -> None:
    fields = {"operation": "sonic.wav", "error": {"type": "InvalidRequest", "message": "No."}}
    assert parts.records.turn(
        JOB, Turn.FAIL, now=NOW, due_at=None, fields=fields, retain_seconds=600
    )
    job = parts.readings.read(JOB)
    assert (job.state, job.error, job.due_at) == (JobState.FAILED, fields["error"], None)
    assert redis.ttl(keys.job(JOB)) > 0


def test_fields_are_set_and_dropped_in_one_turn(parts: Parts, redis: Any) -> None:
    begin(parts)
    claim(parts)
    parts.records.turn(
        JOB, Turn.SUCCEED, now=NOW, due_at=None, fields={"result": {"clips": []}},
        drop=("parked", "event"),
    )  # fmt: skip
    assert parts.readings.read(JOB).result == {"clips": []}
    assert Readings(redis).message(JOB) is None
    assert {"parked", "event"}.isdisjoint(redis.hgetall(keys.job(JOB)))


# -- notes ------------------------------------------------------------------------------------


def test_a_note_writes_without_a_turn(parts: Parts) -> None:
    begin(parts)
    state = parts.records.note(
        JOB, now=NOW + 1, what="song.streaming", fields={"progress": {"clips": []}}, count="polls"
    )
    job = parts.readings.read(JOB)
    assert state is job.state is JobState.SUBMITTING
    assert (job.progress, job.polls, job.due_at) == ({"clips": []}, 1, NOW + 100)
    assert job.timeline[-1] == {"at": NOW + 1, "what": "song.streaming"}


def test_a_note_of_other_states_moves_nothing(parts: Parts) -> None:
    begin(parts)
    state = parts.records.note(
        JOB, now=NOW, sources=(JobState.WAITING,), due_at=NOW + 5, fields={"progress": {"x": 1}}
    )
    assert state is JobState.SUBMITTING
    assert parts.due_at() == NOW + 100
    assert parts.readings.read(JOB).progress is None


@pytest.mark.parametrize("turn", [Turn.SUCCEED, Turn.FAIL, Turn.EXPIRE])
def test_a_note_in_a_terminal_state_changes_nothing(parts: Parts, turn: Turn) -> None:
    settled(parts, turn)
    before = parts.seen()
    state = parts.records.note(
        JOB, now=NOW, what="late", due_at=NOW, fields={"progress": {"x": 1}}, count="polls"
    )
    assert state in TERMINAL
    assert parts.seen() == before
    assert parts.due_at() is None


def test_a_note_makes_no_record_where_there_is_none(parts: Parts, redis: Any) -> None:
    assert parts.records.note(JOB, now=NOW, what="x", due_at=NOW, sources=JobState) is None
    assert redis.keys("*") == []


def test_the_timeline_is_bounded(parts: Parts, redis: Any) -> None:
    begin(parts)
    for number in range(600):
        parts.records.note(JOB, now=NOW + number, what="song.streaming", why="w" * 100)
    assert redis.strlen(keys.timeline(JOB)) < 32768 + 500
    timeline = parts.readings.read(JOB).timeline
    assert 100 < len(timeline) < 600
    assert timeline[0]["what"] == "submit"


def test_a_full_timeline_still_tells_how_the_job_ended(parts: Parts) -> None:
    begin(parts)
    for number in range(600):
        parts.records.note(JOB, now=NOW + number, what="song.streaming", why="w" * 100)
    claim(parts)
    settle(parts)
    told = [entry["what"] for entry in parts.readings.read(JOB).timeline]
    assert told[-2:] == ["claim", "succeed"]


# -- claims -----------------------------------------------------------------------------------


def test_of_many_claims_at_once_exactly_one_wins(parts: Parts) -> None:
    begin(parts)

    def one(number: int) -> bool:
        event = Event(Source.WEBHOOK, body=str(number), delivery_id=f"d-{number}")
        return claim(parts, event=event)

    won = at_once(one)
    assert won.count(True) == 1
    event = parts.readings.event(JOB)
    assert event
    assert event.delivery_id == f"d-{won.index(True)}"


def test_a_claim_makes_the_job_ready_and_leaves_nothing_to_the_sweep(
    parts: Parts, redis: Any
) -> None:
    begin(parts)
    assert claim(parts)
    assert leasable_in(parts, redis) <= 0
    assert due_at(redis) is None


def test_the_poll_that_ends_a_job_counts_and_a_webhook_is_none(parts: Parts) -> None:
    for job_id, source in ((JOB, Source.POLL), (JobId("other"), Source.WEBHOOK)):
        begin(parts, job_id)
        assert claim(parts, job_id, event=Event(source, body="{}"))
        assert not claim(parts, job_id, event=Event(Source.POLL, body="{}"))
        assert parts.readings.read(job_id).polls == (source is Source.POLL)


def test_a_claim_wakes_a_conductor_that_waits(parts: Parts, redis: Any) -> None:
    begin(parts)
    with ThreadPoolExecutor(1) as conductor:
        waiting = conductor.submit(parts.agenda.wait_for_ready, 4)
        claim(parts)
        waiting.result()
    assert redis.llen(keys.RING) == 0  # it was taken, and by nobody else
    assert lease(parts) == [JOB]


def test_of_many_claims_few_words_stay_behind(parts: Parts, redis: Any) -> None:
    make_ready(parts, *(f"job-{number}" for number in range(20)))
    assert redis.llen(keys.RING) == 8


def test_a_job_without_a_parked_message_cannot_be_claimed(parts: Parts) -> None:
    fields = {"operation": "sonic.remaster"}
    parts.records.turn(JOB, Turn.SUBMIT, now=NOW, due_at=NOW + 100, fields=fields, leg="leg-1")
    before = parts.seen()
    assert not claim(parts)
    assert parts.seen() == before


def test_a_job_that_does_not_exist_cannot_be_claimed(parts: Parts, redis: Any) -> None:
    assert not claim(parts)
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
    parts: Parts, turn: Turn | None, state: JobState
) -> None:
    begin(parts)
    if turn:
        parts.records.turn(JOB, turn, now=NOW, due_at=NOW)
    assert parts.readings.state(JOB) is state
    assert claim(parts)
    assert parts.readings.state(JOB) is JobState.RESUMING


def hear(parts: Parts, digest: str) -> Heard:
    in_these = (JobState.RESUMING, JobState.SUCCEEDED)
    return parts.records.hear(
        JOB, EVENT, now=NOW, digest=digest, again_in=in_these, again="song.completed again"
    )


def test_the_delivery_that_has_won_is_known_when_it_comes_again(parts: Parts) -> None:
    assert hear(parts, "a") is Heard.NOT_WON
    begin(parts)
    assert [hear(parts, digest) for digest in "aab"] == [Heard.WON, Heard.AGAIN, Heard.NOT_WON]
    settle(parts, Turn.FAIL)
    assert hear(parts, "a") is Heard.NOT_WON
    told = [entry["what"] for entry in parts.readings.read(JOB).timeline]
    assert told == ["submit", "claim", "song.completed again", "fail"]


# -- the gate, open or closed; see test_gate.py ------------------------------------------------


REMASTER = find("sonic.remaster")
OUT_OF_CREDITS = Refused(OutOfCredits("none left"))
FAILING = Unknown("a timeout")
REFUSED = Refused(RequestRefused("no"))


def admit(
    parts: Parts,
    job_id: str = JOB,
    *,
    leg: str = "leg-1",
    at: float = NOW,
    unseen: bool = False,
    **fields: str,
) -> JobState | None:
    return parts.records.begin(
        JobId(job_id),
        parts.gate.bid(REMASTER, Lane(), now=at, expires_at=None),
        now=at,
        due_at=at + 100,
        deadline_at=at + 600,
        fields={"operation": REMASTER.name, **fields},
        leg=leg,
        unseen=unseen,
    )


def closes(parts: Parts, *outcomes: SubmitOutcome) -> list[bool]:
    """Let the gate hear of outcomes, each a second after the one before."""
    return [
        parts.gate.hear(JOB, REMASTER, outcome, now=NOW + after)
        for after, outcome in enumerate(outcomes, 1)
    ]


def test_a_leg_that_has_not_looked_begins_a_job_that_nobody_has_begun(parts: Parts) -> None:
    assert admit(parts, "new", unseen=True, parked="m") is JobState.SUBMITTING
    enqueue(parts, due_at=NOW, deadline_at=NOW + 1)
    assert admit(parts, unseen=True, parked="m") is JobState.SUBMITTING
    assert admit(parts, unseen=True, parked="m") is JobState.SUBMITTING  # its reply was lost
    assert admit(parts, unseen=True, leg="leg-2", parked="m") is None


@pytest.mark.parametrize(
    "seen", [{"deadline_at": NOW}, {"cancelled_by": "somebody"}, {"attempts": 1}]
)
def test_a_leg_that_has_not_looked_leaves_a_job_to_one_that_looks(
    parts: Parts, seen: dict[str, Any]
) -> None:
    enqueue(parts, due_at=NOW, **seen)
    before = parts.seen()
    assert admit(parts, unseen=True, parked="m") is None
    assert parts.seen() == before
    assert admit(parts, parked="m") is JobState.SUBMITTING


def test_a_job_on_record_keeps_its_message_or_gets_one(valkey: Any, redis: Any) -> None:
    parts = parts_of(redis)
    admit(parts, "new", unseen=True, parked="m")
    enqueue(parts, due_at=NOW, parked="recorded")
    enqueue(parts, OTHER, due_at=NOW, parked="lost")
    redis.delete(keys.message(OTHER))
    for job_id in (JOB, OTHER):
        admit(parts, job_id, unseen=True, parked="m")
    kept = [parts.readings.message(each) for each in (JobId("new"), JOB, OTHER)]  # type: ignore[attr-defined]
    assert kept == ["m", "recorded", "m"]


def test_a_leg_that_has_not_looked_begins_neither_a_cancelled_job_nor_one_behind_the_gate(
    parts: Parts,
) -> None:
    parts.records.note(JOB, now=NOW, sources=(None,), fields={"cancelled_by": "somebody"})
    assert admit(parts, unseen=True, parked="m") is None
    given = {"operation": REMASTER.name, "parked": "m", "lane": "batch:default", "cost": 0}
    parts.records.turn(held := JobId("held"), Turn.HOLD, now=NOW, due_at=NOW + 9, fields=given)
    parts.records.turn(held, Turn.ADMIT, now=NOW, due_at=NOW + 9)
    assert admit(parts, held, unseen=True, parked="m") is None
    assert admit(parts, held) is JobState.SUBMITTING


def test_a_submit_leg_begins_once(parts: Parts) -> None:
    assert admit(parts) is None  # its record is gone
    assert admit(parts, parked="m") is JobState.SUBMITTING
    assert admit(parts, leg="leg-2", parked="m") is None
    assert admit(parts) is JobState.SUBMITTING
    job = parts.readings.read(JOB)
    assert (job.attempts, job.leg, job.deadline_at) == (1, "leg-1", NOW + 600)
    assert (job.due_at, job.lane, len(job.timeline)) == (NOW + 100, "interactive:default", 1)


def test_what_comes_while_the_gate_is_closed_is_held_and_admitted_in_turn(parts: Parts) -> None:
    admit(parts, parked="m")
    assert closes(parts, OUT_OF_CREDITS, OUT_OF_CREDITS) == [True, False]
    held = [admit(parts, job_id, at=NOW + at, parked="m") for at, job_id in ((3, "a"), (4, "b"))]
    assert held == [JobState.HELD] * 2
    assert parts.readings.read(JobId("a")).due_at == NOW + 1003

    assert parts.gate.release(now=NOW + 5, stale_at=NOW + 35).job_ids == []

    # After a while one is let through; the others wait until the provider has taken it.
    assert parts.gate.release(now=NOW + 40, stale_at=NOW + 70).job_ids == ["a"]
    assert parts.readings.read(JobId("a")).due_at == NOW + 70
    assert admit(parts, "a", at=NOW + 41) is JobState.SUBMITTING
    assert parts.gate.release(now=NOW + 42, stale_at=NOW + 72).job_ids == []
    assert parts.records.turn(JobId("a"), Turn.ACCEPT, now=NOW + 43, due_at=NOW + 99, leg="leg-1")
    assert parts.gate.release(now=NOW + 43, stale_at=NOW + 73).job_ids == ["b"]


def test_failures_in_a_row_close_the_gate(parts: Parts) -> None:
    assert closes(parts, *[FAILING] * 4, REFUSED, *[FAILING] * 5) == [False] * 9 + [True]


def test_what_was_submitted_before_the_gate_closed_does_not_open_it(parts: Parts) -> None:
    admit(parts, "before", parked="m")
    closes(parts, OUT_OF_CREDITS)
    parts.gate.open(JobId("before"), paid=True, now=NOW + 2)
    assert admit(parts, "after", at=NOW + 3, parked="m") is JobState.HELD


@pytest.mark.parametrize(("paid", "begins"), [(False, "held"), (True, "submitting")])
def test_a_free_operation_does_not_tell_that_there_are_credits(
    parts: Parts, paid: bool, begins: str
) -> None:
    closes(parts, OUT_OF_CREDITS)
    parts.gate.open(JOB, paid=paid, now=NOW + 2)
    assert admit(parts, "after", at=NOW + 3, parked="m") == begins


# -- leases -----------------------------------------------------------------------------------


def test_of_many_conductors_that_lease_at_once_each_job_goes_to_one(
    parts: Parts, redis: Any
) -> None:
    make_ready(parts, *(f"job-{number}" for number in range(100)))
    shares = at_once(lambda _: lease(parts, limit=3))
    leased = [job_id for share in shares for job_id in share]
    assert len(leased) == len(set(leased)) == 100
    assert max(map(len, shares)) == 3
    assert {parts.readings.read(job_id).claims for job_id in leased} == {1}


@pytest.mark.usefixtures("redis")
def test_the_longest_ready_are_leased_first(parts: Parts) -> None:
    make_ready(parts, "first", "second", "third")
    assert lease(parts, limit=2) == ["first", "second"]
    assert lease(parts, limit=2) == ["third"]


@pytest.mark.usefixtures("redis")
def test_a_lease_hands_out_all_that_the_leg_needs(parts: Parts) -> None:
    event = Event(Source.POLL, body='{"title": "Café \\ud83c\\udfb5 \\ud800", "n": 1}')
    begin(parts, clip_id="c-1", provider_task_id="t-1", lane="batch.slow:acme")
    claim(parts, event=event)
    assert parts.agenda.lease(seconds=60, limit=9) == [
        Leased(
            JOB, "sonic.remaster", f"message of {JOB}", event, 1,
            clip_id="c-1", provider_task_id=ProviderTaskId("t-1"),
            created_at=NOW, tenant="acme",
        )
    ]  # fmt: skip


@pytest.mark.parametrize("broken", ["{", "[]", '{"source": "an oracle"}', ""])
def test_an_event_that_cannot_be_read_fails_its_job_and_hinders_no_other(
    parts: Parts, redis: Any, broken: str
) -> None:
    make_ready(parts, "first", JOB)
    redis.hset(keys.job("first"), "event", broken)
    first, second = parts.agenda.lease(seconds=60, limit=9)
    assert (first.event.error or {})["type"] == "InvalidPayload"
    assert second.event == EVENT


def test_when_a_lease_ends_another_conductor_has_the_job(parts: Parts, redis: Any) -> None:
    make_ready(parts, JOB)
    assert lease(parts, seconds=0.2) == [JOB]
    assert lease(parts) == []
    wait_until(lambda: leasable_in(parts, redis) <= 0)
    won = at_once(lambda _: parts.agenda.lease(seconds=60, limit=9))
    [leased] = [job for share in won for job in share]
    assert (leased.job_id, leased.claims, leased.event) == (JOB, 2, EVENT)


def test_leases_go_by_the_servers_clock(
    parts: Parts, redis: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A conductor or receiver whose clock is wrong neither takes what is another's nor hides it."""
    monkeypatch.setattr(time, "time", lambda: NOW + 10**9)
    make_ready(parts, JOB)
    assert lease(parts, seconds=60) == [JOB]
    assert lease(parts) == []
    assert leasable_in(parts, redis) == pytest.approx(60, abs=5)


def test_a_renewed_lease_ends_later_or_at_once(parts: Parts, redis: Any) -> None:
    make_ready(parts, JOB, "job-2")
    lease(parts, seconds=60)
    parts.agenda.renew([JOB], seconds=300)
    parts.agenda.renew([JobId("job-2")], seconds=0)
    assert leasable_in(parts, redis) == pytest.approx(300, abs=5)
    assert lease(parts) == ["job-2"]


def test_only_what_is_still_ready_is_renewed(parts: Parts, redis: Any) -> None:
    make_ready(parts, JOB, "job-2")
    lease(parts)
    assert settle(parts)
    parts.agenda.renew([JOB, JobId("job-2"), JobId("never-heard-of")], seconds=300)
    assert redis.zrange(keys.READY, 0, -1) == ["job-2"]


def test_leases_are_renewed_however_many_they_are(parts: Parts, redis: Any) -> None:
    make_ready(parts, JOB)
    lease(parts, seconds=60)
    others = [JobId(f"job-{number}") for number in range(2, 20_001)]
    parts.agenda.renew([*others, JOB], seconds=300)
    assert leasable_in(parts, redis) == pytest.approx(300, abs=5)


@pytest.mark.parametrize("turn", [Turn.SUCCEED, Turn.FAIL, Turn.CANCEL, Turn.EXPIRE])
def test_a_settled_job_is_ready_no_more(parts: Parts, redis: Any, turn: Turn) -> None:
    settled(parts, turn)
    assert redis.zcard(keys.READY) == 0
    assert lease(parts) == []


@pytest.mark.parametrize("gone", [False, True])
def test_what_is_ready_and_cannot_be_resumed_is_forgotten(
    parts: Parts, redis: Any, gone: bool
) -> None:
    begin(parts)
    if gone:
        redis.delete(keys.job(JOB))
    redis.zadd(keys.READY, {JOB: 1})
    assert lease(parts) == []
    assert redis.zcard(keys.READY) == 0


def test_a_job_that_the_version_before_had_claimed_is_made_ready(parts: Parts, redis: Any) -> None:
    """That version kept its claims among what is due."""
    begin(parts)
    redis.hset(keys.job(JOB), mapping={"state": "resuming", "event": EVENT.dumps(), "claims": 1})
    redis.zadd(keys.DUE, {JOB: NOW - 1, "job-2": NOW - 1})
    assert parts.agenda.due(now=NOW, lease_until=NOW + 60, limit=9) == ["job-2"]
    assert due_at(redis) is None
    [leased] = parts.agenda.lease(seconds=60, limit=9)
    assert (leased.job_id, leased.event, leased.claims) == (JOB, EVENT, 2)


# -- moments ----------------------------------------------------------------------------------


def test_each_due_job_goes_to_one_of_many_sweepers(parts: Parts, redis: Any) -> None:
    jobs = {f"job-{number}": NOW + number for number in range(200)}
    redis.zadd(keys.DUE, jobs)
    shares = at_once(lambda _: parts.agenda.due(now=NOW + 300, lease_until=NOW + 360, limit=7))
    leased = [job_id for share in shares for job_id in share]
    assert len(leased) == len(set(leased)) == 200
    assert max(map(len, shares)) <= 7
    assert redis.zcount(keys.DUE, NOW + 360, NOW + 360) == 200


def test_the_longest_overdue_come_first_and_the_rest_not_at_all(parts: Parts) -> None:
    for job_id, at in {"late": NOW - 5, "later": NOW - 9, "now": NOW, "soon": NOW + 0.001}.items():
        enqueue(parts, job_id, due_at=at)
    assert parts.agenda.due(now=NOW, lease_until=NOW + 60, limit=2) == ["later", "late"]
    assert parts.agenda.due(now=NOW, lease_until=NOW + 60, limit=9) == ["now"]
    assert parts.readings.read(JobId("soon")).due_at == NOW + 0.001


def test_a_lease_that_nobody_used_comes_due_again(parts: Parts) -> None:
    enqueue(parts, due_at=NOW)
    assert parts.agenda.due(now=NOW, lease_until=NOW + 60, limit=9) == [JOB]
    assert parts.agenda.due(now=NOW + 59, lease_until=NOW + 60, limit=9) == []
    assert parts.agenda.due(now=NOW + 60, lease_until=NOW + 120, limit=9) == [JOB]


@pytest.mark.parametrize("moment", [NOW + 30, NOW + 0.1 + 0.2, NOW + 30.123456789])
def test_a_published_message_moves_the_moment_its_publisher_had_set(
    parts: Parts, redis: Any, moment: float
) -> None:
    enqueue(parts, due_at=moment)
    parts.agenda.mark_published(JOB, stale_at=moment, until=NOW + 900)
    assert due_at(redis) == NOW + 900


def test_a_moment_that_somebody_else_has_set_is_not_overwritten(parts: Parts, redis: Any) -> None:
    enqueue(parts, due_at=NOW + 30)
    begin(parts)
    parts.agenda.mark_published(JOB, stale_at=NOW + 30, until=NOW + 900)
    assert due_at(redis) == NOW + 100


def test_a_job_that_has_settled_gets_no_moment_from_its_publisher(parts: Parts, redis: Any) -> None:
    settled(parts)
    parts.agenda.mark_published(JOB, stale_at=NOW + 30, until=NOW + 900)
    assert due_at(redis) is None


def test_the_moment_of_a_job_without_a_record_can_be_forgotten(parts: Parts, redis: Any) -> None:
    begin(parts)
    redis.delete(keys.job(JOB))
    parts.records.drop_due(JOB)
    assert due_at(redis) is None


def test_the_moment_of_a_job_that_has_not_ended_is_kept(parts: Parts) -> None:
    """Its record may have been written after the sweep saw that there was none."""
    begin(parts)
    parts.records.drop_due(JOB)
    assert parts.due_at() == NOW + 100


# -- reading ----------------------------------------------------------------------------------


def test_a_job_that_is_not_there_is_unknown(parts: Parts) -> None:
    assert parts.readings.state(JOB) is None
    assert parts.readings.standing(JOB) == Standing(None)
    with pytest.raises(UnknownJob, match=JOB):
        parts.readings.read(JOB)


def test_the_newest_jobs_come_first_and_the_forgotten_not_at_all(parts: Parts, redis: Any) -> None:
    for number in range(5):
        job_id = JobId(f"job-{number}")
        parts.records.turn(
            job_id, Turn.SUBMIT, now=NOW + number, due_at=None, fields={"operation": "sonic.wav"}
        )
    redis.delete(keys.job("job-3"))
    assert [job.job_id for job in Readings(redis).recent(3)] == ["job-4", "job-2"]
    Lists(redis).forget(recorded_before=NOW + 2, ended_before=NOW)
    assert redis.zrange(keys.JOBS, 0, -1) == ["job-3", "job-4"]


LATE = {"at": NOW, "delivery_id": "d-1", "final": True, "body": "{}"}


def keep_late(parts: Parts, late: Any = LATE, **options: Any) -> bool:
    return parts.records.keep_late(
        JOB, late, now=NOW, why="webhook d-1", retain_seconds=60, **options
    )


@pytest.mark.parametrize("turn", [Turn.FAIL, Turn.EXPIRE])
def test_what_comes_late_is_kept_once_and_the_record_with_it(
    parts: Parts, redis: Any, turn: Turn
) -> None:
    begin(parts)
    claim(parts)
    parts.records.turn(JOB, turn, now=NOW, due_at=None, retain_seconds=5)
    kept = at_once(lambda n: keep_late(parts, LATE | {"delivery_id": f"d-{n}"}))
    assert sorted(kept) == [False] * (THREADS - 1) + [True]
    assert parts.readings.read(JOB).late == LATE | {"delivery_id": f"d-{kept.index(True)}"}
    assert [entry["what"] for entry in parts.readings.read(JOB).timeline].count("late") == 1
    assert 5 < redis.ttl(keys.job(JOB)) <= 60


def test_an_end_that_comes_late_takes_the_place_of_what_was_none(parts: Parts) -> None:
    begin(parts)
    claim(parts)
    parts.records.turn(JOB, Turn.FAIL, now=NOW, due_at=None)
    part = LATE | {"final": False, "body": '{"final": true}'}
    assert [keep_late(parts, each) for each in (part, part, LATE, part, LATE)] == [
        True, False, True, False, False,
    ]  # fmt: skip
    assert parts.readings.read(JOB).late == LATE


@pytest.mark.parametrize(("final", "gives_way"), [(True, False), (False, True)])
def test_what_the_version_before_has_kept_says_itself_whether_it_is_an_end(
    parts: Parts, redis: Any, final: bool, gives_way: bool
) -> None:
    begin(parts)
    claim(parts)
    parts.records.turn(JOB, Turn.FAIL, now=NOW, due_at=None)
    before = LATE | {"final": final, "delivery_id": "d-0", "body": '"final": true'}
    redis.hset(keys.job(JOB), "late", json.dumps(before))
    assert keep_late(parts) is gives_way
    assert parts.readings.read(JOB).late == (LATE if gives_way else before)


def test_a_delivery_between_the_claim_and_the_end_is_late_only_where_that_is_asked_for(
    parts: Parts, redis: Any
) -> None:
    begin(parts)
    claim(parts)
    assert not keep_late(parts)
    assert keep_late(parts, sources=[JobState.RESUMING])
    assert redis.ttl(keys.job(JOB)) == -1


def test_nothing_is_late_for_a_job_that_goes_on_or_succeeded_or_is_gone(parts: Parts) -> None:
    assert not keep_late(parts)
    assert parts.readings.state(JOB) is None
    begin(parts)
    assert not keep_late(parts)
    claim(parts)
    parts.records.turn(JOB, Turn.SUCCEED, now=NOW, due_at=None)
    assert not keep_late(parts)


# -- the check --------------------------------------------------------------------------------


def test_the_check_writes_nothing_and_yet_finds_a_server_that_would_not_write(
    redis: Any,
) -> None:
    before = redis.info("persistence")["rdb_changes_since_last_save"]
    check(redis)
    assert redis.info("persistence")["rdb_changes_since_last_save"] == before
    redis.config_set("maxmemory", 1)
    with pytest.raises(StoreUnavailable, match="maxmemory"):
        check(redis)
    redis.config_set("maxmemory", 0)
    redis.slaveof("127.0.0.1", 1)
    with pytest.raises(StoreUnavailable, match="read only"):
        check(redis)
    redis.slaveof()
    check(redis)


# -- away -------------------------------------------------------------------------------------

CALLS: dict[str, Callable[[Parts], Any]] = {
    "turn": begin,
    "note": lambda parts: parts.records.note(JOB, now=NOW),
    "claim": claim,
    "lease": lease,
    "renew": lambda parts: parts.agenda.renew([JOB], seconds=1),
    "wait_for_ready": lambda parts: parts.agenda.wait_for_ready(0.1),
    "due": lambda parts: parts.agenda.due(now=NOW, lease_until=NOW, limit=1),
    "mark_published": lambda parts: parts.agenda.mark_published(JOB, stale_at=NOW, until=NOW),
    "read": lambda parts: parts.readings.read(JOB),
    "standing": lambda parts: parts.readings.standing(JOB),
    "keep_late": keep_late,
}


def make(call: str, redis: Any) -> None:
    if call == "check":
        check(redis)
    else:
        CALLS[call](parts_of(redis))


@pytest.fixture(scope="module")
def gone(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The URL of a server that has ended."""
    server = EmbeddedValkey(tmp_path_factory.mktemp("gone"))
    url = server.start()
    server.stop()
    return url


@pytest.mark.parametrize("call", [*CALLS, "check"])
def test_a_redis_that_is_gone_is_one_error_in_time(gone: str, call: str) -> None:
    client = connection.connect(gone, timeout_seconds=0.3, retries=0)
    with within(seconds=0.6), pytest.raises(StoreUnavailable):
        make(call, client)


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


@pytest.mark.parametrize("call", [*CALLS, "check"])
def test_a_redis_that_hangs_is_one_error_in_time(hung: str, call: str) -> None:
    client = connection.connect(hung, timeout_seconds=0.3, retries=0)
    with within(seconds=0.9), pytest.raises(StoreUnavailable):
        make(call, client)


def test_retries_are_bounded_too(hung: str) -> None:
    client = connection.connect(hung, timeout_seconds=0.2, retries=2)
    with within(seconds=2), pytest.raises(StoreUnavailable):
        check(client)


def test_a_restarted_server_still_knows_the_jobs(tmp_path: Path) -> None:
    server = EmbeddedValkey(tmp_path)
    begin(parts_of(Redis.from_url(server.start(), decode_responses=True)))
    server.stop()
    try:
        parts = parts_of(Redis.from_url(server.start(), decode_responses=True))
        assert parts.readings.read(JOB).state is JobState.SUBMITTING
    finally:
        server.stop()


def test_a_leg_that_speaks_late_is_not_heard_once_another_has_begun(parts: Parts) -> None:
    """A lost reply to "not accepted", sent again, must not put back what its successor submits."""
    begin(parts, leg="leg-1")
    postpone: dict[str, Any] = {"now": NOW, "due_at": NOW + 2, "leg": "leg-1"}
    assert parts.records.turn(JOB, Turn.POSTPONE, **postpone)
    assert begin(parts, leg="leg-2")
    for turn in (Turn.POSTPONE, Turn.DOUBT, Turn.ACCEPT):
        assert not parts.records.turn(JOB, turn, **postpone)
    assert parts.readings.state(JOB) is JobState.SUBMITTING


def test_a_claim_on_behalf_of_a_leg_is_refused_once_another_has_begun(parts: Parts) -> None:
    begin(parts, leg="leg-1")
    parts.records.turn(JOB, Turn.POSTPONE, now=NOW, due_at=NOW + 2, leg="leg-1")
    begin(parts, leg="leg-2")
    assert not claim(parts, leg="leg-1")
    assert claim(parts, leg="leg-2")


@pytest.mark.parametrize("turn", [Turn.POSTPONE, Turn.DOUBT, Turn.ACCEPT])
def test_what_only_waits_is_looked_at_by_its_deadline(parts: Parts, turn: Turn) -> None:
    begin(parts, deadline_at=str(NOW + 100))
    assert parts.records.turn(JOB, turn, now=NOW, due_at=NOW + 900, leg="leg-1")
    assert parts.due_at() == NOW + 100


def test_of_the_copies_of_a_plain_step_one_runs_and_may_be_redelivered(redis: Any) -> None:
    steps = PlainSteps(redis)
    taken = at_once(lambda n: steps.take("step:0", f"copy-{n}", seconds=60))
    assert sum(taken) == 1
    mine = f"copy-{taken.index(True)}"
    assert steps.take("step:0", mine, seconds=60)
    assert not steps.take("step:0", "another copy", seconds=60)
    assert steps.take("step:1", "another copy", seconds=60)


def test_a_claim_for_a_state_that_was_seen_is_refused_in_another(parts: Parts) -> None:
    begin(parts)
    assert not claim(parts, seen=JobState.QUEUED)
    assert claim(parts, seen=JobState.SUBMITTING)


def test_a_claim_of_a_leg_that_was_sent_twice_was_won_once(parts: Parts) -> None:
    begin(parts)
    assert claim(parts, leg="leg-1")
    assert claim(parts, leg="leg-1")
    assert not claim(parts)
    assert not claim(parts, event=Event(Source.WEBHOOK, body="{}"), leg="leg-1")
    assert parts.readings.event(JOB) == EVENT


def test_until_parked_is_stored_a_job_is_claimed_by_its_leg_or_the_provider_alone(
    parts: Parts,
) -> None:
    """Else PARKED, stored a moment later, would overwrite the FAILURE of a cancelled job."""
    cancel = Event(Source.CANCEL, error={"type": "JobCancelled", "message": "by a test"})
    for ours, leg, wins in ((cancel, "", False), (cancel, "leg-1", True), (EVENT, "", True)):
        job_id = JobId(f"job of {ours.source} {leg}")
        begin(parts, job_id, announced=False)
        assert claim(parts, job_id, event=ours, leg=leg) is wins


def test_a_job_cancelled_before_parked_is_stored_is_marked_for_its_leg(
    parts: Parts, redis: Any
) -> None:
    begin(parts, announced=False)
    cancellations = Cancellations(parts.records, lambda: NOW)

    assert cancellations.cancel(JOB, by="a test") is Cancellation.ENDING

    assert redis.ttl(keys.job(JOB)) == -1
    standing = parts.records.announce(JOB, "leg-1")
    assert standing is not None
    assert standing.cancelled_by == "a test"


def test_a_leg_that_has_not_announced_its_job_can_be_given_up_and_then_sends_nothing(
    parts: Parts,
) -> None:
    begin(parts, leg="leg-1")
    parts.records.turn(JOB, Turn.POSTPONE, now=NOW, due_at=NOW)
    begin(parts, leg="leg-2", announced=False)
    assert not parts.records.take_from(JOB, "leg-1")
    assert parts.records.take_from(JOB, "leg-2")
    assert parts.records.announce(JOB, "leg-2") is None


def test_a_leg_that_may_have_sent_something_keeps_its_job(parts: Parts) -> None:
    begin(parts)
    assert not parts.records.take_from(JOB, "leg-1")
    assert parts.records.announce(JOB, "leg-1")


def test_a_leg_of_the_version_before_keeps_its_job_too(parts: Parts, redis: Any) -> None:
    begin(parts)
    redis.hset(keys.job(JOB), "announced", "1")
    assert not parts.records.take_from(JOB, "leg-1")


def test_an_announced_job_whose_record_is_gone_is_unknown(parts: Parts) -> None:
    with pytest.raises(UnknownJob, match=JOB):
        parts.records.announce(JOB, "leg-1")


def test_what_is_noted_of_a_job_that_the_version_before_ended_goes_with_its_record(
    parts: Parts, redis: Any
) -> None:
    begin(parts)
    claim(parts)
    redis.delete(keys.timeline(JOB))
    redis.hset(
        keys.job(JOB), mapping={"state": "failed", "timeline": '{"at": 1, "what": "cancel"}'}
    )
    redis.expire(keys.job(JOB), 100)

    parts.records.note(JOB, now=NOW, what="replayed", sources=JobState)

    assert 0 < redis.ttl(keys.timeline(JOB)) <= 100
    assert [entry["what"] for entry in parts.readings.read(JOB).timeline] == ["cancel", "replayed"]
    assert "state" not in parts.readings.read(JOB).timeline[0]
    assert parts.records.keep_late(JOB, {"final": True}, now=NOW, why="late", retain_seconds=500)
    assert 400 < redis.ttl(keys.timeline(JOB)) <= 500


def test_a_message_in_its_queue_does_not_outlast_the_deadline(parts: Parts, redis: Any) -> None:
    enqueue(parts, due_at=NOW + 30, deadline_at=NOW + 100)
    parts.agenda.mark_published(JOB, stale_at=NOW + 30, until=NOW + 900)
    assert redis.zscore(keys.DUE, JOB) == NOW + 100


@pytest.mark.parametrize(
    ("error", "seconds"), [(OperationalError("no such queue"), PUBLISH_LEASE_SECONDS), (None, 900)]
)
def test_a_slow_job_that_could_not_be_passed_on_is_soon_published_again(
    parts: Parts, redis: Any, error: Exception | None, seconds: float
) -> None:
    attempts = Attempts(
        records=parts.records, readings=parts.readings, gate=Gate(redis, Limits(), held_seconds=60),
        policy=Policy(), clock=lambda: NOW, jitter=lambda: 0.0,
    )  # fmt: skip
    publisher = Mock(spec=Publisher, **{"publish.side_effect": error})
    submit_legs = SubmitLegs(Readings(redis), parts.agenda, publisher, lambda: NOW, Policy())

    lane = Lane(Priority.BATCH, "acme", slow=True)
    upload = find("sonic.upload")
    stale_at = attempts.pass_on(JOB, upload, {}, Parked("a message", {}), lane)
    assert stale_at is not None
    submit_legs.publish(JOB, stale_at=stale_at)

    publisher.publish.assert_called_once()
    assert due_at(redis) == NOW + seconds
    assert redis.hmget(keys.job(JOB), "lane", "cost") == [
        "batch.slow:acme",
        str(round(upload.credits * 1000)),
    ]
    assert redis.zrange(f"{keys.TENANTS}:acme", 0, -1) == [JOB]


def test_polls_are_spaced_by_the_servers_own_clock(parts: Parts) -> None:
    waits = [parts.agenda.reserve_poll(spacing_seconds=10) for _ in range(3)]
    assert waits == pytest.approx([0, 10, 20], abs=1)


def test_an_error_with_half_a_character_is_counted_for_its_batch(parts: Parts, redis: Any) -> None:
    begin(parts, batch="b-1")
    error = {"type": "TaskFailed", "message": "cut \ud83d", "details": {}}
    claim(parts)
    assert parts.records.turn(JOB, Turn.FAIL, now=NOW, due_at=None, fields={"error": error})
    assert redis.hget(keys.BATCH + "b-1", "error:TaskFailed") == "1"
