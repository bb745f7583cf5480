"""Batches on a cron line. Everything here is safe to do twice.

``schedules`` reads the file that says what runs when. ``due_times`` knows which times were seen to,
and ``timetable`` starts a run for each that was not. ``slices`` submits the rows of a run, read
from its ``manifest_file``. ``journal`` keeps what became of each run.
"""

from worker.batch.timetable.due_times import DueTimes
from worker.batch.timetable.journal import Journal
from worker.batch.timetable.schedules import Schedules, read
from worker.batch.timetable.slices import SLICE_SECONDS, Slices
from worker.batch.timetable.timetable import Timetable

__all__ = ["SLICE_SECONDS", "DueTimes", "Journal", "Schedules", "Slices", "Timetable", "read"]
