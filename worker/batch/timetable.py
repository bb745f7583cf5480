"""Use case: run the batches of the timetable. Everything here is safe to do twice.

Beat ticks every minute, and the task of a tick calls ``tick`` in some worker. A due schedule begins
a run: its rows are submitted slice by slice, each slice a message of its own, because a manifest
may take longer than a task may run. If a message is lost or a worker dies, the run falls silent in
the journal, and a later tick publishes its next slice.
"""

import functools
import hashlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Final, cast

import structlog

from worker import text
from worker.batch import Ledger, Runs, manifest
from worker.batch.journal import Journal
from worker.core import keys
from worker.core.batch import Row, timetable
from worker.core.batch.timetable import Overlap, Schedule
from worker.core.errors import ConfigError, InvalidRequest, UnknownBatch
from worker.core.job.models import JSONObject
from worker.core.ports import Clock

if TYPE_CHECKING:
    from redis import Redis

log = structlog.get_logger()

SLICE_SECONDS: Final = 20
SILENT_SECONDS: Final = 300
"""A run that has noted nothing for so long has lost its message, or its worker."""

_CHANGED: Final = " of a manifest that was changed meanwhile"

_RETAIN_SECONDS: Final = 14 * 86400
_CLAIM_SECONDS: Final = 50
"""Less than the time to the next tick, which can then take over from a process that died."""

_CHUNK: Final = 64 * 1024
_PAGE: Final = 100

Publish = Callable[[str, str, str], object]
"""Publishes a slice of a run: schedule, batch, digest of the manifest that was checked."""


def read(path: Path) -> tuple[Schedule, ...]:
    """Read the timetable.

    Raises ConfigError.
    """
    try:
        return timetable.parse(text.read(path))
    except text.Unreadable as error:
        raise ConfigError(f"the timetable: {error}") from None


def _claim_key(schedule: Schedule, minute: datetime) -> str:
    return f"{keys.SCHEDULE}{schedule.name}:{minute:%Y%m%dT%H%MZ}"


class Timetable:
    """The schedules, and their state in Redis."""

    def __init__(
        self,
        *,
        path: Path | None,
        redis: "Redis",
        journal: Journal,
        ledger: Ledger,
        runs: Runs,
        clock: Clock,
    ) -> None:
        self._path = path
        self._folder = path.parent if path else Path()
        self._redis = redis
        self._journal = journal
        self._ledger = ledger
        self._runs = runs
        self._clock = clock

    @functools.cached_property
    def schedules(self) -> dict[str, Schedule]:
        """The schedules, by name.

        Raises ConfigError if there is no timetable, or if it is wrong.
        """
        if self._path is None:
            raise ConfigError("there is no timetable: name one in FERMATA_TIMETABLE")
        return {each.name: each for each in read(self._path)}

    def tick(self, publish: Publish) -> None:
        """Start runs that are due, report those that were missed, go on with those fallen silent.

        Of several due minutes only the last one runs: a worker that was away for a night must not
        run the night's batches all at once.
        """
        for schedule in self.schedules.values():
            self._wake(schedule, publish)
            due = self._due(schedule)
            for minute in due[:-1]:
                self._missed(schedule, minute)
            if due:
                self._start(schedule, due[-1], publish)

    def _due(self, schedule: Schedule) -> list[datetime]:
        now, key = self._clock(), keys.SCHEDULE + schedule.name
        # A new schedule is not run for the past: it counts as seen up to a minute ago.
        self._redis.hsetnx(key, "seen_until", str(now - 60))
        seen = float(cast(str, self._redis.hget(key, "seen_until")))
        return timetable.due_minutes(schedule, after=seen, now=now)

    def _claim(self, schedule: Schedule, minute: datetime) -> bool:
        """Win the right to see to a minute, among all beats, workers and copies of a tick.

        The claim expires: if its process dies before it has marked the minute, the next tick claims
        the minute.
        """
        key = _claim_key(schedule, minute)
        return bool(self._redis.set(key, "claimed", nx=True, ex=_CLAIM_SECONDS))

    def _mark(self, schedule: Schedule, minute: datetime) -> None:
        """Say that a minute was seen to, so that it is never due again."""
        with self._redis.pipeline() as pipe:
            pipe.set(_claim_key(schedule, minute), "seen to", ex=_RETAIN_SECONDS)
            pipe.hset(keys.SCHEDULE + schedule.name, "seen_until", str(minute.timestamp()))
            pipe.execute()

    def _missed(self, schedule: Schedule, minute: datetime) -> None:
        if self._claim(schedule, minute):
            self._redis.hincrby(keys.SCHEDULE + schedule.name, "missed", 1)
            log.warning("schedule_missed", schedule=schedule.name, due=minute.isoformat())
            self._mark(schedule, minute)

    def _start(self, schedule: Schedule, minute: datetime, publish: Publish) -> None:
        if self._clock() - minute.timestamp() > schedule.missed_after_seconds:
            self._missed(schedule, minute)
            return
        if not self._claim(schedule, minute):
            return
        batch_id = timetable.batch_id(schedule, minute)
        running = self._journal.running(schedule.name)
        # This same batch does not count: a process that died before it marked the minute began it.
        others = {self._journal.newest(schedule.name) or batch_id, *running} - {batch_id}
        before = next((each for each in others if not self._ended(schedule, each)), None)
        if schedule.overlap is Overlap.SKIP and before:
            self._journal.note(schedule.name, batch_id, f"skipped: {before} has not ended")
        else:
            self._begin(schedule, batch_id, publish)
        self._mark(schedule, minute)

    def _begin(self, schedule: Schedule, batch_id: str, publish: Publish) -> None:
        # The journal comes first: if the message is lost, _wake finds the silent run.
        self._journal.begin(schedule.name, batch_id)
        publish(schedule.name, batch_id, "")

    def _ended(self, schedule: Schedule, batch_id: str) -> bool:
        try:
            return self._ledger.read(batch_id).done
        except UnknownBatch:
            # No batch yet: the message of its first slice may still stand in the queue.
            return batch_id not in self._journal.running(schedule.name)

    def _wake(self, schedule: Schedule, publish: Publish) -> None:
        """Publish the next slice of a run that fell silent: message lost, or worker dead."""
        for batch_id, at in self._journal.running(schedule.name).items():
            if self._clock() - at > SILENT_SECONDS:
                self._journal.goes_on(schedule.name, batch_id)
                publish(schedule.name, batch_id, "")

    def run_now(self, name: str, publish: Publish) -> str:
        """Start a schedule by hand; returns the batch's name.

        Raises InvalidRequest, ConfigError.
        """
        schedule = self._find(name)
        minute = datetime.fromtimestamp(self._clock(), UTC)
        batch_id = timetable.batch_id(schedule, minute)
        self._begin(schedule, batch_id, publish)
        return batch_id

    def _find(self, name: str) -> Schedule:
        if name not in self.schedules:
            known = ", ".join(self.schedules) or "none"
            raise InvalidRequest(f"there is no schedule {name!r}; there are: {known}")
        return self.schedules[name]

    def submit_slice(self, name: str, batch_id: str, checked: str, publish: Publish) -> None:
        """Submit a part of a run's rows, then publish the rest as a message of its own.

        Each slice looks at every row and submits those that are missing, so rows may be added to
        the manifest, or taken out, between slices. To check 600,000 rows and look at them takes
        some 90 s; in a worker of processes, a task is ended after 200 s.

        Args:
            checked: the digest of the manifest that was checked last. A manifest with another
                digest is checked first.
        """
        if batch_id not in self._journal.running(name):
            return  # the run is over: this is a late copy of its message
        if self._ledger.is_cancelled(batch_id):
            self._journal.over(name, batch_id, "cancelled")
            return
        try:
            schedule = self._find(name)
            digest = self._digest(schedule)
            if digest != checked and not self._open(schedule, batch_id, digest):
                self._journal.over(name, batch_id, "cancelled")
                return
            rows = self._submit_missing(schedule, batch_id)
            # The time is up, or the manifest has changed while it was read: another slice.
            if rows is None or self._digest(schedule) != digest:
                publish(name, batch_id, digest)
            else:
                self._finish(schedule, batch_id, rows, digest)
        except ConfigError as error:
            self._refuse(name, batch_id, f"on the worker, {error}")
        except InvalidRequest as error:
            self._refuse(name, batch_id, error.message)

    def _open(self, schedule: Schedule, batch_id: str, digest: str) -> bool:
        """Check the manifest and open the batch; False if the batch was cancelled.

        Raises InvalidRequest if the manifest is wrong.
        """
        rows = jobs = 0
        credits_ = 0.0
        for row in self._rows(schedule):
            if not isinstance(row, Row):
                place = f"line {row.line}, {row.column}" if row.column else f"line {row.line}"
                raise InvalidRequest(f"{schedule.manifest}, {place}: {row.reason}")
            rows, jobs = rows + 1, jobs + len(row.plan.operations)
            credits_ += row.plan.credits
        opened = self._ledger.open(
            batch_id,
            now=self._clock(),
            rows=rows,
            expected_jobs=jobs,
            expected_credits=credits_,
            manifest=str((self._folder / schedule.manifest).resolve()),
        )
        if self._journal.pin(schedule.name, batch_id, digest) != digest:
            log.warning("schedule_manifest_changed", schedule=schedule.name, batch_id=batch_id)
        return opened

    def _submit_missing(self, schedule: Schedule, batch_id: str) -> int | None:
        """Submit the missing rows; returns how many rows there are, None if the time is up."""
        until, count = monotonic() + SLICE_SECONDS, 0
        # All rows were right when they were checked. If one is wrong now, the manifest has changed:
        # its digest differs, and the next slice checks it again.
        rows = (row for row in self._rows(schedule) if isinstance(row, Row))
        while page := list(islice(rows, _PAGE)):
            new = self._runs.submit_page(batch_id, page)
            count += len(page)
            self._journal.goes_on(schedule.name, batch_id)
            # Only after a page with new rows: to look at rows that are submitted may take all of a
            # slice's time, and every slice begins at the first row.
            if new and monotonic() > until:
                return None
        return count

    def _finish(self, schedule: Schedule, batch_id: str, rows: int, digest: str) -> None:
        changed = self._journal.pinned(schedule.name, batch_id) not in {digest, None}
        outcome = f"submitted {rows} rows" + (_CHANGED if changed else "")
        whole = self._runs.finish(batch_id)
        self._journal.over(schedule.name, batch_id, outcome if whole else "cancelled")
        log.info("schedule_submitted", schedule=schedule.name, batch_id=batch_id, rows=rows)

    def _refuse(self, name: str, batch_id: str, why: str) -> None:
        # The manifest may have been right when the run began. The rows submitted by then stay.
        further = " any further" if self._journal.pinned(name, batch_id) else ""
        self._runs.finish(batch_id)
        self._journal.over(name, batch_id, f"not submitted{further}: {why}")
        log.error("schedule_refused", schedule=name, batch_id=batch_id, why=why)

    def _digest(self, schedule: Schedule) -> str:
        try:
            with (self._folder / schedule.manifest).open("rb") as opened:
                return hashlib.file_digest(opened, "sha256").hexdigest()
        except OSError as error:
            raise InvalidRequest(f"the manifest cannot be read: {error}") from None

    def _rows(self, schedule: Schedule) -> Iterator[Row | manifest.RowError]:
        path = self._folder / schedule.manifest
        form = manifest.format_of(path.name)
        if form is None:
            raise InvalidRequest(f"{path.name} must end in .csv, .jsonl or .yaml")
        try:
            with path.open("rb") as opened:
                yield from manifest.read(iter(lambda: opened.read(_CHUNK), b""), form=form)
        except OSError as error:
            raise InvalidRequest(f"the manifest cannot be read: {error}") from None

    def describe(self, schedule: Schedule) -> JSONObject:
        """Describe a schedule and its last run."""
        missed = cast("str | None", self._redis.hget(keys.SCHEDULE + schedule.name, "missed"))
        last = self._journal.last(schedule.name)
        return {
            **{name: getattr(schedule, name) for name in schedule.__slots__},
            "missed": int(missed or 0),
            "last_batch": last.batch_id if last else None,
            "last_outcome": last.outcome if last else None,
            "last_at": last.at if last else None,
        }
