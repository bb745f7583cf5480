"""What a run was made on: figures without it cannot be told from those of another day."""

import os
import platform
import subprocess
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import psutil

from worker.store.embedded import server_binary


@dataclass(frozen=True, slots=True)
class Machine:
    """The machine, what it runs, and how busy it was when the run began."""

    measured_at: datetime
    cores: int
    load: float
    """Processes that ran or waited for a core, the mean of the last minute."""
    versions: dict[str, str]

    def __str__(self) -> str:
        versions = ", ".join(f"{name} {number}" for name, number in self.versions.items())
        return (
            f"{self.measured_at.date()}, {self.cores} cores, loopback, a load of {self.load:.1f} "
            f"when it began; {versions}."
        )

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"measured_at": self.measured_at.isoformat()}


def look() -> Machine:
    """Look at the machine, before the run itself is a load on it."""
    versions = {
        "Python": platform.python_version(),
        "Celery": version("celery"),
        "kombu": version("kombu"),
    }
    versions |= _server()
    return Machine(datetime.now(UTC), psutil.cpu_count() or 1, os.getloadavg()[0], versions)


def _server() -> dict[str, str]:
    """Name the server that is measured; it says ``Valkey server v=9.1.2 sha=…``."""
    command = [server_binary(), "--version"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    return {said[0]: said[2].removeprefix("v=")}
