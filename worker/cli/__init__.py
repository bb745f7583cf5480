"""The command line: ``fermata``. Each module declares its commands on the one group."""

from worker.cli import batch, jobs, system
from worker.cli.group import main

__all__ = ["batch", "jobs", "main", "system"]
