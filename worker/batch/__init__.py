"""Batches: many flows from one manifest, each submitted once, however often somebody tries.

``runs`` submits, cancels and retries; ``ledger`` keeps in Redis which jobs a batch has; ``report``
reads them. ``timetable`` submits a batch on a cron line, and ``journal`` keeps what became of it.
"""

from worker.batch import report
from worker.batch.ledger import Batch, Job, Ledger, LedgerRow, Phase
from worker.batch.runs import Retry, Runs, Submission

__all__ = ["Batch", "Job", "Ledger", "LedgerRow", "Phase", "Retry", "Runs", "Submission", "report"]
