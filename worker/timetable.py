"""Use case: run the batches of the timetable. Everything here is safe to do twice."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, cast

import structlog
from celery.schedules import ParseException, crontab

from worker import manifest
from worker.batch import Ledger, Runs
from worker.core import keys, timetable
from worker.core.batch import Row
from worker.core.errors import ConfigError, InvalidRequest, UnknownBatch
from worker.core.models import JSONObject
from worker.core.timetable import Overlap, Schedule
from worker.handover import Clock

if TYPE_CHECKING:
    from redis import Redis

log = structlog.get_logger()

SLICE_SECONDS: Final = 20
SILENT_SECONDS: Final = 300
"""A run that submits and says nothing for so long has lost its message."""

_RUNNING: Final = "running:"
"""Before the batch, the field of a run whose rows are being submitted."""

_RETAIN_SECONDS: Final = 14 * 86400
_CLAIM_SECONDS: Final = 50
"""Less than the time to the next tick."""

_CHUNK: Final = 64 * 1024
_FIELDS: Final = 5

Publish = Callable[[str, str, int], object]
"""Publishes a slice of a run: schedule, batch, rows that are behind it."""


def read(path: Path) -> tuple[Schedule, ...]:
    """Read the timetable.

    Raises ConfigError.
    """
    try:
        return timetable.parse(path.read_text(), check_cron)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the timetable cannot be read: {error}") from None


def _claim_key(schedule: Schedule, minute: datetime) -> str:
    return f"{keys.SCHEDULE}{schedule.name}:{minute:%Y%m%dT%H%MZ}"


def check_cron(line: str) -> None:
    """Raise ValueError where a line is no cron line."""
    _crontab(line)


def _crontab(line: str) -> crontab:
    fields = line.split()
    if len(fields) != _FIELDS:
        raise ValueError(f"{line!r} must have five fields: minute hour day month weekday")
    minute, hour, day, month, weekday = fields
    try:
        return crontab(
            minute=minute, hour=hour, day_of_month=day, month_of_year=month, day_of_week=weekday
        )
    except ParseException as error:
        raise ValueError(f"{line!r}: {error}") from None


def matcher(line: str) -> timetable.Matches:
    """Return what says whether a local minute is one of a cron line's."""
    cron: Any = _crontab(line)

    def matches(local: datetime) -> bool:
        return (
            local.minute in cron.minute
            and local.hour in cron.hour
            and local.day in cron.day_of_month
            and local.month in cron.month_of_year
            and local.isoweekday() % 7 in cron.day_of_week
        )

    return matches


@dataclass(frozen=True, slots=True)
class LastRun:
    """What became of a schedule's last run."""

    batch_id: str
    outcome: str
    at: float


class Timetable:
    """The schedules, and the memory of their runs in Redis."""

    def __init__(
        self,
        *,
        schedules: tuple[Schedule, ...],
        folder: Path,
        redis: "Redis",
        ledger: Ledger,
        runs: Runs,
        clock: Clock,
    ) -> None:
        self.schedules = {each.name: each for each in schedules}
        self._folder = folder
        self._redis = redis
        self._ledger = ledger
        self._runs = runs
        self._clock = clock

    def tick(self, publish: Publish) -> None:
        """Start what is due, report what was missed, and go on with what fell silent."""
        for schedule in self.schedules.values():
            self._wake(schedule, publish)
            due = self._due(schedule)
            for minute in due[:-1]:
                self._missed(schedule, minute)
            if due:
                self._start(schedule, due[-1], publish)

    def _due(self, schedule: Schedule) -> list[datetime]:
        now, key = self._clock(), keys.SCHEDULE + schedule.name
        # The first time that a schedule is seen it was never due: it is not run for the past.
        self._redis.hsetnx(key, "seen_until", str(now - 60))
        seen = float(cast(str, self._redis.hget(key, "seen_until")))
        return timetable.due_minutes(schedule, matcher(schedule.cron), after=seen, now=now)

    def _claim(self, schedule: Schedule, minute: datetime) -> bool:
        """Win the right to see to a minute, among all beats, workers and copies of a tick.

        For a while only: whoever dies before the minute is marked leaves it to the next tick.
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
        # The same batch: whoever claimed this minute first died before it was marked.
        others = {self._run_before(schedule) or batch_id, *self._running(schedule)} - {batch_id}
        before = next((each for each in others if not self._ended(schedule, each)), None)
        if schedule.overlap is Overlap.SKIP and before:
            self._note(schedule, batch_id, f"skipped: {before} has not ended")
        else:
            self._begin(schedule, batch_id, publish)
        self._mark(schedule, minute)

    def _run_before(self, schedule: Schedule) -> str | None:
        key = keys.SCHEDULE + schedule.name
        return cast("str | None", self._redis.hget(key, "batch_id"))

    def _begin(self, schedule: Schedule, batch_id: str, publish: Publish) -> None:
        # Noted first: a run whose message is lost is then found silent, and published again.
        self._redis.hset(keys.SCHEDULE + schedule.name, "batch_id", batch_id)
        self._goes_on(schedule, batch_id)
        publish(schedule.name, batch_id, 0)

    def _goes_on(self, schedule: Schedule, batch_id: str) -> None:
        """Note that rows of a run are being submitted, or about to be."""
        key, field = keys.SCHEDULE + schedule.name, _RUNNING + batch_id
        self._redis.hset(key, field, str(self._clock()))
        self._note(schedule, batch_id, "submitting")

    def _running(self, schedule: Schedule) -> dict[str, float]:
        """Return the runs whose rows are being submitted, and when they were last heard of."""
        stored = cast("dict[str, str]", self._redis.hgetall(keys.SCHEDULE + schedule.name))
        return {
            field.removeprefix(_RUNNING): float(at)
            for field, at in stored.items()
            if field.startswith(_RUNNING)
        }

    def _over(self, schedule: Schedule, batch_id: str, outcome: str) -> None:
        self._redis.hdel(keys.SCHEDULE + schedule.name, _RUNNING + batch_id)
        self._note(schedule, batch_id, outcome)

    def _ended(self, schedule: Schedule, batch_id: str) -> bool:
        try:
            return self._ledger.read(batch_id).done
        except UnknownBatch:
            return batch_id not in self._running(schedule)  # its message still stands in the queue

    def _wake(self, schedule: Schedule, publish: Publish) -> None:
        """Go on with a run that fell silent: its message was lost, or its worker died."""
        for batch_id, at in self._running(schedule).items():
            if self._clock() - at > SILENT_SECONDS:
                self._goes_on(schedule, batch_id)
                publish(schedule.name, batch_id, 0)

    def run_now(self, name: str, publish: Publish) -> str:
        """Start a schedule by hand; returns the batch's name.

        Raises InvalidRequest.
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

    def submit_slice(self, name: str, batch_id: str, behind: int, publish: Publish) -> None:
        """Submit a part of a run's rows, then publish the rest as a message of its own.

        Each slice reads the manifest from its beginning, and the first one checks the whole of it:
        that must be done within a task's soft time limit, some 600,000 rows in 90 s.

        Raises InvalidRequest.
        """
        schedule = self._find(name)
        if self._ledger.is_cancelled(batch_id):
            self._over(schedule, batch_id, "cancelled")
            return
        if behind == 0 and not self._open(schedule, batch_id):
            return
        until = monotonic() + SLICE_SECONDS
        right = (row for row in self._rows(schedule) if isinstance(row, Row))
        rows, submitted = islice(right, behind, None), behind
        while page := list(islice(rows, 100)):
            self._runs.submit_page(batch_id, page)
            submitted += len(page)
            self._goes_on(schedule, batch_id)
            if monotonic() > until:
                publish(name, batch_id, submitted)
                return
        whole = self._runs.finish(batch_id)
        self._over(schedule, batch_id, f"submitted {submitted} rows" if whole else "cancelled")
        log.info("schedule_submitted", schedule=name, batch_id=batch_id, rows=submitted)

    def _open(self, schedule: Schedule, batch_id: str) -> bool:
        """Check the manifest and open the batch; a wrong manifest is reported, and not run."""
        rows = jobs = 0
        credits_ = 0.0
        try:
            for row in self._rows(schedule):
                if not isinstance(row, Row):
                    place = f"line {row.line}, {row.column}" if row.column else f"line {row.line}"
                    raise InvalidRequest(f"{schedule.manifest}, {place}: {row.reason}")
                rows, jobs = rows + 1, jobs + len(row.plan.operations)
                credits_ += row.plan.credits
        except (InvalidRequest, OSError) as error:
            # It may have been right when the run began: what was submitted by then is all there is.
            self._runs.finish(batch_id)
            self._over(schedule, batch_id, f"not submitted: {error}")
            log.error("schedule_refused", schedule=schedule.name, why=str(error))
            return False
        opened = self._ledger.open(
            batch_id, now=self._clock(), rows=rows, expected_jobs=jobs, expected_credits=credits_
        )
        if not opened:
            self._over(schedule, batch_id, "cancelled")
        return opened

    def _rows(self, schedule: Schedule) -> Iterator[Row | manifest.RowError]:
        path = self._folder / schedule.manifest
        form = manifest.format_of(path.name)
        if form is None:
            raise InvalidRequest(f"{path.name} must end in .csv, .jsonl or .yaml")
        with path.open("rb") as opened:
            yield from manifest.read(iter(lambda: opened.read(_CHUNK), b""), form=form)

    def _note(self, schedule: Schedule, batch_id: str, outcome: str) -> None:
        noted = json.dumps([batch_id, outcome, self._clock()])
        self._redis.hset(keys.SCHEDULE + schedule.name, "last", noted)

    def last(self, schedule: Schedule) -> LastRun | None:
        """Return what became of a schedule's last run, if there was one."""
        stored = cast("str | None", self._redis.hget(keys.SCHEDULE + schedule.name, "last"))
        return LastRun(*json.loads(stored)) if stored else None

    def describe(self, schedule: Schedule) -> JSONObject:
        """Describe a schedule and its last run."""
        missed = cast("str | None", self._redis.hget(keys.SCHEDULE + schedule.name, "missed"))
        last = self.last(schedule)
        return {
            **{name: getattr(schedule, name) for name in schedule.__slots__},
            "missed": int(missed or 0),
            "last_batch": last.batch_id if last else None,
            "last_outcome": last.outcome if last else None,
            "last_at": last.at if last else None,
        }
