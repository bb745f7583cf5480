"""What people look at: the indexes, counters and turns that the scripts keep, in a real Valkey."""

import math
from typing import Any

import pytest
from redis import Redis

from tests.system import wait_until
from worker.core import keys, overview
from worker.core.job.lanes import Lane, Limits, Priority
from worker.core.job.models import Event, JobId, Source
from worker.core.job.states import JobState, Turn
from worker.core.overview import Filter
from worker.core.providers.aimusic.operations import OPERATIONS, find
from worker.store.counters import Counters
from worker.store.gate import Gate
from worker.store.lists import MOST_LOOKED_AT, Lists
from worker.store.records import Records
from worker.store.turns import Turns

NOW = 1_763_800_000.0
EVENT = Event(Source.WEBHOOK, body="{}", delivery_id="d-1")
WAV = "sonic.wav"


class Lab:
    """Takes jobs through their turns, as the engine would."""

    def __init__(self, redis: "Redis") -> None:
        self.redis = redis
        self.records = Records(redis)
        self.counters, self.turns = Counters(redis), Turns(redis)
        self.lists = Lists(redis, named=["weighty"])
        self.gate = Gate(redis, Limits(), 1000)

    def begin(
        self, job_id: str, *, at: float = NOW, operation: str = WAV, tenant: str = "default"
    ) -> JobId:
        lane = Lane(Priority.INTERACTIVE, tenant)
        state = self.records.begin(
            JobId(job_id),
            self.gate.bid(find(operation), lane, now=at, expires_at=None),
            now=at,
            due_at=at + 100,
            deadline_at=at + 1000,
            fields={"operation": operation, "parked": "a message"},
            leg="leg-1",
        )
        assert state is JobState.SUBMITTING
        return JobId(job_id)

    def forget(self) -> None:
        """Keep the lists; nothing has expired yet."""
        self.redis.delete(keys.TRIMMED)
        self.lists.forget(recorded_before=0, ended_before=0)

    def accept(self, job_id: JobId, *, at: float) -> None:
        assert self.records.turn(job_id, Turn.ACCEPT, now=at, due_at=at + 60, leg="leg-1")

    def end(
        self, job_id: JobId, *, at: float, event: Event = EVENT, turn: Turn = Turn.SUCCEED
    ) -> None:
        assert self.records.claim(job_id, event, now=at)
        fields = {} if turn is Turn.SUCCEED else {"error": {"type": "TaskFailed"}}
        assert self.records.turn(
            job_id, turn, now=at + 0.2, due_at=None, fields=fields, retain_seconds=600
        )


@pytest.fixture
def lab(redis: Any) -> Lab:
    return Lab(redis)


def test_a_job_stands_in_one_state_at_a_time(lab: Lab) -> None:
    job = lab.begin("job-1")
    assert lab.counters.counts() == {(JobState.SUBMITTING, WAV): 1}
    lab.accept(job, at=NOW + 1)
    assert lab.counters.counts() == {(JobState.WAITING, WAV): 1}
    assert lab.counters.oldest() == {JobState.WAITING: NOW + 1}
    lab.end(job, at=NOW + 40)
    assert lab.counters.counts() == {(JobState.SUCCEEDED, WAV): 1}
    assert not lab.counters.oldest()


def test_what_ends_a_job_is_counted_by_its_source(lab: Lab) -> None:
    for number, source in enumerate((Source.WEBHOOK, Source.WEBHOOK, Source.POLL)):
        job = lab.begin(f"job-{number}")
        lab.accept(job, at=NOW + 1)
        lab.end(job, at=NOW + 41, event=Event(source, body="{}"))
    totals = lab.counters.totals()
    assert totals["settled", "webhook", "succeeded", WAV] == 2
    assert totals["submissions", "accepted", WAV] == 3
    waits = overview.histogram(totals, "wait", overview.WAIT_BOUNDS)
    assert waits.count == 3
    assert waits.counts[45.0] == 3
    assert totals["wait_ms", WAV] == 120_000
    lags = overview.histogram(totals, "lag", overview.LAG_BOUNDS)
    assert lags.counts[0.25] == 3
    [minute] = lab.counters.minutes(now=NOW + 41, count=1)
    assert overview.total(minute, "settled") == 3
    assert overview.webhook_share(minute, OPERATIONS) == overview.WebhookShare(0, 0)
    [today] = lab.counters.days(now=NOW, count=1)
    assert overview.total(today, "settled", "succeeded") == 3


def test_a_webhook_before_the_answer_counts_as_accepted(lab: Lab) -> None:
    lab.end(lab.begin("job-1"), at=NOW + 3)
    assert overview.total(lab.counters.totals(), "submissions", "accepted") == 1


def test_credits_are_counted_by_tenant_if_the_job_succeeds(lab: Lab) -> None:
    priced = "sonic.stems_full"
    for number, turn in enumerate((Turn.SUCCEED, Turn.FAIL)):
        job = lab.begin(f"job-{number}", operation=priced, tenant="acme")
        lab.end(job, at=NOW, turn=turn)
    price = round(find(priced).credits * 1000)
    [today] = lab.counters.days(now=NOW, count=1)
    assert price
    assert today["credits", "acme"] == price


@pytest.mark.parametrize("cost", ["10.5", "nonsense", ""])
def test_a_damaged_record_is_counted_somehow_and_its_job_ends(lab: Lab, cost: str) -> None:
    job = lab.begin("job-1")
    lab.redis.hset(keys.job(job), mapping={"cost": cost, "lane": "x"})
    lab.redis.hdel(keys.job(job), "operation")
    lab.end(job, at=NOW)
    assert lab.redis.hget(keys.job(job), "state") == "succeeded"


@pytest.mark.parametrize("to", [JobState.HELD, JobState.SUBMITTING])
def test_a_job_is_listed_for_its_tenant_as_soon_as_its_record_has_one(
    lab: Lab, to: JobState
) -> None:
    job = JobId("job-1")
    lab.records.turn(job, Turn.ENQUEUE, now=NOW, due_at=NOW + 9, fields={"operation": WAV})
    assert listed(lab, "default") == [job]
    if to is JobState.HELD:
        lab.redis.hset(keys.GATE, "paused", "ada")
    bid = lab.gate.bid(find(WAV), Lane(Priority.INTERACTIVE, "acme"), now=NOW, expires_at=None)
    begun = lab.records.begin(
        job, bid, now=NOW, due_at=NOW + 9, deadline_at=NOW + 99, fields={}, leg="leg-1"
    )
    assert begun is to
    assert (listed(lab, "default"), listed(lab, "acme")) == ([], [job])


def listed(lab: Lab, tenant: str) -> list[str]:
    return [row.job_id for row in lab.lists.page(Filter(tenant=tenant), own=True).rows]


def test_a_tenants_own_list_never_names_the_jobs_of_others(lab: Lab) -> None:
    names: dict[str, list[str]] = {"acme": [], "default": [], "globex": []}
    for number in range(12):
        tenant = [*names][number % 3]
        names[tenant].insert(0, lab.begin(f"{tenant}-{number:02}", at=NOW + number, tenant=tenant))
    index = f"{keys.STATES}:{JobState.SUBMITTING}:{WAV}"
    lab.redis.zadd(index, {f"globex-{n}": NOW + 100 + n for n in range(MOST_LOOKED_AT + 10)})
    for tenant in ("acme", "default"):
        for wanted in (Filter(tenant=tenant), Filter(JobState.SUBMITTING, WAV, tenant)):
            seen: list[str] = []
            cursor = None
            for _ in range(9):
                page = lab.lists.page(wanted, cursor=cursor, limit=1, own=True)
                seen += [row.job_id for row in page.rows]
                if (cursor := page.cursor) is None:
                    break
                assert cursor.partition("~")[2] in names[tenant]
            assert seen == names[tenant]
            foreign = lab.lists.page(wanted, cursor=f"t{NOW + 2}~globex-02", own=True)
            nobodys = lab.lists.page(wanted, cursor=f"t{NOW + 2}~globex-none", own=True)
            assert foreign == nobodys


def test_lists_go_on_where_the_page_before_ended(lab: Lab) -> None:
    names = [f"job-{number:02}" for number in range(12)]
    for number, name in enumerate(names):
        # Several at one time: their ids tell them apart.
        lab.begin(name, at=NOW + number // 5, tenant="acme" if number % 2 else "default")
    for wanted in (Filter(), Filter(state=JobState.SUBMITTING), Filter(operation=WAV)):
        seen: list[str] = []
        cursor = None
        while True:
            page = lab.lists.page(wanted, cursor=cursor, limit=5)
            seen += [row.job_id for row in page.rows]
            if (cursor := page.cursor) is None:
                break
        assert seen == sorted(names, reverse=True)
    acme = lab.lists.page(Filter(tenant="acme"))
    assert [row.job_id for row in acme.rows] == names[1::2][::-1]
    assert {row.tenant for row in acme.rows} == {"acme"}
    assert acme.looked_at == 6


def test_a_filter_that_no_index_answers_looks_at_a_bounded_number(lab: Lab) -> None:
    with lab.redis.pipeline() as pipe:
        for number in range(MOST_LOOKED_AT + 10):
            pipe.zadd(keys.JOBS, {f"gone-{number}": NOW + number})
        pipe.execute()
    job = lab.begin("job-1", at=NOW - 1)
    first = lab.lists.page(Filter(batch="none"))
    assert (first.rows, first.looked_at) == ([], MOST_LOOKED_AT)
    second = lab.lists.page(Filter(), cursor=first.cursor)
    assert [row.job_id for row in second.rows] == [job]
    assert second.cursor is None


def test_a_list_until_a_time_begins_there(lab: Lab) -> None:
    for number in range(30):
        lab.begin(f"job-{number:02}", at=NOW + number, tenant="acme")
    for wanted in (Filter(until=NOW + 2), Filter(until=NOW + 2, tenant="acme")):
        page = lab.lists.page(wanted)
        assert [row.job_id for row in page.rows] == ["job-01", "job-00"]
        assert page.looked_at == 2


def test_a_list_until_a_time_has_a_job_whose_tenant_was_known_later(lab: Lab) -> None:
    job = JobId("job-1")
    lab.records.turn(job, Turn.ENQUEUE, now=NOW, due_at=NOW + 9, fields={"operation": WAV})
    lab.begin(job, at=NOW + 60, tenant="acme")
    page = lab.lists.page(Filter(until=NOW + 30, tenant="acme"))
    assert [row.job_id for row in page.rows] == [job]


def test_a_list_of_many_indexes_is_in_one_order(lab: Lab) -> None:
    operations = list(OPERATIONS)[:20]
    for number in range(600):
        lab.begin(f"job-{number:03}", at=NOW + number, operation=operations[number % 20])
    found = [row.job_id for row in lab.lists.select(Filter(state=JobState.SUBMITTING))]
    assert found == [f"job-{number:03}" for number in reversed(range(600))]


def test_everything_that_matches_is_selected(lab: Lab) -> None:
    for number in range(450):
        lab.begin(f"job-{number}")
    assert len({row.job_id for row in lab.lists.select(Filter(operation=WAV))}) == 450
    assert not list(lab.lists.select(Filter(operation="sonic.midi")))


@pytest.mark.parametrize("apart", [0, 1], ids=["at one time", "one after the other"])
def test_a_list_misses_nothing_while_its_reader_takes_jobs_from_it(lab: Lab, apart: int) -> None:
    for number in range(650):
        lab.begin(f"job-{number}", at=NOW + number * apart)
    seen = []
    for row in lab.lists.select(Filter(state=JobState.SUBMITTING)):
        lab.accept(row.job_id, at=NOW + 1000)
        seen.append(row.job_id)
    assert len(seen) == len(set(seen)) == 650


def test_a_list_of_a_tenant_goes_on_in_the_index_in_which_it_began(lab: Lab) -> None:
    # Recorded last, ended first: by state they come in another order than by tenant.
    acme = [lab.begin(f"acme-{n}", at=NOW + n, tenant="acme") for n in range(4)]
    others = [lab.begin(f"globex-{n}", at=NOW, tenant="globex") for n in range(9)]
    for n, job in enumerate(reversed(acme)):
        lab.end(job, at=NOW + 100 + n)
    for job in others:
        lab.end(job, at=NOW + 99)
    wanted = Filter(state=JobState.SUCCEEDED, tenant="acme")
    first = lab.lists.page(wanted, limit=2)
    # Meanwhile the other index becomes the smaller one.
    for n in range(30):
        lab.begin(f"more-{n}", at=NOW + 50 + n, tenant="acme")
    second = lab.lists.page(wanted, cursor=first.cursor)
    assert {row.job_id for page in (first, second) for row in page.rows} == set(acme)


@pytest.mark.parametrize("cursor", ["", "x", "sx~y", "snan~y", "tinf~y", "1~y"])
def test_a_wrong_cursor_is_a_value_error(lab: Lab, cursor: str) -> None:
    with pytest.raises(ValueError, match="this cursor is not one"):
        lab.lists.page(Filter(), cursor=cursor)


def test_each_turn_is_heard_of_once_in_order(lab: Lab) -> None:
    start = lab.turns.now()
    job = lab.begin("job-1", tenant="acme")
    lab.accept(job, at=NOW + 1)
    heard = lab.turns.listen(after=start, wait_seconds=0.1)
    assert [each.state for each in heard] == [JobState.SUBMITTING, JobState.WAITING]
    assert {(each.job_id, each.operation, each.tenant) for each in heard} == {(job, WAV, "acme")}
    assert lab.turns.listen(after=heard[-1].turn_id, wait_seconds=0.01) == []


def test_from_now_on_each_later_turn_is_heard(lab: Lab) -> None:
    """The id is made of the time: a tenant must not learn when a job of another one turned last."""
    for number in range(20):
        first, earlier = lab.turns.now(), lab.begin(f"job-{number}")
        wait_until(lambda since=first: lab.turns.now() > since, what="a millisecond passes")
        start, later = lab.turns.now(), lab.begin(f"later-{number}")
        for since, wanted in ((start, [later]), (first, [earlier, later])):
            heard = [each.job_id for each in lab.turns.listen(after=since, wait_seconds=0.1)]
            assert heard[-len(wanted) :] == wanted
    lab.redis.delete(keys.TURNS)
    wait_until(lambda: lab.turns.now() > start, what="a millisecond passes")


def test_jobs_of_the_version_before_are_added_to_the_indexes_once(lab: Lab) -> None:
    old: dict[Any, Any] = {
        "state": "waiting",
        "operation": WAV,
        "created_at": NOW,
        "lane": "batch:acme",
    }
    for number in range(3):
        lab.redis.hset(keys.job(JobId(f"old-{number}")), mapping=old)
        lab.redis.zadd(keys.JOBS, {f"old-{number}": NOW})
    lab.redis.zadd(keys.JOBS, {"expired": NOW})
    lab.forget()
    assert lab.counters.counts() == {(JobState.WAITING, WAV): 3}
    assert len(lab.lists.page(Filter(tenant="acme")).rows) == 3
    lab.redis.delete(f"{keys.STATES}:waiting:{WAV}")
    lab.forget()
    assert not lab.counters.counts()


def test_a_job_that_an_earlier_version_has_moved_is_put_where_it_stands(lab: Lab) -> None:
    moved, lost, stays = (lab.begin(f"job-{number}") for number in range(3))
    lab.redis.hset(keys.job(moved), "state", "succeeded")
    lab.redis.delete(keys.job(lost))
    lab.forget()
    assert lab.counters.counts() == {(JobState.SUBMITTING, WAV): 1, (JobState.SUCCEEDED, WAV): 1}
    found = lab.lists.page(Filter(state=JobState.SUBMITTING)).rows
    assert [row.job_id for row in found] == [stays]


def test_the_days_counters_are_told_by_tenant(lab: Lab) -> None:
    priced = "sonic.stems_full"
    settled = [
        ("acme", Turn.SUCCEED), ("acme", Turn.SUCCEED), ("acme", Turn.FAIL),
        ("blue", Turn.EXPIRE), ("blue", Turn.CANCEL),
    ]  # fmt: skip
    for number, (tenant, turn) in enumerate(settled):
        lab.end(lab.begin(f"job-{number}", operation=priced, tenant=tenant), at=NOW, turn=turn)
    [today] = lab.counters.days(now=NOW, count=1)
    of_an_earlier_version: overview.Counts = {("settled", "failed"): 3}
    assert overview.by_tenant({**today, **of_an_earlier_version}) == [
        overview.TenantDay("acme", succeeded=2, failed=1, credits=2 * find(priced).credits),
        overview.TenantDay("blue", failed=1, cancelled=1),
    ]


def test_what_tenants_without_jobs_have_spent_is_added_up(lab: Lab) -> None:
    """Each of them would have a counter for ever. One with a weight is shown by its name."""
    priced = "sonic.stems_full"
    price = round(find(priced).credits * 1000)
    for tenant in ("acme", "blue", "gone", "default", "weighty"):
        lab.end(lab.begin(f"job-{tenant}", operation=priced, tenant=tenant), at=NOW)
    lab.lists.forget(recorded_before=NOW + 1, ended_before=NOW + 1)
    lab.end(lab.begin("job-2", operation=priced, tenant="blue", at=NOW + 9), at=NOW + 9)
    lab.redis.delete(keys.TRIMMED)
    lab.lists.forget(recorded_before=NOW + 1, ended_before=NOW + 1)
    spent = {name[1]: n for name, n in lab.counters.totals().items() if name[0] == "credits"}
    assert spent == {"other": 3 * price, "blue": price, "default": price, "weighty": price}


def test_a_tenant_without_jobs_is_forgotten(lab: Lab) -> None:
    lab.begin("job-1", at=NOW, tenant="acme")
    lab.begin("job-2", at=NOW + 10, tenant="blue")
    lab.lists.forget(recorded_before=NOW + 5, ended_before=0)
    assert lab.redis.smembers(keys.TENANTS) == {"blue"}


def test_what_has_expired_leaves_the_lists(lab: Lab) -> None:
    lab.end(lab.begin("job-1", tenant="acme"), at=NOW)
    live = lab.begin("job-2", at=NOW, tenant="acme")
    lab.lists.forget(recorded_before=NOW - 1, ended_before=NOW + 100)
    assert lab.counters.counts() == {(JobState.SUBMITTING, WAV): 1}
    # It is done once in a while only.
    lab.lists.forget(recorded_before=NOW + 1, ended_before=NOW + 100)
    assert lab.redis.zrange(keys.JOBS, 0, -1) == ["job-1", live]
    lab.redis.delete(keys.TRIMMED)
    lab.lists.forget(recorded_before=NOW + 1, ended_before=NOW + 100)
    assert not lab.redis.zrange(keys.JOBS, 0, -1)
    assert not lab.lists.page(Filter(tenant="acme")).rows


def test_the_gate_is_shown_with_who_waits(lab: Lab) -> None:
    assert lab.counters.gate().closed_for is None
    lab.begin("job-1")
    assert lab.counters.gate().in_flight == 1
    closed: dict[Any, Any] = {"breaker": "OutOfCredits", "closed_at": NOW, "probe_at": NOW}
    lab.redis.hset(keys.GATE, mapping=closed)
    lane = str(Lane(Priority.BATCH, "acme"))
    lab.records.turn(
        JobId("job-2"), Turn.HOLD, now=NOW, due_at=NOW + 10,
        fields={"operation": WAV, "lane": lane, "cost": 0},
    )  # fmt: skip
    lab.gate.learn_balance(12.5, spent_before=0)
    gate = lab.counters.gate()
    assert gate.closed_for == "OutOfCredits"
    assert (gate.closed_at, gate.probe_at) == (NOW, NOW)
    assert gate.waiting == {("batch", "acme"): 1}
    assert gate.credits == pytest.approx(12.5 - find(WAV).credits)


def test_quantiles_are_estimated_within_a_bucket() -> None:
    waits = overview.Histogram({10.0: 0, 20.0: 10, math.inf: 10})
    assert waits.quantile(0.25) == 15
    assert waits.quantile(0.95) == 20
    assert overview.Histogram({10.0: 0, math.inf: 0}).quantile(0.5) is None
