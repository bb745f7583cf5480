"""The command line: ``fermata``. Each module declares its commands on the one group."""

from worker.cli import jobs, quarantine, system
from worker.cli.group import main

__all__ = ["jobs", "main", "quarantine", "system"]
