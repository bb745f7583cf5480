"""The gate under random traffic, in a real Valkey: the books balance, the limits hold."""

import itertools
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.integration.gate import COST, REMASTER, Door, batch, lane, lane_of
from worker.core import keys
from worker.core.job.states import Turn
from worker.store.counters import Counters

LANES = st.sampled_from(
    [lane("a"), lane("b"), lane("b", slow=True), batch("a"), batch("b"), batch("b", slow=True)]
)

OPERATION = f"operation:{REMASTER.name}"
PARTS = ("tenant:a", "tenant:b", OPERATION)


class Traffic(RuleBasedStateMachine):
    """Whatever happens to jobs, in whichever order: the books balance, the limits hold."""

    redis: Any
    IN_FLIGHT, BURST, SPACING = 3, 2, 0.5

    def __init__(self) -> None:
        super().__init__()
        self.redis.flushdb()
        limits = {"in_flight": self.IN_FLIGHT, "submits_per_second": 1 / self.SPACING}
        self.door = Door(self.redis, **limits, burst=self.BURST, credit_floor=0)
        self.door.gate.learn_balance(8 * COST, spent_before=0)
        self.passed: list[float] = []

    def some(self, data: st.DataObject, *states: str) -> str | None:
        found = sorted(job for job, state in self.door.states().items() if state in states)
        return data.draw(st.sampled_from(found)) if found else None

    def paused(self) -> set[str]:
        return {f"{each.kind}:{each.name}" for each in Counters(self.redis).gate().pauses}

    def begin(self, job: str | None, where: Any) -> None:
        admitted = job is not None and self.door.state(job) == "admitted"
        job = self.door.begin(where, job or "")
        if self.door.state(job) == "submitting" and not admitted:
            self.passed.append(self.door.now)

    @rule(where=LANES)
    def comes(self, where: Any) -> None:
        self.begin(None, where)

    @rule(where=LANES)
    def is_recorded(self, where: Any) -> None:
        self.door.record(where)

    @rule(seconds=st.sampled_from([0.0, 0.1, 0.3, 0.5, 2.0]))
    def time_passes(self, seconds: float) -> None:
        self.door.now += seconds

    @rule()
    def released(self) -> None:
        oldest: dict[Any, str] = {}
        for job, state in sorted(self.door.states().items()):
            if state == "held" and not self.redis.hexists(keys.job(job), "attempts"):
                oldest.setdefault(lane_of(job), job)
        admitted = self.door.release()
        self.passed += [self.door.now] * len(admitted)
        assert not admitted or OPERATION not in self.paused()
        for job in admitted:
            first_time = not self.redis.hexists(keys.job(job), "attempts")
            assert f"tenant:{lane_of(job).tenant}" not in self.paused()
            if first_time:
                assert job >= oldest[lane_of(job)]

    @rule(data=st.data())
    def leg_runs(self, data: st.DataObject) -> None:
        job = self.some(data, "queued", "admitted")
        if job:
            self.begin(job, lane_of(job))

    @rule(data=st.data(), turn=st.sampled_from([Turn.ACCEPT, Turn.POSTPONE, Turn.DOUBT]))
    def provider_answers(self, data: st.DataObject, turn: Turn) -> None:
        job = self.some(data, "submitting")
        if job:
            assert self.door.turn(job, turn, leg="leg")

    @rule(data=st.data())
    def event_comes(self, data: st.DataObject) -> None:
        job = self.some(data, "queued", "held", "admitted", "submitting", "unconfirmed", "waiting")
        if job:
            assert self.door.claim(job)

    @rule(data=st.data())
    def settles(self, data: st.DataObject) -> None:
        job = self.some(data, "resuming")
        if job:
            assert self.door.turn(job, Turn.SUCCEED, due_at=None)

    @rule(part=st.sampled_from(PARTS))
    def is_paused_or_resumed(self, part: str) -> None:
        if not self.door.gate.resume("ada", now=self.door.now, part=part):
            self.door.gate.pause("ada", now=self.door.now, part=part)

    @precondition(lambda self: self.door.number("spent"))
    @rule()
    def is_topped_up(self) -> None:
        self.door.gate.learn_balance(8 * COST, spent_before=self.door.gate.spent())

    @invariant()
    def books_balance(self) -> None:
        self.door.balances()

    @invariant()
    def nobody_waits_aside_for_nothing(self) -> None:
        """After a release, whose tenant and operation are not paused waits in the lane."""
        if self.redis.smembers(keys.ASIDE):
            self.released()
        for job, state in self.door.states().items():
            if state == "held" and self.door.is_aside(job):
                assert self.paused() & {f"tenant:{lane_of(job).tenant}", OPERATION}

    @invariant()
    def limits_hold(self) -> None:
        door = self.door
        assert len(door.flight()) <= self.IN_FLIGHT
        since = door.number("spent") - door.number("spent_before")
        assert door.number("balance") - since - door.number("reserved") >= 0
        for first, last in itertools.combinations(range(len(self.passed)), 2):
            seconds = self.passed[last] - self.passed[first]
            late = min(self.SPACING / 2, 0.1)
            most = self.BURST + (seconds + late) / self.SPACING
            assert last - first + 1 <= most + 1e-6


def test_the_books_balance_and_the_limits_hold(redis: Any) -> None:
    class Here(Traffic):
        pass

    Here.redis = redis
    case = Here.TestCase
    case.settings = settings(
        max_examples=40,
        stateful_step_count=40,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )
    case().runTest()
