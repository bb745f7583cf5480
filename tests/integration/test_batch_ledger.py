"""Batches in a real Valkey, with no worker but the test: what only an exact moment can show."""

import functools
import itertools
import json
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from click.testing import CliRunner

from tests.integration.flow import completed
from tests.traced import in_memory
from worker import tracing
from worker.batch import Batch, Job, Phase, Retrying, Runs, Submission, manifest, matching, report
from worker.cli.commands import main
from worker.core import keys
from worker.core.batch import Row, row_id
from worker.core.batch.flows import Plan
from worker.core.contract import BATCH_HEADER, PRIORITY_HEADER
from worker.core.health.checks import longest_deadline
from worker.core.job.models import Event, JobId, JSONObject, Source
from worker.core.job.states import JobState, Turn
from worker.core.job.timing import Policy
from worker.engine.cancel import Cancellations
from worker.messages import flow
from worker.messages.retry import INSTEAD_CAME_LATE, PERHAPS_PAID, NotRetried
from worker.settings import Role, load
from worker.store.connection import connect
from worker.store.embedded import EmbeddedValkey
from worker.store.readings import Readings
from worker.store.records import Records
from worker.wiring.batches import open_batches
from worker.wiring.producer import open_producer, open_retries

NAME = "songs"
RETENTION = 7 * 86400
REMEMBERED = 2 * RETENTION + round(longest_deadline(Policy()))
MADE: JSONObject = {"clips": [{"clip_id": "made", "state": "succeeded"}], "data": {}}
UNCONFIRMED: JSONObject = {"type": "SubmissionUnconfirmed", "message": "as if", "details": {}}
FAILURE: JSONObject = {"type": "TaskFailed", "message": "as if", "details": {}}


class Desk:
    """One batch, and what a worker would do with its jobs."""

    def __init__(self, url: str) -> None:
        settings = load(Role.CLIENT)
        self.redis: Any = connect(url)
        self.records, self.readings = Records(self.redis), Readings(self.redis)
        self.app = open_producer(settings)
        opened = open_batches(settings)
        self.ledger, self.batch_rows = opened.ledger, opened.rows
        self.enqueue: Callable[..., flow.Flow] = functools.partial(flow.enqueue, self.app)
        self.runs = Runs(
            enqueue=self._enqueue,
            ledger=self.ledger,
            rows=self.batch_rows,
            cancellations=Cancellations(self.records, time.time),
            matching=opened.matching,
        )

    def _enqueue(self, *args: Any, **options: Any) -> flow.Flow:
        """Enqueue as the test has it by now."""
        return self.enqueue(*args, **options)

    def open(self, rows: Sequence[Row], *, jobs: int = 9) -> None:
        self.ledger.open(
            NAME,
            now=time.time(),
            rows=len(rows),
            expected_jobs=jobs,
            expected_credits=9,
            again=True,
        )

    def submit(self, rows: Sequence[Row], *, jobs: int = 9) -> Submission:
        self.open(rows, jobs=jobs)
        return self.runs.submit(NAME, rows)

    def retry(self, **options: Any) -> Retrying:
        return self.runs.retry(NAME, by="a test", **options)

    def cancel(self) -> int:
        return self.runs.cancel(NAME, by="batch cancel").ending

    def read(self) -> Batch:
        return self.ledger.read(NAME)

    def jobs(self) -> list[list[Job]]:
        """Read the jobs of each row; of one that was retried, that in its place."""
        return [jobs for page in self.batch_rows.pages(NAME) for _, jobs in page]

    def first(self, row: int = 0) -> JobId:
        """Name the job that runs first in a row, by now."""
        return self.jobs()[row][0].job_id

    def states(self) -> list[str]:
        return [str(line["state"]) for line in report.lines(self.batch_rows, NAME)]

    def claim(self, job_id: JobId) -> None:
        event = Event(Source.WEBHOOK, body="{}")
        assert self.records.claim(job_id, event, now=time.time())

    def end(self, job_id: JobId, turn: Turn = Turn.FAIL) -> None:
        self.claim(job_id)
        fields = {"result": MADE} if turn is Turn.SUCCEED else {"error": FAILURE}
        options: dict[str, Any] = {"due_at": None, "retain_seconds": RETENTION}
        assert self.records.turn(job_id, turn, now=time.time(), fields=fields, **options)

    def begin_follow_up(self, job_id: JobId) -> None:
        headers = {BATCH_HEADER: NAME, PRIORITY_HEADER: "batch"}
        flow.enqueue(self.app, Plan("sonic.wav", {}, source="abc"), job_id=job_id, headers=headers)

    def forget(self, job_id: JobId) -> None:
        """Do as Redis does when a retention is over."""
        assert self.redis.delete(keys.job(job_id))

    def is_ended_by_the_sweep(self, job_id: JobId) -> bool:
        """Say whether the sweep will find that a job was cancelled, at once."""
        due_at = self.redis.zscore(keys.DUE, job_id)
        cancelled_by = self.readings.standing(job_id).cancelled_by
        return cancelled_by == "batch cancel" and due_at <= time.time()


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    server = EmbeddedValkey(tmp_path_factory.mktemp("ledger"))
    url = server.start()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FERMATA_REDIS_URL", url)
        patch.setenv("FERMATA_BROKER_URL", url)
        yield Desk(url)
    server.stop()


@pytest.fixture
def desk(opened: Desk) -> Desk:
    opened.redis.flushdb()
    return opened


def remaster(n: int, **more: Any) -> JSONObject:
    return {"operation": "sonic.remaster", "mv": "chirp-v5", "source": f"clip-{n}"} | more


def read(*rows: JSONObject) -> list[Row]:
    text = "\n".join(map(json.dumps, rows)).encode()
    return [
        row for row in manifest.read([text], form=manifest.Format.JSONL) if isinstance(row, Row)
    ]


def first_job(row: Row) -> JobId:
    return row_id(NAME, row)


# --- Cancelled. ---


def test_what_is_submitted_behind_a_cancellation_ends_with_the_rest(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = read(*map(remaster, range(60)))
    enqueue, numbers, found = desk.enqueue, itertools.count(1), []

    def cancel_at_the_fortieth(*args: Any, **options: Any) -> flow.Flow:
        if next(numbers) == 40:
            found.append(desk.cancel())
        return enqueue(*args, **options)

    monkeypatch.setattr(desk, "enqueue", cancel_at_the_fortieth)
    done = desk.submit(rows)

    assert (done.cancelled, desk.read().phase, found) == (True, Phase.CANCELLED, [39])
    states = [desk.readings.state(first_job(row)) for row in rows]
    assert states == [JobState.HELD] * 60
    assert all(desk.is_ended_by_the_sweep(first_job(row)) for row in rows)


def test_a_submission_stops_where_its_batch_was_cancelled(desk: Desk) -> None:
    rows = read(*map(remaster, range(150)))

    def cancelled_while_it_is_read() -> Iterator[Row]:
        yield from rows[:120]
        desk.cancel()
        yield from rows[120:]

    desk.open(rows)
    done = desk.runs.submit(NAME, cancelled_while_it_is_read())
    assert (done.cancelled, done.submitted, desk.read().jobs) == (True, 100, 100)


def test_a_follow_up_that_begins_behind_a_cancellation_ends_too(desk: Desk) -> None:
    rows = read(remaster(1, then="sonic.wav"))
    desk.submit(rows)
    parent, follow_up = (job.job_id for job in desk.jobs()[0])
    desk.claim(parent)
    assert desk.cancel() == 0
    desk.begin_follow_up(follow_up)
    assert desk.is_ended_by_the_sweep(follow_up)
    assert desk.read().jobs == 2


def test_a_follow_up_of_a_batch_that_goes_on_is_not_touched(desk: Desk) -> None:
    desk.submit(read(remaster(1, then="sonic.wav")))
    follow_up = desk.jobs()[0][1].job_id
    desk.begin_follow_up(follow_up)
    assert desk.readings.standing(follow_up).cancelled_by is None


def test_what_is_retried_while_its_batch_is_cancelled_ends_too(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = read(remaster(1))
    desk.submit(rows)
    desk.end(first_job(rows[0]))
    replace = Records.replace

    def cancelled_before_it(*args: Any, **options: Any) -> None:
        assert desk.cancel() == 0
        replace(*args, **options)

    monkeypatch.setattr(Records, "replace", cancelled_before_it)
    assert desk.retry().retried == 1
    assert desk.is_ended_by_the_sweep(desk.first())


def test_a_batch_of_which_all_jobs_have_succeeded_is_not_called_cancelled(desk: Desk) -> None:
    rows = read(*map(remaster, range(2)))
    desk.submit(rows, jobs=2)
    for row in rows:
        desk.end(first_job(row), Turn.SUCCEED)
    assert (desk.cancel(), desk.read().standing) == (0, "over")
    said = CliRunner().invoke(main, ["batch", "cancel", NAME])
    assert (said.exit_code, desk.read().standing) == (0, "over")
    assert said.stdout == f"batch {NAME}: 0 jobs cancelled (it is over already)\n"


def test_a_batch_that_is_cancelled_twice_is_cancelled_once(desk: Desk) -> None:
    rows = read(*map(remaster, range(3)))
    desk.submit(rows)
    assert (desk.cancel(), desk.cancel()) == (3, 0)
    found = desk.read()
    assert (found.phase, found.live, found.done) == (Phase.CANCELLED, 3, False)
    for row in rows:
        desk.end(first_job(row), Turn.CANCEL)
    found = desk.read()
    assert (found.ended[JobState.CANCELLED], found.done) == (3, True)


def test_a_batch_is_cancelled_slice_by_slice_from_where_the_last_one_ended(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = read(*map(remaster, range(450)))
    desk.submit(rows)
    monkeypatch.setattr(matching, "SLICE_SECONDS", 0.01)
    ending, cursors, done = 0, list[str](), desk.runs.cancel(NAME, by="a test")
    while done.cursor is not None:
        ending += done.ending
        assert ending + done.left.jobs == 450
        cursors.append(done.cursor)
        done = desk.runs.cancel(NAME, by="a test", cursor=done.cursor)
    assert ending + done.ending == 450
    assert len(set(cursors)) > 1
    assert all(desk.readings.standing(first_job(row)).cancelled_by for row in rows)


def test_a_tenants_batches_are_found_among_those_of_others(desk: Desk) -> None:
    for number in range(1_100):
        desk.ledger.open(
            f"b-{number:04}", now=time.time() + number, rows=1, expected_jobs=1, expected_credits=0
        )
        if number in {3, 1_050}:
            desk.redis.hset(keys.BATCH + f"b-{number:04}", "tenant:acme", "")
    assert [each.batch_id for each in desk.ledger.recent(5, tenant="acme")] == ["b-1050", "b-0003"]
    behind = desk.ledger.recent(5, tenant="acme", after="b-1050")
    assert [each.batch_id for each in behind] == ["b-0003"]
    assert desk.ledger.recent(5, tenant="globex") == []


def test_a_page_of_a_tenants_batches_does_not_read_all_of_them(desk: Desk) -> None:
    for number in range(400):
        name = f"b-{number:04}"
        desk.ledger.open(name, now=time.time(), rows=1, expected_jobs=1, expected_credits=0)
        desk.redis.hset(keys.BATCH + name, "tenant:acme", "")
    desk.redis.config_resetstat()
    assert len(desk.ledger.recent(5, tenant="acme")) == 5
    read: Any = desk.redis.info("commandstats")
    assert read["cmdstat_hgetall"]["calls"] <= 100


def test_a_cancelled_batch_is_opened_again_by_who_asks_for_it_alone(desk: Desk) -> None:
    opened: dict[str, Any] = {"now": time.time(), "rows": 1}
    opened |= {"expected_jobs": 1, "expected_credits": 1}
    assert desk.ledger.open(NAME, **opened)
    desk.cancel()
    assert not desk.ledger.open(NAME, **opened | {"rows": 2})
    assert (desk.read().phase, desk.read().rows) == (Phase.CANCELLED, 1)
    assert desk.ledger.open(NAME, **opened, again=True)
    assert desk.read().phase is Phase.SUBMITTING


# --- Known again. ---


def test_a_row_that_was_retried_is_not_bought_again_when_its_records_are_gone(desk: Desk) -> None:
    rows = read(remaster(1))
    desk.submit(rows)
    desk.end(first_job(rows[0]))
    assert desk.retry().retried == 1
    again = desk.first()
    desk.end(again, Turn.SUCCEED)
    assert desk.states() == ["succeeded"]
    desk.forget(first_job(rows[0]))
    desk.forget(again)
    assert (desk.submit(rows).submitted, desk.states()) == (0, ["forgotten"])


def test_a_row_with_a_key_is_that_row_however_it_is_edited(desk: Desk) -> None:
    for then in ("sonic.wav", "sonic.midi", "sonic.wav,sonic.midi"):
        rows = read(remaster(2), remaster(1, key="k", then=then))
        desk.submit(rows)
        found = [row for page in desk.batch_rows.pages(NAME) for row, _ in page if row.key]
        assert [(row.line, row.steps[1].operation) for row in found] == [(2, "sonic.wav")]
        if desk.readings.state(first_job(rows[1])):
            desk.end(first_job(rows[1]), Turn.SUCCEED)
            desk.forget(first_job(rows[1]))
    assert desk.readings.state(first_job(rows[1])) is None


def test_a_retried_batch_is_remembered_for_no_longer_and_no_shorter(desk: Desk) -> None:
    rows = read(remaster(1))
    desk.submit(rows)
    desk.end(first_job(rows[0]))
    desk.retry()
    for key in keys.OF_A_BATCH.values():
        assert REMEMBERED - 60 < desk.redis.ttl(key + NAME) <= REMEMBERED


def age(desk: Desk) -> None:
    for key in keys.OF_A_BATCH.values():
        desk.redis.expire(key + NAME, 100)


def remembered(desk: Desk) -> bool:
    return all(desk.redis.ttl(key + NAME) > REMEMBERED - 60 for key in keys.OF_A_BATCH.values())


def test_a_batch_is_remembered_from_when_the_last_of_its_jobs_began_or_ended(desk: Desk) -> None:
    rows = read(remaster(1, then="sonic.wav"))
    desk.submit(rows)
    age(desk)
    parent, follow_up = (job.job_id for job in desk.jobs()[0])
    desk.end(parent, Turn.SUCCEED)
    assert remembered(desk)
    age(desk)
    desk.begin_follow_up(follow_up)
    assert remembered(desk)


def test_a_batch_is_remembered_for_longer_than_its_rows_may_be_held(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FERMATA_RETENTION_SECONDS", "86400")
    opened = open_batches(load(Role.CLIENT))
    monkeypatch.setattr(desk, "ledger", opened.ledger)
    monkeypatch.setattr(desk, "runs", opened.runs)
    rows = read(remaster(1))
    desk.submit(rows)
    held_until = desk.readings.read(first_job(rows[0])).deadline_at
    assert time.time() + desk.redis.ttl(keys.ROW_JOBS + NAME) > held_until + 2 * 86400


# --- Retried. ---


def test_what_a_retry_replaces_counts_as_failed_no_more(desk: Desk) -> None:
    rows = read(remaster(1), remaster(2))
    desk.submit(rows)
    desk.end(first_job(rows[0]))
    assert desk.read().errors == {"TaskFailed": 1}
    desk.retry()
    found = desk.read()
    assert (found.jobs, found.live, found.ended[JobState.FAILED]) == (2, 2, 0)
    for row in range(2):
        desk.end(desk.first(row), Turn.SUCCEED)
    found = desk.read()
    assert (found.jobs, found.live, found.errors, found.done) == (2, 0, {}, True)
    assert {state for state, count in found.ended.items() if count} == {JobState.SUCCEEDED}


def test_a_job_that_is_retried_alone_is_counted_by_its_batch(desk: Desk) -> None:
    rows = read(remaster(1), remaster(2))
    desk.submit(rows)
    for row in rows:
        desk.end(first_job(row))
    retries = open_retries(load(Role.CLIENT))
    again = {retries.retry(first_job(rows[0]), by="a test") for _ in range(2)}
    assert again == {desk.first()}
    assert (desk.read().errors, desk.read().live) == ({"TaskFailed": 1}, 1)
    assert desk.states() == ["held", "failed"]
    assert next(report.lines(desk.batch_rows, NAME))["job_id"] in again
    retries.close()


def test_what_is_retried_by_many_at_once_is_enqueued_and_counted_once(desk: Desk) -> None:
    rows = read(*map(remaster, range(30)))
    desk.submit(rows)
    for row in rows:
        desk.end(first_job(row))
    retries = open_retries(load(Role.CLIENT))
    alone = [functools.partial(retries.retry, first_job(row), by="a test") for row in rows]
    many: list[Callable[[], object]] = [desk.retry, *alone, desk.retry, desk.retry]
    with ThreadPoolExecutor(6) as pool:
        for each in [pool.submit(each) for each in many]:
            each.result()
    found = desk.read()
    assert (found.jobs, found.live, found.errors) == (30, 30, {})
    assert (desk.states(), desk.redis.zcard(keys.JOBS)) == (["held"] * 30, 60)
    retries.close()


def test_a_retry_is_found_for_as_long_as_its_batch_is_remembered(desk: Desk) -> None:
    rows = read(remaster(1))
    desk.submit(rows)
    desk.end(first_job(rows[0]))
    desk.retry()
    for key in (keys.job(first_job(rows[0])), keys.timeline(first_job(rows[0]))):
        assert REMEMBERED - 60 < desk.redis.ttl(key) <= REMEMBERED


def test_a_follow_up_is_retried_although_what_it_works_on_is_forgotten(desk: Desk) -> None:
    rows = read(remaster(1, then="sonic.wav"), remaster(2))
    desk.submit(rows)
    parent, follow_up = (job.job_id for job in desk.jobs()[0])
    desk.end(parent, Turn.SUCCEED)
    desk.begin_follow_up(follow_up)
    desk.end(follow_up)
    desk.end(first_job(rows[1]))
    desk.forget(parent)
    assert desk.retry().retried == 2
    assert [job.state for jobs in desk.jobs() for job in jobs] == [None, "held", "held"]


def test_a_job_whose_retry_is_forgotten_is_not_bought_again(desk: Desk) -> None:
    rows = read(remaster(1))
    desk.submit(rows)
    desk.end(first_job(rows[0]))
    desk.retry()
    again = desk.first()
    desk.end(again, Turn.SUCCEED)
    desk.forget(again)
    retries = open_retries(load(Role.CLIENT))
    for even_if_paid in (False, True):
        with pytest.raises(NotRetried, match="past its retention"):
            retries.retry(first_job(rows[0]), by="a test", even_if_paid=even_if_paid)
        done = retries.retry_flow(first_job(rows[0]), by="a test", even_if_paid=even_if_paid)
        assert (done.jobs, len(done.refused)) == ({}, 1)
    assert desk.readings.state(again) is None
    retries.close()


def test_a_song_that_came_while_its_job_ran_again_is_not_bought_again(desk: Desk) -> None:
    rows = read(remaster(1))
    desk.submit(rows)
    desk.end(first_job(rows[0]))
    desk.retry()
    keep_late(desk, first_job(rows[0]), completed())
    desk.end(desk.first())
    done = desk.retry(even_if_paid=True)
    assert (done.retried, done.refused) == (0, {INSTEAD_CAME_LATE: 1})


def test_a_retry_that_dies_before_it_names_the_new_job_is_made_good_by_the_next(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = read(remaster(1))
    desk.submit(rows)
    desk.end(first_job(rows[0]))
    recorded = []

    def die(_: Records, __: JobId, *, by: JobId, **___: Any) -> None:
        recorded.append(by)
        raise ConnectionError

    with monkeypatch.context() as patch:
        patch.setattr(Records, "replace", die)
        with pytest.raises(ConnectionError):
            desk.retry()
    # It runs, although the row does not name it; and it fails.
    desk.end(recorded[0])
    done = desk.retry()
    assert (done.retried, done.refused.total()) == (1, 1)
    found = desk.read()
    assert (desk.states(), found.jobs, found.live, found.errors) == (["held"], 1, 1, {})
    assert desk.retry().refused == {}


def test_what_the_version_before_retried_is_taken_off_the_counters_once(desk: Desk) -> None:
    rows = read(remaster(1))
    desk.submit(rows)
    desk.end(first_job(rows[0]))
    desk.retry()
    again = desk.first()
    # That version named the new job in the row, and on no record.
    row = desk.redis.hget(keys.ROW_JOBS + NAME, first_job(rows[0]))
    desk.redis.hset(
        keys.ROW_JOBS + NAME, first_job(rows[0]), row.replace(first_job(rows[0]), again)
    )
    desk.redis.hdel(keys.job(first_job(rows[0])), "again")
    desk.redis.hdel(keys.job(again), "instead_of")
    before = desk.read()
    desk.retry()
    assert desk.read() == before
    desk.end(again, Turn.SUCCEED)
    desk.retry()
    found = desk.read()
    assert (found.jobs, found.ended[JobState.FAILED], found.done) == (1, 0, True)


def sent(desk: Desk, job_id: JobId) -> None:
    """Do as if a job had been sent to the provider, which said nothing of a refund."""
    desk.redis.hset(keys.job(job_id), mapping={"attempts": 1, "cost": 10_000})


def test_what_may_be_paid_is_retried_only_if_that_is_accepted(desk: Desk) -> None:
    rows = read(remaster(1), remaster(2))
    desk.submit(rows)
    for row in rows:
        desk.end(first_job(row))
    sent(desk, first_job(rows[0]))
    desk.redis.hset(keys.job(first_job(rows[0])), "error", json.dumps(UNCONFIRMED))
    done = desk.retry()
    assert (done.retried, done.refused) == (1, {PERHAPS_PAID: 1})
    assert desk.states() == ["failed", "held"]
    assert desk.retry(even_if_paid=True).retried == 1
    assert desk.states() == ["held", "held"]


def keep_late(desk: Desk, job_id: JobId, body: JSONObject) -> None:
    late: JSONObject = {"at": time.time(), "final": True, "body": json.dumps(body)}
    assert desk.records.keep_late(
        job_id, late, now=time.time(), why="webhook", retain_seconds=RETENTION
    )


def test_what_came_late_is_not_bought_again_and_stands_in_the_report(desk: Desk) -> None:
    rows = read(*map(remaster, range(2)))
    desk.submit(rows)
    for row in rows:
        desk.end(first_job(row))
    song = {"clip_id": "late", "state": "succeeded", "audio_url": "https://example.com/a.mp3"}
    keep_late(desk, first_job(rows[0]), completed(data=[song]))
    keep_late(desk, first_job(rows[1]), completed(data=[]))

    lines = list(report.lines(desk.batch_rows, NAME))
    assert [(line["state"], line["late"], line["credits"]) for line in lines] == [
        ("failed", True, 10), ("failed", False, 0),
    ]  # fmt: skip
    assert lines[0]["urls"] == ["https://example.com/a.mp3"]
    done = desk.retry()
    late = "its result came late, and is on its record"
    # The second one came late without a song. The provider may have charged all the same.
    assert (done.retried, done.refused) == (0, {late: 1, PERHAPS_PAID: 1})
    assert desk.retry(even_if_paid=True).refused == {late: 1}
    assert desk.states() == ["failed", "held"]


def test_a_submission_that_broke_off_is_not_done_after_a_retry(desk: Desk) -> None:
    rows = read(*map(remaster, range(5)))
    desk.open(rows)
    desk.runs.submit_page(NAME, rows[:1])
    desk.end(first_job(rows[0]))
    desk.retry()
    desk.end(desk.first(), Turn.SUCCEED)
    assert (desk.read().phase, desk.read().done) == (Phase.SUBMITTING, False)


def test_a_cancelled_batch_goes_on_when_it_is_retried(desk: Desk) -> None:
    rows = read(remaster(1))
    desk.submit(rows)
    desk.cancel()
    desk.end(first_job(rows[0]), Turn.CANCEL)
    desk.retry()
    again = desk.first()
    assert (desk.read().phase, desk.read().live) == (Phase.SUBMITTED, 1)
    assert desk.readings.standing(again).cancelled_by is None


def test_a_batch_that_is_cancelled_while_it_is_retried_stays_cancelled(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(matching, "SLICE_SECONDS", 0)
    rows = read(*map(remaster, range(3)))
    desk.submit(rows)
    for row in rows:
        desk.end(first_job(row))
    first = desk.retry()
    assert (first.retried, first.left.jobs) == (1, 2)
    desk.cancel()
    second = desk.retry(cursor=first.cursor)
    assert (second.retried, second.refused.total(), second.left.jobs) == (0, 1, 1)
    assert desk.read().phase is Phase.CANCELLED


# --- Traced. ---


def test_each_row_begins_a_trace_of_its_own_linked_to_the_submission(desk: Desk) -> None:
    rows = read(*map(remaster, range(3)))
    with in_memory() as written, tracing.root("a submission"):
        desk.submit(rows)
        submission = tracing.trace_id()

    spans = [span for span in written.get_finished_spans() if span.name == "row"]
    links = [f"{link.context.trace_id:032x}" for span in spans for link in span.links]
    assert links == [submission] * 3
    traces = {desk.readings.read(first_job(row)).trace_id for row in rows}
    assert len(traces - {submission, None}) == 3
