"""All commands of ``fermata``. Each module declares its own on the one group."""

from worker.cli import batch, doctor, jobs, overview, quarantine, schedules, steer, system
from worker.cli.group import main

__all__ = [
    "batch", "doctor", "jobs", "main", "overview", "quarantine", "schedules", "steer", "system",
]  # fmt: skip
