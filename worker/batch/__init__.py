"""Batches: many flows from one manifest, each submitted once, however often somebody tries.

``runs`` submits, cancels and retries; ``matching`` cancels and retries whatever a filter matches,
of a batch or not. In Redis, ``ledger`` keeps how far each batch has come, and ``rows`` which rows
it has; ``jobs`` reads the jobs of a row, and ``report`` tells how each row ended. ``manifest``
reads the file and ``tally`` prices it; ``timetable`` submits it on a cron line.
"""

from worker.batch import report
from worker.batch.jobs import Job
from worker.batch.ledger import Batch, Ledger, Phase
from worker.batch.matching import Cancelled, Matching, Price, Retrying
from worker.batch.rows import BatchRow, BatchRows
from worker.batch.runs import Runs, Submission
from worker.batch.tally import Tally

__all__ = [
    "Batch",
    "BatchRow",
    "BatchRows",
    "Cancelled",
    "Job",
    "Ledger",
    "Matching",
    "Phase",
    "Price",
    "Retrying",
    "Runs",
    "Submission",
    "Tally",
    "report",
]
