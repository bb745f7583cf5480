"""The gate in a real Valkey: limits, lanes and books, whatever happens in whichever order."""

import itertools
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.integration.gate import COST, REMASTER, START, Door, batch, lane, lane_of
from worker.core import keys, wire
from worker.core.errors import KeyRefused, OutOfCredits, RequestRefused
from worker.core.job.models import JobId
from worker.core.job.states import Turn
from worker.core.providers.aimusic.operations import find
from worker.store.counters import Counters


@pytest.fixture
def door(redis: Any) -> Iterator[Door]:
    door = Door(redis)
    yield door
    door.balances()


# --- Limits. ---


def test_without_limits_a_job_passes_at_once(door: Door) -> None:
    assert door.state(door.begin(lane())) == "submitting"


def test_a_place_is_held_from_submission_to_the_event(door: Door) -> None:
    door.change(in_flight=1)
    first, second = door.begin(lane()), door.begin(lane())
    assert (door.state(first), door.state(second)) == ("submitting", "held")
    door.accept(first)
    assert door.release() == []
    door.claim(first)
    assert door.release() == [second]


def test_a_paused_gate_lets_nobody_pass_until_it_is_resumed(door: Door) -> None:
    gate = door.gate
    gate.pause("the operator", now=door.now)
    first = door.begin(lane())
    assert door.state(first) == "held"
    door.record(batch())
    assert door.release() == []
    assert Counters(door.redis).gate().paused_by == "the operator"
    assert gate.resume("the operator", now=door.now)
    assert first in door.release()
    assert not gate.resume("the operator", now=door.now)


# --- Pauses of a tenant, of an operation. ---

ACME, REMASTERS = "tenant:acme", f"operation:{REMASTER.name}"


def pause(door: Door, part: str) -> None:
    door.gate.pause("ada", now=door.now, part=part)


def resume(door: Door, part: str) -> bool:
    return door.gate.resume("ada", now=door.now, part=part)


@pytest.mark.parametrize("before", [True, False], ids=["waits already", "comes later"])
def test_a_paused_tenant_waits_and_others_pass(door: Door, before: bool) -> None:
    door.change(in_flight=1)
    first = door.begin(lane("b"))
    if not before:
        pause(door, ACME)
    paused = [door.begin(lane()), door.record(batch())]
    others = [door.begin(lane("b")), door.record(batch("b"))]
    if before:
        pause(door, ACME)
    door.claim(first)
    door.change(in_flight=None)
    assert sorted(door.release()) == sorted(others)
    assert all(map(door.is_aside, paused))
    assert resume(door, ACME)
    assert sorted(door.release()) == sorted(paused)


def test_who_waits_aside_holds_up_nobody_at_the_door(door: Door) -> None:
    pause(door, ACME)
    assert door.state(door.begin(lane())) == "held"
    assert door.state(door.begin(lane("b"))) == "submitting"


def test_a_paused_operation_waits_and_others_of_its_tenant_pass(door: Door) -> None:
    pause(door, REMASTERS)
    paused = [door.record(batch()), door.begin(lane("b"))]
    free = find("account.credits")
    bid = door.gate.bid(free, lane(), now=door.now, expires_at=None)
    begun = door.records.begin(
        JobId("free"), bid, now=door.now, due_at=door.now, deadline_at=door.now,
        fields={"operation": free.name, "parked": ""}, leg="leg",
    )  # fmt: skip
    assert (begun, door.release()) == ("submitting", [])
    door.claim("free")
    assert resume(door, REMASTERS)
    assert sorted(door.release()) == sorted(paused)


def test_a_job_of_two_pauses_waits_for_the_end_of_both(door: Door) -> None:
    pause(door, ACME)
    pause(door, REMASTERS)
    job = door.record(batch())
    assert resume(door, ACME)
    assert (door.release(), door.is_aside(job)) == ([], True)
    assert not resume(door, ACME)
    assert resume(door, REMASTERS)
    assert door.release() == [job]


def test_after_a_pause_the_first_is_first_and_nobody_has_saved_a_share(door: Door) -> None:
    closed_while(door, batch("acme"), batch("b"), each=60)
    pause(door, ACME)
    assert tenants(door.serve(30)) == {"b": 40}
    late = [door.record(batch()) for _ in range(3)]
    resume(door, ACME)
    served = door.serve()
    assert tenants(served[:40])["b"] == pytest.approx(20, abs=1)
    of_acme = [job for job in served if lane_of(job).tenant == "acme"]
    assert of_acme == sorted(of_acme)
    assert of_acme[-3:] == late


@pytest.mark.parametrize("before", [True, False], ids=["waits already", "comes later"])
def test_a_job_comes_back_to_the_place_that_it_had(door: Door, before: bool) -> None:
    if not before:
        pause(door, ACME)
    door.now += 10
    late = door.record(batch())
    door.now -= 10
    early = door.record(batch())  # its clock is behind
    if before:
        pause(door, ACME)
    assert door.release() == []
    resume(door, ACME)
    assert door.serve() == [early, late]


def test_a_thousand_that_wait_aside_come_back_in_calls_that_are_bounded(door: Door) -> None:
    pause(door, ACME)
    jobs = [door.record(batch()) for _ in range(1000)]
    resume(door, ACME)
    released = door.gate.release(now=door.now, stale_at=door.now + 30)
    assert list(released.job_ids) == jobs[:20]
    assert released.again_at == pytest.approx(door.now)
    aside = door.redis.zcard(f"{keys.HELD}paused:{ACME}/{batch()}")
    assert 0 < aside < 1000
    for job_id in jobs[:20]:
        door.begin(batch(), job_id)
        door.claim(job_id)
    assert door.serve() == jobs[20:]


def test_what_has_ended_while_it_was_paused_is_forgotten(door: Door) -> None:
    pause(door, ACME)
    jobs = [door.record(batch()) for _ in range(3)]
    for job in jobs[:2]:
        door.claim(job)
    assert door.release() == []
    assert [each.held for each in Counters(door.redis).gate().pauses] == [1]
    door.claim(jobs[2])
    door.release()
    assert not door.redis.exists(keys.ASIDE)
    resume(door, ACME)


def test_what_the_provider_accepted_while_it_waited_aside_is_not_submitted_again(
    door: Door,
) -> None:
    job = door.begin(lane())
    door.turn(job, Turn.DOUBT, leg="leg")
    door.turn(job, Turn.RESUBMIT, leg="leg")
    pause(door, ACME)
    door.begin(lane(), job, leg="another leg")
    assert door.is_aside(job)
    assert door.turn(job, Turn.ACCEPT)
    resume(door, ACME)
    assert (door.release(), door.state(job)) == ([], "waiting")


def test_a_job_that_was_admitted_before_the_pause_goes_on(door: Door) -> None:
    job = door.record(batch())
    assert door.release() == [job]
    pause(door, ACME)
    door.begin(batch(), job)
    assert door.state(job) == "submitting"


def test_the_timeline_says_who_paused_what(door: Door) -> None:
    waits = door.record(batch())
    pause(door, ACME)
    for job in (waits, door.record(batch()), door.begin(lane())):
        door.release()
        last = door.readings.read(JobId(job)).timeline[-1]
        assert (last["what"], last["why"]) == ("hold", "tenant acme is paused by ada")


def test_pauses_are_shown_with_who_waits(door: Door) -> None:
    pause(door, ACME)
    pause(door, REMASTERS)
    door.begin(lane()), door.record(batch()), door.record(batch("b"))
    view = Counters(door.redis).gate()
    shown = [(p.kind, p.name, p.by, p.at, p.held) for p in view.pauses]
    assert shown == [
        ("operation", "sonic.remaster", "ada", START, 3),
        ("tenant", "acme", "ada", START, 2),
    ]
    assert view.waiting == {("interactive", "acme"): 1, ("batch", "acme"): 1, ("batch", "b"): 1}
    assert (view.paused_by, view.closed_for) == (None, None)


def test_the_history_says_when_the_gate_closed_opened_and_was_paused(door: Door) -> None:
    hear(door, BROKE)
    door.now += 30
    probe = door.begin(lane())
    door.accept(probe)
    pause(door, ACME)
    resume(door, ACME)
    resume(door, ACME)
    said = [(e.what, e.why, e.by) for e in Counters(door.redis).gate_history()]
    assert said == [
        ("resumed", ACME, "ada"),
        ("paused", ACME, "ada"),
        ("opened", "OutOfCredits", ""),
        ("closed", "OutOfCredits", ""),
    ]
    for _ in range(60):
        pause(door, ACME)
        resume(door, ACME)
    assert len(Counters(door.redis).gate_history(1000)) == 100


@pytest.mark.parametrize("burst", [1, 3])
def test_submissions_are_spaced_after_a_burst(door: Door, burst: int) -> None:
    door.change(submits_per_second=2, burst=burst)
    jobs = [door.record(batch()) for _ in range(6)]
    began = door.now
    passed: dict[str, float] = {}
    while len(passed) < len(jobs):
        passed |= dict.fromkeys(door.release(), door.now - began)
        door.now += 0.01
    spaced = [max(0, n - burst + 1) * 0.5 for n in range(6)]
    assert list(passed.values()) == pytest.approx(spaced, abs=0.11)


def test_what_is_late_by_little_is_made_up_for(door: Door) -> None:
    door.change(submits_per_second=10)
    jobs = [door.record(batch()) for _ in range(41)]
    began = door.now
    passed: list[str] = []
    while len(passed) < len(jobs):
        passed += door.hand_out()
        door.now += 0.037  # looks up to so much later than it should
    assert door.now - began == pytest.approx(4, abs=0.1)


@pytest.mark.parametrize(("ahead", "per_second"), [(3600, 0.5), (0, 0.0005)])
def test_no_clock_and_no_old_limit_keeps_the_gate_closed(
    door: Door, ahead: float, per_second: float
) -> None:
    """A clock was an hour ahead; the limit was one submission in half an hour."""
    door.change(submits_per_second=per_second)
    door.now += ahead
    door.begin(lane())
    door.now -= ahead
    door.change(submits_per_second=0.5)
    assert door.state(door.begin(lane())) == "submitting"


def test_two_clocks_that_differ_do_not_make_two_limits(door: Door) -> None:
    door.change(submits_per_second=10)
    closed_while(door, batch(), each=100)
    passed, began = 0, door.now
    while door.now < began + 5:
        for behind in (0, 2):
            door.now -= behind
            passed += len(door.hand_out())
            door.now += behind
        door.now += 0.01
    assert passed == pytest.approx(50, abs=2)


def test_a_limit_that_is_raised_lets_those_pass_who_wait(door: Door) -> None:
    door.change(in_flight=1)
    door.begin(lane())
    jobs = [door.begin(lane()) for _ in range(3)]
    assert door.release() == []
    door.change(in_flight=3)
    assert door.release() == jobs[:2]
    door.change(in_flight=None)
    assert door.release() == jobs[2:]


def test_whoever_comes_later_waits_behind_those_that_wait(door: Door) -> None:
    door.change(in_flight=1)
    door.begin(lane())
    waits = door.begin(lane())
    door.change(in_flight=2)
    late = door.begin(lane())
    assert door.state(late) == "held"
    assert door.release() == [waits]


# --- Credits. ---


def know(door: Door, credits_left: float) -> None:
    door.gate.learn_balance(credits_left, spent_before=door.gate.spent())


def test_exactly_what_can_be_paid_passes(door: Door) -> None:
    door.change(credit_floor=0)
    know(door, 3 * COST + 9)
    jobs = [door.begin(lane()) for _ in range(5)]
    assert Counter(map(door.state, jobs)) == {"submitting": 3, "held": 2}
    for job_id in jobs[:3]:
        door.accept(job_id)
        door.claim(job_id)
    assert door.release() == []
    know(door, 9 + COST)
    assert door.release() == jobs[3:4]


def test_what_was_charged_before_the_balance_was_asked_for_counts_once(door: Door) -> None:
    door.change(credit_floor=0)
    know(door, 2 * COST)
    first = door.begin(lane())
    door.accept(first)
    know(door, COST)
    assert door.state(door.begin(lane())) == "submitting"


def test_before_the_balance_is_known_nothing_is_spent(door: Door) -> None:
    door.change(credit_floor=0)
    job = door.begin(lane())
    assert door.state(job) == "held"
    know(door, COST)
    assert door.release() == [job]


def test_what_costs_nothing_needs_no_credits(door: Door) -> None:
    door.change(credit_floor=100)
    free, lane_ = find("account.credits"), lane()
    bid = door.gate.bid(free, lane_, now=START, expires_at=None)
    begun = door.records.begin(
        JobId("interactive:acme:free"), bid, now=START, due_at=START, deadline_at=START,
        fields={"operation": free.name, "parked": ""}, leg="leg",
    )  # fmt: skip
    assert begun == "submitting"


def test_a_leg_without_a_message_begins_no_job_whose_record_was_lost(door: Door) -> None:
    """The message would be gone with it: the job could never be resumed."""
    bid = door.gate.bid(find("account.credits"), lane(), now=START, expires_at=None)
    begun = door.records.begin(
        JobId("lost"), bid, now=START, due_at=START, deadline_at=START,
        fields={"operation": "account.credits"}, leg="leg",
    )  # fmt: skip
    assert begun is None
    assert door.readings.state(JobId("lost")) is None


def test_what_was_put_back_was_not_spent(door: Door) -> None:
    door.change(credit_floor=0)
    know(door, COST)
    job = door.begin(lane())
    assert door.turn(job, Turn.POSTPONE, leg="leg")
    assert (door.number("reserved"), door.number("spent")) == (0, 0)
    assert door.state(door.begin(lane(), job)) == "submitting"


def test_what_may_have_been_charged_counts_until_the_balance_is_known(door: Door) -> None:
    door.change(credit_floor=0)
    know(door, COST)
    job = door.begin(lane())
    assert door.turn(job, Turn.DOUBT, leg="leg")
    assert door.turn(job, Turn.RESUBMIT, leg="leg")
    assert door.state(door.begin(lane(), job)) == "held"


def test_what_a_webhook_ends_before_the_submits_answer_was_charged(door: Door) -> None:
    door.change(credit_floor=0)
    know(door, COST)
    job = door.begin(lane())
    assert door.claim(job)
    assert (door.number("reserved"), door.number("spent")) == (0, COST * 1000)
    assert door.state(door.begin(lane())) == "held"


def test_two_answers_about_the_balance_at_once_do_not_count_twice(door: Door) -> None:
    door.change(credit_floor=0)
    know(door, 10 * COST)
    for _ in range(10):
        door.accept(door.begin(lane()))
    before = door.gate.spent()
    for _ in range(2):
        door.gate.learn_balance(0, spent_before=before)
    assert door.state(door.begin(lane())) == "held"


@pytest.mark.parametrize("state", ["queued", "held", "admitted"])
def test_what_is_accepted_after_all_is_charged_once_and_not_submitted_again(
    door: Door, state: str
) -> None:
    door.change(in_flight=1)
    job = door.begin(lane())
    deadline = door.readings.read(JobId(job)).deadline_at
    door.turn(job, Turn.DOUBT, leg="leg")
    door.turn(job, Turn.RESUBMIT, leg="leg")
    if state != "queued":
        other = door.begin(lane())
        door.begin(lane(), job, leg="another leg")
        door.now += 100
        deadline += 100
        door.claim(other)
    if state == "admitted":
        assert door.release() == [job]
    assert door.state(job) == state

    assert door.turn(job, Turn.ACCEPT)

    assert door.flight() == {job: 0}
    charged = 1 if state == "queued" else 2  # with the other job
    assert (door.number("spent"), door.number("reserved")) == (charged * COST * 1000, 0)
    assert door.readings.read(JobId(job)).deadline_at == pytest.approx(deadline, abs=0.01)
    door.begin(lane(), job, leg="another leg")
    assert (door.release(), door.state(job)) == ([], "waiting")


# --- The breaker. ---

REFUSED = wire.Refused(KeyRefused("no"))
BROKE = wire.Refused(OutOfCredits("no"))
UNKNOWN = wire.Unknown("HTTP 500")
UNREACHABLE = wire.Postponed("refused", failed=True)


def hear(
    door: Door, outcome: wire.SubmitOutcome, operation: str = REMASTER.name, job: str = "any"
) -> bool:
    return door.gate.hear(JobId(job), find(operation), outcome, now=door.now)


def closed(door: Door) -> bool:
    return bool(door.redis.hexists(keys.GATE, "breaker"))


@pytest.mark.parametrize("outcome", [REFUSED, BROKE])
def test_one_refusal_that_meets_all_closes_the_gate_until_a_probe_is_accepted(
    door: Door, outcome: wire.SubmitOutcome
) -> None:
    assert hear(door, outcome) is True
    assert hear(door, outcome) is False
    jobs = [door.begin(lane()) for _ in range(3)]
    assert door.release() == []
    door.now += 30
    assert door.release() == jobs[:1]
    door.begin(lane(), jobs[0])
    door.accept(jobs[0])
    assert door.release() == jobs[1:]


@pytest.mark.parametrize("why", [REFUSED, BROKE])
@pytest.mark.parametrize("synchronous", [True, False])
def test_a_job_that_was_on_its_way_when_the_gate_closed_does_not_open_it(
    door: Door, why: wire.SubmitOutcome, synchronous: bool
) -> None:
    early = door.begin(lane())
    door.now += 1
    hear(door, why)
    door.now += 1
    if synchronous:
        hear(door, wire.Completed("{}"), job=early)
    else:
        door.accept(early)
    assert closed(door)


@pytest.mark.parametrize("outcome", [UNKNOWN, UNREACHABLE])
def test_five_failures_in_a_row_close_the_gate(door: Door, outcome: wire.SubmitOutcome) -> None:
    for _ in range(4):
        hear(door, outcome)
    hear(door, wire.Refused(RequestRefused("bad words")))
    assert [hear(door, outcome) for _ in range(5)] == [False, False, False, False, True]


def test_a_provider_that_only_says_later_does_not_close_the_gate(door: Door) -> None:
    for _ in range(10):
        hear(door, wire.Postponed("HTTP 429"))
    assert not closed(door)


@pytest.mark.parametrize(
    ("why", "outcome", "operation", "opens"),
    [
        (REFUSED, wire.Refused(RequestRefused("bad words")), "sonic.remaster", True),
        (BROKE, wire.Refused(RequestRefused("bad words")), "sonic.remaster", False),
        (BROKE, wire.Completed("{}"), "account.credits", False),
        (BROKE, wire.Completed("{}"), "sonic.wav", True),
    ],
)
def test_an_answer_opens_the_gate_if_it_tells_that_the_reason_is_gone(
    door: Door,
    why: wire.SubmitOutcome,
    outcome: wire.SubmitOutcome,
    operation: str,
    opens: bool,
) -> None:
    hear(door, why)
    hear(door, outcome, operation)
    assert closed(door) is not opens


def test_a_breaker_without_its_moment_lets_one_through(door: Door) -> None:
    """Two workers, one closing and one opening the gate, can leave it so."""
    door.redis.hset(keys.GATE, "breaker", "KeyRefused")
    jobs = [door.begin(lane()), door.begin(lane())]
    assert [door.state(job) for job in jobs] == ["submitting", "held"]


# --- Lanes. ---


def tenants(served: list[str]) -> Counter[str]:
    return Counter(lane_of(job_id).tenant for job_id in served)


def closed_while(door: Door, *lanes: Any, each: int = 100) -> None:
    for where in lanes:
        for _ in range(each):
            door.record(where)


def test_within_a_lane_the_first_is_first(door: Door) -> None:
    jobs = [door.record(batch()) for _ in range(50)]
    assert door.serve() == jobs


def test_ten_jobs_are_through_before_a_thousand_are_half_done(door: Door) -> None:
    closed_while(door, batch("many"), each=1000)
    few = [door.record(batch("few")) for _ in range(10)]
    served = door.serve(40)
    assert set(few) <= set(served[:22])


def test_tenants_get_what_their_weights_say(door: Door) -> None:
    door.change(weights={"acme": 3, "trial": 0.5})
    closed_while(door, batch("acme"), batch("other"), batch("trial"), each=200)
    served = tenants(door.serve(180)[:180])
    assert served["acme"] == pytest.approx(120, abs=1)
    assert served["other"] == pytest.approx(40, abs=1)
    assert served["trial"] == pytest.approx(20, abs=1)


@pytest.mark.parametrize(("weight", "share"), [(1, 50), (0.25, 20)])
def test_one_who_comes_with_one_job_at_a_time_gets_no_more_than_their_share(
    door: Door, weight: float, share: int
) -> None:
    door.change(in_flight=1, weights={"a": weight})
    closed_while(door, batch("many"), each=200)
    door.record(batch("a"))
    served: list[str] = []
    while len(served) < 100:
        (job,) = door.release()
        served.append(job)
        if lane_of(job).tenant == "a":
            door.record(batch("a"))
        door.begin(lane_of(job), job)
        door.claim(job)
    assert tenants(served)["a"] == pytest.approx(share, abs=1)


def test_a_tenant_who_was_away_has_saved_nothing(door: Door) -> None:
    closed_while(door, batch("a"), each=100)
    door.serve(40)
    closed_while(door, batch("b"), each=50)
    assert tenants(door.serve(20)[:20])["b"] == pytest.approx(10, abs=1)


def test_of_ten_one_is_of_the_batch_while_both_wait(door: Door) -> None:
    closed_while(door, lane(), batch(), each=90)
    served = [lane_of(job).priority for job in door.serve(60)[:60]]
    assert Counter(served) == {"interactive": 54, "batch": 6}


def test_a_batch_that_is_alone_gets_everything(door: Door) -> None:
    closed_while(door, batch(), each=45)
    assert len(door.serve()) == 45


def test_one_who_was_cancelled_is_passed_over(door: Door) -> None:
    door.change(in_flight=1)
    door.begin(lane())
    jobs = [door.begin(lane()) for _ in range(600)]
    for job_id in jobs[:-1]:
        door.claim(job_id)
    door.change(in_flight=2)
    released = door.gate.release(now=door.now, stale_at=door.now + 30)
    assert not released.job_ids
    assert released.again_at == pytest.approx(door.now)
    assert door.release() == jobs[-1:]


def test_those_who_are_gone_leave_no_lane_behind(door: Door) -> None:
    closed_while(door, lane("a"), batch("b"), batch("c"), each=3)
    door.serve()
    assert door.redis.keys(f"{keys.LANES}*") + door.redis.keys(f"{keys.HELD}*") == []


# --- Time. ---


def test_a_job_that_comes_back_may_not_wait_longer_for_it(door: Door) -> None:
    door.change(in_flight=1)
    first = door.begin(lane())
    job = door.begin(lane())
    until = door.readings.read(JobId(job)).deadline_at
    for _ in range(3):
        door.claim(first) if door.state(first) == "submitting" else None
        door.now += 100
        assert door.release() == [job]
        door.begin(lane(), job)
        door.turn(job, Turn.POSTPONE, leg="leg")
        first = door.begin(lane())
        door.begin(lane(), job)
        assert (door.state(job), door.readings.read(JobId(job)).deadline_at) == ("held", until)


def test_while_a_job_is_held_its_own_time_stands_still(door: Door) -> None:
    door.change(in_flight=1)
    job = door.begin(lane())
    deadline = door.readings.read(JobId(job)).deadline_at
    door.turn(job, Turn.POSTPONE, leg="leg")
    other = door.begin(lane())
    door.begin(lane(), job)
    door.now += 500
    door.claim(other)
    assert door.release() == [job]
    door.begin(lane(), job)
    assert door.readings.read(JobId(job)).deadline_at == pytest.approx(deadline + 500, abs=0.01)


def test_a_place_does_not_outlive_its_record(door: Door) -> None:
    door.change(in_flight=1)
    job = door.begin(lane())
    door.redis.delete(keys.job(job))
    door.records.drop_due(JobId(job))
    assert door.state(door.begin(lane())) == "submitting"


# --- On their way. ---


def test_a_batch_does_not_fill_the_queue_that_others_use(door: Door) -> None:
    jobs = [door.record(batch()) for _ in range(50)]
    first = door.release()
    assert (first, door.release()) == (jobs[:20], [])
    door.begin(batch(), first[0])
    assert door.claim(first[1])
    assert door.turn(first[2], Turn.REROUTE)
    assert door.release() == jobs[20:23]


def test_jobs_that_no_worker_takes_do_not_stop_the_others(door: Door) -> None:
    jobs = [door.record(batch()) for _ in range(50)]
    assert door.release() == jobs[:20]
    door.now += 61
    assert door.release() == jobs[20:40]


def test_an_interactive_job_passes_a_batch_that_no_worker_takes(door: Door) -> None:
    closed_while(door, batch("many"), each=50)
    assert len(door.release()) == 20
    waits = door.begin(lane("other"))
    assert door.state(waits) == "held"
    assert door.release() == [waits]


@pytest.mark.parametrize("waiting", [0, 1])
def test_while_no_more_may_be_on_their_way_no_moment_is_named(door: Door, waiting: int) -> None:
    """Else every worker would look again at once, and again."""
    closed_while(door, batch(), each=20 + waiting)
    assert len(door.release()) == 20
    released = door.gate.release(now=door.now, stale_at=door.now + 30)
    assert (released.job_ids, released.again_at) == ([], None)


@pytest.mark.parametrize("where", [lane("other"), batch("other"), batch("many")], ids=str)
def test_slow_jobs_on_their_way_keep_no_quick_one(door: Door, where: Any) -> None:
    closed_while(door, batch("many", slow=True), lane("many", slow=True), each=50)
    slow = door.release()
    assert Counter(lane_of(job).priority for job in slow) == {"batch": 4, "interactive": 4}
    quick = door.record(where)
    assert door.release() == [quick]
    door.now += 61
    assert door.release() == []
    door.begin(lane_of(slow[0]), slow[0])
    (follows,) = door.release()
    assert lane_of(follows) == lane_of(slow[0])


def test_slow_and_quick_jobs_of_a_batch_take_turns(door: Door) -> None:
    door.change(in_flight=1)
    closed_while(door, batch(), batch(slow=True), each=10)
    served = [lane_of(job).slow for job in door.serve()]
    assert served == [False, True] * 10


def test_slow_jobs_that_no_worker_takes_stop_others_for_a_quarter_of_an_hour(door: Door) -> None:
    jobs = [door.record(batch(slow=True)) for _ in range(8)]
    assert door.release() == jobs[:4]
    door.now += 899
    assert door.release() == []
    door.now += 2
    assert door.release() == jobs[4:]


# --- Who admits is woken. ---


def woken(door: Door) -> bool:
    """Say whether who admits was woken since this was asked last."""
    return bool(door.redis.delete(keys.WAKE))


def test_whoever_is_the_first_to_wait_in_a_class_wakes(door: Door) -> None:
    closed_while(door, batch("many"), each=50)
    door.release()
    assert woken(door)
    door.begin(batch("other"))
    assert not woken(door)
    door.begin(lane("other"))
    assert woken(door)


def test_a_worker_that_takes_an_admitted_job_makes_room_and_wakes(door: Door) -> None:
    jobs = [door.record(batch()) for _ in range(21)]
    door.release()
    assert woken(door)
    door.begin(batch(), jobs[0])
    assert woken(door)
    assert door.release() == jobs[20:]


# --- Races. ---


def test_what_was_sent_twice_counts_once(door: Door) -> None:
    job = door.begin(lane())
    assert door.begin(lane(), job) == job
    assert door.readings.read(JobId(job)).attempts == 1
    assert len(door.flight()) == 1


def test_a_leg_whose_reply_was_lost_hears_that_it_has_begun(door: Door) -> None:
    """Else nobody would submit the job, until the sweep took its leg for dead."""
    job = door.begin(lane(), leg="leg")
    assert door.admit(lane(), job, "leg") == "submitting"
    assert door.admit(lane(), job, "another leg") is None


def test_releasers_at_once_admit_each_job_once(door: Door) -> None:
    door.change(in_flight=100)
    jobs = [door.record(batch(f"t{n % 7}")) for n in range(150)]
    together = threading.Barrier(8)

    def release(_: int) -> list[str]:
        together.wait()
        return list(itertools.chain.from_iterable(iter(door.hand_out, [])))

    with ThreadPoolExecutor(8) as pool:
        admitted = list(itertools.chain.from_iterable(pool.map(release, range(8))))
    assert len(admitted) == len(set(admitted)) == 100
    assert set(admitted) <= set(jobs)
