"""Batches: many flows from one manifest, submitted once, however often that is tried."""

from worker.batch import report
from worker.batch.ledger import Batch, Job, Ledger, LedgerRow, Phase
from worker.batch.runs import Retry, Runs, Submission

__all__ = ["Batch", "Job", "Ledger", "LedgerRow", "Phase", "Retry", "Runs", "Submission", "report"]
