"""Batches on a cron line: fired by a real beat, and by two of them only once."""

import contextlib
import json
import os
import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from signal import SIGCONT, SIGSTOP
from typing import Any

import pytest
from redis import Redis

from tests.acceptance.test_cli import fermata
from tests.launcher import Started
from tests.system import System, stop, wait_until
from worker.batch import Ledger, Runs
from worker.batch.timetable import Journal, Slices, Timetable, slices
from worker.batch.timetable.manifest_file import ManifestFile
from worker.core import keys
from worker.core.errors import InvalidRequest
from worker.settings import Role, Settings, load
from worker.wiring.batches import open_batches, open_slices, open_timetable

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


def beat(system: System, name: str) -> Started:
    schedule = str(system.folder / f"{name}.db")
    return system.run(name, "-m", "celery", "-A", "worker.app", "beat", "--schedule", schedule)


def batches(system: System) -> list[dict[str, Any]]:
    done = system.fermata("batch", "list", "--json")
    assert done.returncode == 0, done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout or "[]")
    return found


@pytest.mark.timeout(240)
def test_two_beats_fire_a_schedule_once_on_each_of_its_minutes(system: System) -> None:
    """It waits for real minutes: that a schedule keeps to them is the fact."""
    for name in ("beat-1", "beat-2"):
        beat(system, name)

    def ended() -> list[dict[str, Any]]:
        return [each for each in batches(system) if each["done"]]

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
        self.published: list[tuple[str, str, str]] = []
        self.folder = folder
        self.redis = Redis.from_url(system.redis_url, decode_responses=True)
        self.journal = Journal(self.redis, lambda: self.now)

    def timetable(self) -> Timetable:
        return open_timetable(self.settings(), lambda: self.now)

    def slices(self) -> Slices:
        return open_slices(self.settings(), lambda: self.now)

    def settings(self) -> Settings:
        os.environ["FERMATA_TIMETABLE"] = str(self.folder / "timetable.toml")
        return load(Role.CLIENT)

    def publish(self, *message: Any) -> None:
        self.published.append(message)

    def tick(self) -> None:
        self.timetable().tick(self.publish)

    def begin(self) -> str:
        """Begin a run of its own; its first message is published."""
        batch_id = f"lab-{uuid.uuid4()}"
        self.journal.begin("lab", batch_id)
        self.publish("lab", batch_id, "")
        return batch_id

    def take(self) -> None:
        """Submit the slice whose message was published first."""
        self.slices().submit(*self.published.pop(0), self.publish)

    def take_all(self) -> None:
        while self.published:
            self.take()

    def write(self, rows: str) -> None:
        (self.folder / "songs.jsonl").write_text(rows)

    def ledger(self) -> Ledger:
        return open_batches(load(Role.CLIENT)).ledger

    def has_run(self, batch_id: str) -> None:
        self.journal.over("lab", batch_id, "")

    def last(self) -> str:
        latest = self.journal.latest("lab")
        return latest[0].outcome if latest else ""

    def missed(self) -> Any:
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
        opened.append(Lab(system, tmp_path))
        opened[-1].write(rows)
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
    assert timetable.published == [("lab", "lab-20261123T0210Z", "")]


def test_after_an_absence_the_last_run_begins_and_those_before_it_are_missed(
    lab: Callable[..., Lab],
) -> None:
    timetable = lab()
    timetable.now += 1800
    timetable.tick()
    assert timetable.published == [("lab", "lab-20261123T0230Z", "")]
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


@pytest.mark.parametrize("overlap", ["skip", "queue"])
def test_a_run_by_hand_is_refused_if_it_would_be_skipped(
    lab: Callable[..., Lab], overlap: str
) -> None:
    nightly = lab(overlap)
    first = nightly.timetable().run_now("lab", nightly.publish)
    nightly.now += 119  # another minute
    assert nightly.timetable().run_now("lab", nightly.publish) == first
    assert nightly.published == [("lab", first, "")]
    nightly.now += 1
    refused = contextlib.nullcontext()
    if overlap == "skip":
        refused = pytest.raises(InvalidRequest, match=f"{first} has not ended")  # type: ignore[assignment]
    with refused:
        assert nightly.timetable().run_now("lab", nightly.publish) != first


def test_a_run_by_hand_that_was_cancelled_is_not_said_to_begin(lab: Callable[..., Lab]) -> None:
    nightly = lab("queue")
    first = nightly.timetable().run_now("lab", nightly.publish)
    nightly.take_all()
    nightly.ledger().cancel(first)
    nightly.now += 119
    with pytest.raises(InvalidRequest, match=f"{first} was cancelled"):
        nightly.timetable().run_now("lab", nightly.publish)
    assert nightly.published == []
    nightly.now += 1
    assert nightly.timetable().run_now("lab", nightly.publish) != first


def test_people_who_ask_for_a_run_at_once_get_one(lab: Callable[..., Lab]) -> None:
    nightly = lab("queue")
    timetables = [nightly.timetable() for _ in range(8)]
    with ThreadPoolExecutor(8) as people:
        runs = set(people.map(lambda each: each.run_now("lab", lambda *_: None), timetables))
    nightly.now += 60
    assert {nightly.timetable().run_now("lab", nightly.publish)} == runs


def test_a_run_that_was_asked_for_and_never_began_begins(lab: Callable[..., Lab]) -> None:
    nightly = lab()
    nightly.journal.ask_for("lab", "lab-before", within_seconds=120)
    assert nightly.timetable().run_now("lab", nightly.publish) == "lab-before"
    assert nightly.published == [("lab", "lab-before", "")]


def test_the_latest_ten_runs_are_told_the_newest_first(lab: Callable[..., Lab]) -> None:
    nightly = lab()
    for number in range(12):
        nightly.has_run(f"lab-{number:02}")
    nightly.journal.note("lab", "lab-05", "submitted 3 rows")
    latest = [run.batch_id for run in nightly.journal.latest("lab")]
    assert latest == ["lab-05", *(f"lab-{n:02}" for n in range(11, 1, -1) if n != 5)]
    [described] = map(nightly.timetable().describe, nightly.timetable().schedules.values())
    assert [run["batch_id"] for run in described["outcomes"]] == latest
    assert described["last_outcome"] == "submitted 3 rows"


def test_a_wrong_manifest_is_reported_with_its_line_and_nothing_is_submitted(
    lab: Callable[..., Lab],
) -> None:
    timetable = lab(rows=manifest(2) + '\n{"operation": "sonic.remaster"}')
    batch = timetable.begin()
    timetable.take()
    assert timetable.last().startswith("not submitted: songs.jsonl, line 3")
    assert not timetable.redis.exists(keys.BATCH + batch, keys.ROWS + batch)


def test_a_run_whose_message_was_lost_goes_on(lab: Callable[..., Lab]) -> None:
    timetable = lab()
    timetable.now += 600
    timetable.tick()
    timetable.published.clear()
    timetable.now += 301
    timetable.tick()
    assert timetable.published == [("lab", "lab-20261123T0210Z", "")]


def test_slices_that_overlap_submit_each_row_once(lab: Callable[..., Lab], system: System) -> None:
    timetable = lab()
    batch = timetable.begin()
    timetable.published *= 2
    timetable.take_all()
    ledger = timetable.ledger()
    wait_until(lambda: ledger.read(batch).done, seconds=30)
    assert ledger.read(batch).jobs == 3
    assert timetable.last() == "submitted 3 rows"


def test_a_tick_that_dies_over_a_run_leaves_it_to_the_next(lab: Callable[..., Lab]) -> None:
    timetable = lab()
    timetable.now += 600

    def dies(*_: Any) -> None:
        raise SystemExit

    with pytest.raises(SystemExit):
        timetable.timetable().tick(dies)
    claim = f"{keys.SCHEDULE}lab:20261123T0210Z"
    assert 0 < timetable.redis.ttl(claim) <= 50
    timetable.redis.delete(claim)  # as when its time is over
    timetable.tick()
    assert timetable.published == [("lab", "lab-20261123T0210Z", "")]


def test_ticks_at_once_start_one_run(lab: Callable[..., Lab]) -> None:
    timetable = lab()
    timetable.now += 600
    together = threading.Barrier(8)

    def tick(opened: Timetable) -> None:
        together.wait()
        opened.tick(timetable.publish)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(tick, [timetable.timetable() for _ in range(8)]))
    assert timetable.published == [("lab", "lab-20261123T0210Z", "")]


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
        assert before == [("lab", "lab-20261123T0210Z", "")]


def test_a_cancelled_run_submits_no_more_rows(lab: Callable[..., Lab]) -> None:
    timetable = lab()
    batch, ledger = timetable.begin(), timetable.ledger()
    ledger.open(batch, now=timetable.now, rows=3, expected_jobs=3, expected_credits=30)
    ledger.cancel(batch)
    timetable.take_all()
    assert (timetable.last(), ledger.is_cancelled(batch)) == ("cancelled", True)
    assert ledger.read(batch).jobs == 0


def test_a_run_that_is_cancelled_while_its_manifest_is_read_stays_cancelled(
    lab: Callable[..., Lab], monkeypatch: pytest.MonkeyPatch
) -> None:
    timetable = lab()
    batch, opened = timetable.begin(), open_batches(load(Role.CLIENT))
    ledger = opened.ledger
    ledger.open(batch, now=timetable.now, rows=3, expected_jobs=3, expected_credits=30)
    read = ManifestFile.rows

    def cancelled_meanwhile(file: ManifestFile) -> Iterator[Any]:
        opened.runs.cancel(batch, by="batch cancel")
        yield from read(file)

    monkeypatch.setattr(ManifestFile, "rows", cancelled_meanwhile)
    timetable.take()
    assert (timetable.last(), ledger.is_cancelled(batch)) == ("cancelled", True)
    assert ledger.read(batch).jobs == 0


def test_a_manifest_that_turns_wrong_ends_its_run_and_not_its_schedule(
    lab: Callable[..., Lab],
) -> None:
    timetable = lab()
    timetable.now += 600
    timetable.tick()
    ledger, first = timetable.ledger(), "lab-20261123T0210Z"
    ledger.open(first, now=timetable.now, rows=3, expected_jobs=0, expected_credits=0)
    timetable.write("no row")
    timetable.take()
    assert timetable.last().startswith("not submitted")

    timetable.now += 600
    timetable.tick()
    assert timetable.published[-1] == ("lab", "lab-20261123T0220Z", "")


@pytest.fixture
def small_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two rows fit into a slice."""
    monkeypatch.setattr(slices, "_PAGE", 2)
    monkeypatch.setattr(slices, "SLICE_SECONDS", -1)


@pytest.mark.usefixtures("small_slices")
def test_rows_taken_out_of_a_manifest_behind_a_run_take_no_others_with_them(
    lab: Callable[..., Lab],
) -> None:
    nightly = lab(rows=manifest(5))
    batch = nightly.begin()
    nightly.take()
    nightly.write("\n".join(manifest(5).splitlines()[2:]))
    nightly.take_all()

    assert nightly.last() == "submitted 3 rows of a manifest that was changed meanwhile"
    ledger = nightly.ledger()
    wait_until(lambda: ledger.read(batch).done, seconds=30)
    assert (ledger.read(batch).jobs, ledger.read(batch).rows) == (5, 3)


def test_a_manifest_that_is_edited_while_a_slice_reads_it_is_submitted_as_it_is_then(
    lab: Callable[..., Lab], monkeypatch: pytest.MonkeyPatch
) -> None:
    nightly, submit_page = lab(), Runs.submit_page
    batch = nightly.begin()

    def edited_meanwhile(*arguments: Any) -> int:
        nightly.write(manifest(4))
        return submit_page(*arguments)

    monkeypatch.setattr(Runs, "submit_page", edited_meanwhile)
    nightly.take_all()

    assert nightly.last() == "submitted 4 rows of a manifest that was changed meanwhile"
    ledger = nightly.ledger()
    wait_until(lambda: ledger.read(batch).done, seconds=30)
    assert ledger.read(batch).jobs == 4


@pytest.mark.usefixtures("small_slices")
@pytest.mark.parametrize("wrong", [manifest(4) + "\nno row", None], ids=["wrong", "gone"])
def test_a_manifest_that_turns_wrong_behind_a_run_is_told(
    lab: Callable[..., Lab], wrong: str | None
) -> None:
    nightly = lab(rows=manifest(5))
    batch = nightly.begin()
    nightly.take()
    if wrong:
        nightly.write(wrong)
    else:
        (nightly.folder / "songs.jsonl").unlink()
    nightly.take_all()

    why = "songs.jsonl, line 5" if wrong else "the manifest cannot be read"
    assert nightly.last().startswith(f"not submitted any further: {why}")
    ledger = nightly.ledger()
    wait_until(lambda: ledger.read(batch).done, seconds=30)
    assert ledger.read(batch).jobs == 2


def test_a_copy_of_a_message_that_comes_after_its_run_submits_nothing(
    lab: Callable[..., Lab],
) -> None:
    nightly = lab()
    batch, copies = nightly.begin(), [*nightly.published]
    nightly.take_all()
    nightly.write(manifest(4))
    nightly.published = copies
    nightly.take_all()

    assert nightly.last() == "submitted 3 rows"
    ledger = nightly.ledger()
    wait_until(lambda: ledger.read(batch).done, seconds=30)
    assert ledger.read(batch).jobs == 3


def test_a_worker_that_lost_its_timetable_ends_the_batch_that_it_had_begun(
    lab: Callable[..., Lab], small_slices: None
) -> None:
    nightly = lab(rows=manifest(5))
    batch = nightly.begin()
    nightly.take()
    text = (nightly.folder / "timetable.toml").read_text()
    (nightly.folder / "timetable.toml").write_text("[[schedule")
    nightly.take()
    (nightly.folder / "timetable.toml").write_text(text)

    assert nightly.last().startswith("not submitted any further: on the worker, the timetable is")
    ledger = nightly.ledger()
    wait_until(lambda: ledger.read(batch).done, seconds=30, what="its two rows have ended")


@pytest.fixture(scope="module")
def apart(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """A system whose broker stays when its Redis does not, and that has no worker yet."""
    folder = tmp_path_factory.mktemp("apart")
    (folder / "timetable.toml").write_text(TIMETABLE.format(overlap="skip"))
    (folder / "songs.jsonl").write_text(manifest(ROWS))
    with System(folder / "system", rabbitmq=True, FERMATA_REDIS_TIMEOUT_SECONDS="1") as system:
        yield system


def schedules(system: System, *arguments: str) -> str:
    timetable = str(system.folder.parent / "timetable.toml")
    ran = fermata(system, "schedules", *arguments, FERMATA_TIMETABLE=timetable)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def last_run(system: System) -> tuple[str, str]:
    """The batch and the outcome that the list tells."""
    [listed] = json.loads(schedules(system, "list", "--json"))
    return listed["last_batch"], listed["last_outcome"]


def test_a_worker_on_rabbitmq_without_a_timetable_is_told_in_the_list(apart: System) -> None:
    worker = apart.worker("astray")
    said = schedules(apart, "run", "minutely")
    assert "fermata schedules list" in said

    wait_until(lambda: last_run(apart)[1] != "submitting", what="the worker has taken the run")
    stop(worker)
    assert last_run(apart) == (
        said.split()[1],
        "not submitted: on the worker, there is no timetable: name one in FERMATA_TIMETABLE",
    )


def test_a_run_on_rabbitmq_whose_redis_was_away_goes_on_when_it_is_back(apart: System) -> None:
    """Its message stays in the broker: nobody waits the five minutes after which it is missed."""
    timetable = str(apart.folder.parent / "timetable.toml")
    begun = schedules(apart, "run", "minutely").split()[1]
    apart.valkey.signal(SIGSTOP)
    try:
        apart.worker("patient", FERMATA_TIMETABLE=timetable)
        wait_until(lambda: "requeue" in apart.log("patient"), what="a worker gave it back")
    finally:
        apart.valkey.signal(SIGCONT)

    outcome = (begun, f"submitted {ROWS} rows")
    wait_until(lambda: last_run(apart) == outcome, seconds=60, what="it was submitted")
