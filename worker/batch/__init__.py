"""Batches: many flows from one manifest, submitted once, however often that is tried."""

from worker.batch import report
from worker.batch.ledger import Batch, Job, Ledger, LedgerRow, Phase
from worker.batch.runs import Runs, Submission

__all__ = ["Batch", "Job", "Ledger", "LedgerRow", "Phase", "Runs", "Submission", "report"]
