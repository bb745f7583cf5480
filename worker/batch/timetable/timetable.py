"""Use case: start the runs of the schedules.

Beat ticks every minute, and the task of a tick calls ``tick`` in some worker. A due schedule begins
a run: the journal notes it, and the message of its first slice is published. If a message is lost
or a worker dies, the run falls silent in the journal, and a later tick publishes its next slice.
"""

from dataclasses import asdict
from datetime import UTC, datetime
from typing import Final

from worker.batch.ledger import Ledger
from worker.batch.timetable.due_times import DueTimes
from worker.batch.timetable.journal import Journal
from worker.batch.timetable.schedules import Schedules
from worker.batch.timetable.slices import Publish
from worker.core.batch.timetable import Overlap, Schedule, batch_id, next_minutes
from worker.core.errors import InvalidRequest, UnknownBatch
from worker.core.job.models import JSONObject
from worker.core.ports import Clock

SILENT_SECONDS: Final = 300
"""A run that has noted nothing for so long has lost its message, or its worker."""
_ONE_REQUEST_SECONDS: Final = 120
"""Whoever asks for a run by hand again within this time means the same one."""
_NEXT: Final = 3
"""So many due times are told."""


class Timetable:
    """Starts runs, and tells how the last ones went."""

    def __init__(
        self,
        *,
        schedules: Schedules,
        due_times: DueTimes,
        journal: Journal,
        ledger: Ledger,
        clock: Clock,
    ) -> None:
        self.schedules = schedules
        self._due_times = due_times
        self._journal = journal
        self._ledger = ledger
        self._clock = clock

    def tick(self, publish: Publish) -> None:
        """Start runs that are due, report those that were missed, go on with those fallen silent.

        Of several due times only the last one runs: a worker that was away for a night must not
        run the night's batches all at once.
        """
        for schedule in self.schedules.values():
            self._wake(schedule, publish)
            due = self._due_times.unseen(schedule)
            for minute in due[:-1]:
                self._due_times.miss(schedule, minute)
            if due:
                self._start(schedule, due[-1], publish)

    def _wake(self, schedule: Schedule, publish: Publish) -> None:
        """Publish the next slice of a run that fell silent: message lost, or worker dead."""
        for batch, at in self._journal.running(schedule.name).items():
            if self._clock() - at > SILENT_SECONDS:
                self._journal.goes_on(schedule.name, batch)
                publish(schedule.name, batch, "")

    def _start(self, schedule: Schedule, minute: datetime, publish: Publish) -> None:
        if self._due_times.is_too_late(schedule, minute):
            self._due_times.miss(schedule, minute)
            return
        if not self._due_times.claim(schedule, minute):
            return
        batch = batch_id(schedule, minute)
        if before := self._in_the_way(schedule, batch):
            self._journal.note(schedule.name, batch, f"skipped: {before} has not ended")
        else:
            self._begin(schedule, batch, publish)
        self._due_times.mark(schedule, minute)

    def _in_the_way(self, schedule: Schedule, batch: str) -> str | None:
        """Find another run that has not ended, if the schedule skips a run then.

        Args:
            batch: the one that is about to begin. A process that died before it marked the due time
                may have begun it already, so it does not count.
        """
        if schedule.overlap is not Overlap.SKIP:
            return None
        running = self._journal.running(schedule.name)
        others = {self._journal.newest(schedule.name) or batch, *running} - {batch}
        return next((each for each in others if not self._ended(schedule, each)), None)

    def _ended(self, schedule: Schedule, batch: str) -> bool:
        try:
            return self._ledger.read(batch).done
        except UnknownBatch:
            # No batch yet: the message of its first slice may still stand in the queue.
            return batch not in self._journal.running(schedule.name)

    def _begin(self, schedule: Schedule, batch: str, publish: Publish) -> None:
        # The journal comes first: if the message is lost, _wake finds the silent run.
        self._journal.begin(schedule.name, batch)
        publish(schedule.name, batch, "")

    def run_now(self, name: str, publish: Publish) -> str:
        """Start a schedule by hand; returns the batch's name.

        If it is asked for again within two minutes, it runs once: a second look at a page, or a
        second click, may come after the minute has changed.

        Raises InvalidRequest if there is no such schedule, if the run asked for just before was
        cancelled, or if the schedule skips a run because the one before has not ended; ConfigError.
        """
        schedule = self.schedules.find(name)
        now = datetime.fromtimestamp(self._clock(), UTC)
        batch = self._journal.ask_for(
            name, batch_id(schedule, now), within_seconds=_ONE_REQUEST_SECONDS
        )
        if self._ledger.is_cancelled(batch):
            raise InvalidRequest(f"{batch} was cancelled, and stays so: ask again in two minutes")
        if before := self._in_the_way(schedule, batch):
            raise InvalidRequest(f'{before} has not ended, and {name} says overlap = "skip"')
        # If it is over, its manifest may have been mended: it begins again, and each row runs once.
        if batch not in self._journal.running(name):
            self._begin(schedule, batch, publish)
        return batch

    def describe(self, schedule: Schedule) -> JSONObject:
        """Describe a schedule: when it runs next, and how its last runs went."""
        runs = self._journal.latest(schedule.name)
        last = runs[0] if runs else None
        due = next_minutes(schedule, after=self._clock(), count=_NEXT)
        return {
            **{name: getattr(schedule, name) for name in schedule.__slots__},
            "missed": self._due_times.missed(schedule),
            "last_batch": last.batch_id if last else None,
            "last_outcome": last.outcome if last else None,
            "last_at": last.at if last else None,
            "next_at": [each.timestamp() for each in due],
            "outcomes": [asdict(run) for run in runs],
        }
