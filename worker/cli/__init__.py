"""The command line: ``fermata``. Each module declares its commands on the one group."""

from worker.cli import batch, doctor, jobs, quarantine, schedules, system
from worker.cli.group import main

__all__ = ["batch", "doctor", "jobs", "main", "quarantine", "schedules", "system"]
