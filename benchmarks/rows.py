"""What a long manifest costs: the memory of the process that submits it, and Redis's for each row.

``python -m benchmarks.rows 10000 100000``; no worker runs, so that all rows stay held. The time
is that of the whole command, the peak what it was seen to hold, looked at every 20 ms.
"""

import argparse
import contextlib
import json
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import psutil
from redis import Redis

from benchmarks import machine, page
from benchmarks.house import Measured, undisturbed
from tests.system import System

LOOK_SECONDS = 0.02
COLUMNS = ("rows", "rows a second", "peak of the submitting process", "Redis, a row")


@dataclass(frozen=True, slots=True)
class Cost:
    """What one manifest cost."""

    rows: int
    seconds: float
    peak: float
    """Bytes of the submitting process."""
    redis: float
    """Bytes of the server, a row."""

    def cells(self) -> tuple[str, ...]:
        rate, peak = self.rows / self.seconds, self.peak / 2**20
        return f"{self.rows:,}", f"{rate:,.0f}", f"{peak:.1f} MiB", f"{self.redis:,.0f} bytes"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rows", description=__doc__)
    parser.add_argument("rows", type=int, nargs="*", default=[10_000], help="default: 10000")
    parser.add_argument("--write", action="store_true", help="renew benchmarks/README.md")
    given = parser.parse_args()
    made_on, costs = machine.look(), []
    for rows in given.rows:
        with (
            tempfile.TemporaryDirectory() as folder,
            undisturbed(Measured(Path(folder) / "system")) as system,
        ):
            costs.append(_measure(system, Path(folder) / "rows.jsonl", rows))
    told = f"{made_on}\n\n" + page.table(COLUMNS, [cost.cells() for cost in costs], words=0)
    print(told, end="")
    if given.write:
        page.renew("rows", told)


def _measure(system: System, path: Path, rows: int) -> Cost:
    row = {"operation": "sonic.remaster", "mv": "chirp-v5", "then": "sonic.wav+sonic.midi"}
    source = "26c9c592-0566-4000-8000-{:012d}"
    with path.open("w", encoding="utf-8") as manifest:
        manifest.writelines(
            json.dumps(row | {"source": source.format(n)}) + "\n" for n in range(rows)
        )
    with Redis.from_url(system.redis_url, decode_responses=True) as redis:
        before, began = redis.info("memory")["used_memory"], time.monotonic()
        peak = _submit(system, path)
        seconds = time.monotonic() - began
        used = redis.info("memory")["used_memory"] - before
    return Cost(rows, seconds, peak, used / rows)


def _submit(system: System, path: Path) -> int:
    """Submit a manifest; returns the most bytes that were resident.

    What the system counts of a child that ended would do for neither: it begins with the peak of
    the process that started it, and is the highest of all children.
    """
    process = system.run("submit", "-m", "worker", "batch", "submit", str(path))
    seen, peak = psutil.Process(process.pid), 0
    while process.poll() is None:
        with contextlib.suppress(psutil.Error):
            peak = max(peak, seen.memory_info().rss)
        time.sleep(LOOK_SECONDS)
    if process.returncode:
        sys.exit(f"the submission failed: {system.log('submit')[-2000:]}")
    return peak


if __name__ == "__main__":
    main()
