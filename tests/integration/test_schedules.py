"""Batches on a cron line: fired by a real beat, and by two of them only once."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from tests.system import System, wait_until
from worker import bootstrap
from worker.core import keys
from worker.core.timetable import Schedule
from worker.settings import Role, load
from worker.timetable import Timetable

# Each look at the timetable opens clients of its own, which end with it.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

ROWS = 12
TIMETABLE = """
[[schedule]]
name = "minutely"
cron = "* * * * *"
manifest = "songs.jsonl"
overlap = "{overlap}"
"""


def manifest(rows: int) -> str:
    row = {"operation": "sonic.remaster", "mv": "chirp-v5"}
    source = "26c9c592-0566-46cf-bb71-{:012d}"
    lines = (json.dumps(row | {"source": source.format(n), "key": f"k{n}"}) for n in range(rows))
    return "\n".join(lines)


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    folder = tmp_path_factory.mktemp("schedules")
    timetable = folder / "timetable.toml"
    timetable.write_text(TIMETABLE.format(overlap="queue"))
    (folder / "songs.jsonl").write_text(manifest(ROWS))
    with System(folder / "system", FERMATA_TIMETABLE=str(timetable)) as system:
        system.worker()
        yield system


def beat(system: System, name: str) -> subprocess.Popen[bytes]:
    schedule = str(system.folder / f"{name}.db")
    return system.run(name, "-m", "celery", "-A", "worker.app", "beat", "--schedule", schedule)


def batches(system: System) -> list[dict[str, Any]]:
    command = [sys.executable, "-m", "worker", "batch", "list", "--json"]
    done = subprocess.run(
        command, check=True, env=system.environment, cwd=system.folder, capture_output=True
    )
    found: list[dict[str, Any]] = json.loads(done.stdout or "[]")
    return found


@pytest.mark.timeout(240)
def test_two_beats_fire_a_schedule_once_on_each_of_its_minutes(system: System) -> None:
    """It waits for real minutes: that a schedule keeps to them is the fact."""
    for name in ("beat-1", "beat-2"):
        beat(system, name)

    ended = lambda: [each for each in batches(system) if each["done"]]  # noqa: E731
    wait_until(lambda: len(ended()) >= 1, seconds=150, what="a minute's batch has ended")

    for each in ended():
        minute = datetime.strptime(each["batch_id"], "minutely-%Y%m%dT%H%MZ").replace(tzinfo=UTC)
        assert 0 <= each["created_at"] - minute.timestamp() < 60
        assert (each["rows"], each["jobs"], each["ended"]["succeeded"]) == (ROWS, ROWS, ROWS)
    minutes = {each["batch_id"] for each in batches(system)}
    assert len(system.simulator.books()["tasks"]) <= ROWS * len(minutes)


class Lab:
    """A timetable whose clock, and whose messages, are in the test's hand."""

    def __init__(self, system: System, folder: Path) -> None:
        self.now = datetime(2026, 11, 23, 2, 0, 5, tzinfo=UTC).timestamp()
        self.published: list[tuple[str, str, int]] = []
        self.folder = folder
        self.redis = Redis.from_url(system.redis_url, decode_responses=True)

    def opened(self) -> Timetable:
        os.environ["FERMATA_TIMETABLE"] = str(self.folder / "timetable.toml")
        opened = bootstrap.open_timetable(load(Role.CLIENT))
        opened._clock = lambda: self.now
        return opened

    def publish(self, *message: Any) -> None:
        self.published.append(message)

    def tick(self) -> None:
        self.opened().tick(self.publish)

    def has_run(self, batch_id: str) -> None:
        self.redis.hdel(keys.SCHEDULE + "lab", f"running:{batch_id}")

    def last(self) -> str:
        timetable = self.opened()
        last = timetable.last(timetable.schedules["lab"])
        return last.outcome if last else ""

    def missed(self) -> str | None:
        return self.redis.hget(keys.SCHEDULE + "lab", "missed")


@pytest.fixture
def lab(
    system: System, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Lab]]:
    for name, value in system.environment.items():
        monkeypatch.setenv(name, value)

    opened: list[Lab] = []

    def open_lab(overlap: str = "skip", rows: str = manifest(3)) -> Lab:
        text = TIMETABLE.format(overlap=overlap).replace("minutely", "lab")
        (tmp_path / "timetable.toml").write_text(text.replace("* * * * *", "*/10 * * * *"))
        (tmp_path / "songs.jsonl").write_text(rows)
        opened.append(Lab(system, tmp_path))
        opened[-1].tick()
        for _, batch_id, _ in opened[-1].published:
            opened[-1].has_run(batch_id)
        opened[-1].published.clear()
        return opened[-1]

    yield open_lab
    for each in opened:
        for key in each.redis.scan_iter(f"{keys.SCHEDULE}lab*"):
            each.redis.delete(key)
        for key in each.redis.scan_iter(f"{keys.BATCH}lab*"):
            each.redis.delete(key)
        each.redis.close()


def test_a_tick_that_comes_twice_starts_a_run_once(lab: Callable[..., Lab]) -> None:
    timetable = lab()
    timetable.now += 600
    timetable.tick()
    timetable.tick()
    assert timetable.published == [("lab", "lab-20261123T0210Z", 0)]


def test_after_an_absence_the_last_run_begins_and_those_before_it_are_missed(
    lab: Callable[..., Lab],
) -> None:
    timetable = lab()
    timetable.now += 1800
    timetable.tick()
    assert timetable.published == [("lab", "lab-20261123T0230Z", 0)]
    assert timetable.missed() == "2"


def test_a_run_that_could_begin_only_much_too_late_is_missed(lab: Callable[..., Lab]) -> None:
    timetable = lab()
    (timetable.folder / "timetable.toml").write_text(
        '[[schedule]]\nname="lab"\ncron="10 2 * * *"\nmanifest="songs.jsonl"\n'
    )
    timetable.now += 2 * 3600
    timetable.tick()
    assert (timetable.published, timetable.missed()) == ([], "1")


@pytest.mark.parametrize(("overlap", "runs"), [("skip", 1), ("queue", 2)])
def test_a_run_that_overlaps_is_skipped_or_queued_by_choice(
    lab: Callable[..., Lab], overlap: str, runs: int
) -> None:
    timetable = lab(overlap)
    timetable.now += 600
    timetable.tick()
    # The batch is open, its rows are submitted, and not all of them have ended.
    timetable.has_run("lab-20261123T0210Z")
    timetable.redis.hset(
        keys.BATCH + "lab-20261123T0210Z",
        mapping={
            "phase": "submitting", "created_at": 1, "rows": 3,
            "expected_jobs": 3, "expected_credits": 3,
        },
    )  # fmt: skip
    timetable.now += 600
    timetable.tick()
    assert len(timetable.published) == runs
    assert ("skipped: lab-20261123T0210Z" in timetable.last()) is (runs == 1)


def test_a_wrong_manifest_is_reported_with_its_line_and_nothing_is_submitted(
    lab: Callable[..., Lab],
) -> None:
    timetable = lab(rows=manifest(2) + '\n{"operation": "sonic.remaster"}')
    timetable.opened().submit_slice("lab", "lab-wrong", 0, timetable.publish)
    assert timetable.last().startswith("not submitted: songs.jsonl, line 3")
    assert not timetable.redis.exists(keys.BATCH + "lab-wrong", keys.ROWS + "lab-wrong")


def test_a_run_whose_message_was_lost_goes_on(lab: Callable[..., Lab]) -> None:
    timetable = lab()
    timetable.now += 600
    timetable.tick()
    timetable.published.clear()
    timetable.now += 301
    timetable.tick()
    assert timetable.published == [("lab", "lab-20261123T0210Z", 0)]


def test_slices_that_overlap_submit_each_row_once(lab: Callable[..., Lab], system: System) -> None:
    timetable = lab()
    batch = f"lab-{int(time.time())}"
    opened = timetable.opened()
    for behind in (0, 0, 2):
        opened.submit_slice("lab", batch, behind, timetable.publish)
    ledger, _ = bootstrap.open_batches(load(Role.CLIENT))
    wait_until(lambda: ledger.read(batch).done, seconds=30)
    assert ledger.read(batch).jobs == 3
    assert timetable.last() == "submitted 3 rows"


def test_a_tick_that_dies_over_a_run_leaves_it_to_the_next(lab: Callable[..., Lab]) -> None:
    timetable = lab()
    timetable.now += 600

    def dies(*_: Any) -> None:
        raise SystemExit

    with pytest.raises(SystemExit):
        timetable.opened().tick(dies)
    claim = f"{keys.SCHEDULE}lab:20261123T0210Z"
    assert 0 < timetable.redis.ttl(claim) <= 50
    timetable.redis.delete(claim)  # as when its time is over
    timetable.tick()
    assert timetable.published == [("lab", "lab-20261123T0210Z", 0)]


def test_ticks_at_once_start_one_run(lab: Callable[..., Lab]) -> None:
    timetable = lab()
    timetable.now += 600
    together = threading.Barrier(8)

    def tick(opened: Timetable) -> None:
        together.wait()
        opened.tick(timetable.publish)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(tick, [timetable.opened() for _ in range(8)]))
    assert timetable.published == [("lab", "lab-20261123T0210Z", 0)]


def test_a_run_whose_message_waits_in_its_queue_is_not_overtaken(lab: Callable[..., Lab]) -> None:
    timetable = lab()
    for _ in range(2):
        timetable.now += 600
        timetable.tick()
    assert {batch for _, batch, _ in timetable.published} == {"lab-20261123T0210Z"}
    assert timetable.last().startswith("skipped")


def test_a_run_that_fell_silent_is_woken_whatever_was_skipped_since(
    lab: Callable[..., Lab],
) -> None:
    timetable = lab()
    for _ in range(3):
        timetable.now += 600
        timetable.tick()
        timetable.published, before = [], timetable.published
        assert before == [("lab", "lab-20261123T0210Z", 0)]


def test_a_cancelled_run_submits_no_more_rows(lab: Callable[..., Lab]) -> None:
    timetable = lab()
    opened, batch = timetable.opened(), f"lab-{int(time.time())}"
    opened.submit_slice("lab", batch, 3, timetable.publish)
    ledger, _ = bootstrap.open_batches(load(Role.CLIENT))
    ledger.open(batch, now=timetable.now, rows=3, expected_jobs=3, expected_credits=30)
    ledger.cancel(batch)
    for behind in (0, 1):
        opened.submit_slice("lab", batch, behind, timetable.publish)
    assert (timetable.last(), ledger.is_cancelled(batch)) == ("cancelled", True)
    assert ledger.read(batch).jobs == 0


def test_a_run_that_is_cancelled_while_its_manifest_is_read_stays_cancelled(
    lab: Callable[..., Lab], monkeypatch: pytest.MonkeyPatch
) -> None:
    timetable = lab()
    opened, batch = timetable.opened(), f"lab-{int(time.time())}"
    ledger, runs = bootstrap.open_batches(load(Role.CLIENT))
    ledger.open(batch, now=timetable.now, rows=3, expected_jobs=3, expected_credits=30)
    read = opened._rows

    def cancelled_meanwhile(schedule: Schedule) -> Iterator[Any]:
        runs.cancel(batch, by="batch cancel")
        yield from read(schedule)

    monkeypatch.setattr(opened, "_rows", cancelled_meanwhile)
    opened.submit_slice("lab", batch, 0, timetable.publish)
    assert (timetable.last(), ledger.is_cancelled(batch)) == ("cancelled", True)
    assert (ledger.read(batch).jobs, timetable.published) == (0, [])


def test_a_manifest_that_turns_wrong_ends_its_run_and_not_its_schedule(
    lab: Callable[..., Lab],
) -> None:
    timetable = lab()
    timetable.now += 600
    timetable.tick()
    ledger, _ = bootstrap.open_batches(load(Role.CLIENT))
    first = "lab-20261123T0210Z"
    ledger.open(first, now=timetable.now, rows=3, expected_jobs=0, expected_credits=0)
    (timetable.folder / "songs.jsonl").write_text("no row")
    timetable.opened().submit_slice("lab", first, 0, timetable.publish)
    assert timetable.last().startswith("not submitted")

    timetable.now += 600
    timetable.tick()
    assert timetable.published[-1] == ("lab", "lab-20261123T0220Z", 0)
