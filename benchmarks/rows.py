"""What a long manifest costs: the memory of the process that submits it, and Redis's for each row.

``python -m benchmarks.rows 10000 100000``; no worker runs, so that all rows stay held.
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from redis import Redis

from tests.system import System


def main() -> None:
    for rows in map(int, sys.argv[1:] or ["10000"]):
        with tempfile.TemporaryDirectory() as folder, System(Path(folder) / "system") as system:
            _measure(system, Path(folder) / "rows.jsonl", rows)


def _measure(system: System, path: Path, rows: int) -> None:
    row = {"operation": "sonic.remaster", "mv": "chirp-v5", "then": "sonic.wav+sonic.midi"}
    source = "26c9c592-0566-4000-8000-{:012d}"
    with path.open("w", encoding="utf-8") as manifest:
        manifest.writelines(
            json.dumps(row | {"source": source.format(n)}) + "\n" for n in range(rows)
        )
    with Redis.from_url(system.redis_url, decode_responses=True) as redis:
        before, began = redis.info("memory")["used_memory"], time.monotonic()
        command = [sys.executable, "-m", "worker", "batch", "submit", str(path)]
        environment, folder = system.environment, system.folder
        subprocess.run(command, env=environment, cwd=folder, check=True, capture_output=True)
        seconds = time.monotonic() - began
        used = redis.info("memory")["used_memory"] - before
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(f"{rows:>8,} rows: {seconds:6.1f} s, {rows / seconds:5.0f} rows a second")
    print(f"  peak of the submitting process {peak:.1f} MiB; Redis {used / rows:,.0f} bytes a row")


if __name__ == "__main__":
    main()
