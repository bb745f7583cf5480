"""Use case: submit the rows of a run, slice by slice.

Each slice is a message of its own, because a manifest may take longer than a task may run. The
first slice checks the manifest and opens the batch; the last one notes in the journal that all rows
were submitted. A slice whose message comes twice submits each row once.
"""

from collections.abc import Callable
from itertools import islice
from time import monotonic
from typing import Final

import structlog

from worker.batch.ledger import Ledger
from worker.batch.runs import Runs
from worker.batch.timetable.journal import Journal
from worker.batch.timetable.manifest_file import ManifestFile
from worker.batch.timetable.schedules import Schedules
from worker.core.batch import Row
from worker.core.batch.timetable import Schedule
from worker.core.errors import ConfigError, InvalidRequest
from worker.core.ports import Clock

log = structlog.get_logger()

SLICE_SECONDS: Final = 20

_CHANGED: Final = " of a manifest that was changed meanwhile"
_PAGE: Final = 100

Publish = Callable[[str, str, str], object]
"""Publishes a slice of a run: schedule, batch, digest of the manifest that was checked."""


class Slices:
    """Submits slices. The timetable publishes the first one of a run, each slice the next."""

    def __init__(
        self, *, schedules: Schedules, journal: Journal, ledger: Ledger, runs: Runs, clock: Clock
    ) -> None:
        self._schedules = schedules
        self._journal = journal
        self._ledger = ledger
        self._runs = runs
        self._clock = clock

    def submit(self, name: str, batch_id: str, checked: str, publish: Publish) -> None:
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
            self._go_on(self._schedules.find(name), batch_id, checked, publish)
        except ConfigError as error:
            self._refuse(name, batch_id, f"on the worker, {error}")
        except InvalidRequest as error:
            self._refuse(name, batch_id, error.message)

    def _go_on(self, schedule: Schedule, batch_id: str, checked: str, publish: Publish) -> None:
        file = self._schedules.manifest(schedule)
        digest = file.digest()
        if digest != checked and not self._open(schedule, batch_id, file, digest):
            self._journal.over(schedule.name, batch_id, "cancelled")
            return
        rows = self._submit_missing(schedule, batch_id, file)
        # The time is up, or the manifest has changed while it was read: another slice.
        if rows is None or file.digest() != digest:
            publish(schedule.name, batch_id, digest)
        else:
            self._finish(schedule, batch_id, rows, digest)

    def _open(self, schedule: Schedule, batch_id: str, file: ManifestFile, digest: str) -> bool:
        """Check the manifest and open the batch; False if the batch was cancelled.

        Raises InvalidRequest if the manifest is wrong.
        """
        rows = jobs = 0
        credits_ = 0.0
        for row in file.rows():
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
            manifest=str(file.path.resolve()),
        )
        if self._journal.pin(schedule.name, batch_id, digest) != digest:
            log.warning("schedule_manifest_changed", schedule=schedule.name, batch_id=batch_id)
        return opened

    def _submit_missing(self, schedule: Schedule, batch_id: str, file: ManifestFile) -> int | None:
        """Submit the missing rows; returns how many rows there are, None if the time is up."""
        until, count = monotonic() + SLICE_SECONDS, 0
        # All rows were right when they were checked. If one is wrong now, the manifest has changed:
        # its digest differs, and the next slice checks it again.
        rows = (row for row in file.rows() if isinstance(row, Row))
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
