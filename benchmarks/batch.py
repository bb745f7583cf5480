"""A batch through a provider that allows 20 submits a second and 50 at once.

``python -m benchmarks.batch --rows 1000``; it takes rows x 3 / 20 seconds, and prints what the
simulator's own books say. Half way, the submitting process is killed and started again, an
interactive job comes, and a second tenant's batch. It ends with an error where a row was not
accepted exactly once, or the provider ever said that it was too much.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
import zlib
from collections import Counter
from pathlib import Path
from typing import Any, Final

from benchmarks import machine, page
from benchmarks.house import Measured, undisturbed
from tests.system import System, wait_until
from worker.core.job.models import JobId

RATE: Final = 20
IN_FLIGHT: Final = 50
TENANT_ROWS: Final = 10
SLOTS: Final = 2


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.batch", description=__doc__)
    parser.add_argument("--rows", type=int, default=1000, help="default: 1000")
    parser.add_argument("--write", action="store_true", help="renew benchmarks/README.md")
    given = parser.parse_args()
    made_on, began = machine.look(), time.monotonic()
    found = _measure(given.rows)
    minutes, seconds = divmod(round(time.monotonic() - began), 60)
    told = f"{given.rows:,} rows, {minutes} min {seconds} s. {made_on}\n\n"
    told += page.table(("what", "figure"), found.items(), words=2)
    print(told, end="")
    if given.write:
        page.renew("batch", told)


def _measure(rows: int) -> dict[str, str]:
    """Run it all; returns what was found, in words."""
    limits: dict[str, Any] = {
        "FERMATA_SUBMITS_PER_SECOND": str(RATE), "SIMULATOR_SUBMITS_PER_SECOND": str(RATE),
        "FERMATA_IN_FLIGHT": str(IN_FLIGHT), "SIMULATOR_IN_FLIGHT": str(IN_FLIGHT),
        "FERMATA_SUBMIT_BURST": "3",
    }  # fmt: skip
    with (
        tempfile.TemporaryDirectory() as folder,
        undisturbed(Measured(Path(folder) / "system", **limits)) as system,
    ):
        system.worker(concurrency=SLOTS)
        return _run(system, Path(folder), rows)


def _run(system: System, folder: Path, rows: int) -> dict[str, str]:
    system.simulator.rule("", latency_seconds=1.5)
    first = _manifest(folder / "first.jsonl", rows, tenant="first")
    submission = _start(system, "batch", "submit", str(first))
    wait_until(lambda: _jobs(system, "first") > rows / 2, seconds=120)
    submission.kill()
    submission.wait()
    _cli(system, "batch", "submit", str(first))
    wait_until(lambda: len(_tasks(system)) > rows / 4, seconds=600)
    second = _manifest(folder / "second.jsonl", TENANT_ROWS, tenant="second")
    _cli(system, "batch", "submit", str(second))
    waited = _interactive(system)
    seconds, _ = _until_done(system, "second", 600)
    done = _status(system, "first")["ended"]["succeeded"]
    in_use = _until_done(system, "first", 60 + rows * 3 / RATE * 1.5)[1]
    _check(system, rows)
    others = f"done after {seconds:.1f} s, when the first had {done:,} of {rows * 3:,} jobs done"
    return _books(system, rows) | {
        "worker slots in use": f"{statistics.fmean(in_use):.2f} of {SLOTS}, in the mean of "
        f"{len(in_use)} looks",
        "interactive job: time to its admission": f"{waited:.2f} s",
        f"second tenant's {TENANT_ROWS} rows": others,
    }


def _manifest(path: Path, rows: int, *, tenant: str) -> Path:
    row = {"operation": "sonic.remaster", "mv": "chirp-v5", "tenant": tenant}
    then = {"then": "sonic.wav+sonic.midi"}
    sources = _sources(tenant, rows)
    path.write_text("\n".join(json.dumps(row | then | {"source": s}) for s in sources), "utf-8")
    return path


def _sources(tenant: str, rows: int) -> list[str]:
    """Name each row's clip, for the simulator's books."""
    return [f"{zlib.crc32(tenant.encode()):08x}-0000-4000-8000-{n:012d}" for n in range(rows)]


def _check(system: System, rows: int) -> None:
    books = system.simulator.books()
    sources = Counter(task["request"].get("continue_clip_id") for task in books["tasks"])
    wanted = dict.fromkeys(_sources("first", rows) + _sources("second", TENANT_ROWS), 1)
    accepted = {source: sources[source] for source in wanted}
    if accepted != wanted or len(books["tasks"]) != 3 * len(wanted) + 1 or books["refused"]:
        odd = {source: count for source, count in accepted.items() if count != 1}
        sys.exit(f"rows not accepted once: {odd}; refused: {books['refused']}")


def _books(system: System, rows: int) -> dict[str, str]:
    """Return what the simulator's books say, and the ledger of the first batch."""
    books = system.simulator.books()
    times = sorted(task["accepted_at"] for task in books["tasks"])
    rate = (len(times) - 1) / (times[-1] - times[0])
    status = _status(system, "first")
    wanted = (rows + TENANT_ROWS) * 3 + 1
    return {
        "jobs accepted, of those wanted": f"{len(times):,} of {wanted:,}: each row once",
        "jobs of the first batch that succeeded": f"{status['ended']['succeeded']:,} of "
        f"{status['jobs']:,}",
        "refused by the provider": "none",
        "most in flight": f"{books['peak_in_flight']} of {IN_FLIGHT}",
        "rate, from the first submission to the last": f"{rate:.2f} a second, {rate / RATE:.1%} "
        "of what is allowed",
    }


def _interactive(system: System) -> float:
    out = _cli(system, "submit", "sonic.wav", "--source", "26c9c592-0566-46cf-bb71-91ac1deaa7b5",
               "--json")  # fmt: skip
    job_id = JobId(json.loads(out)[0]["job_id"])
    wait_until(lambda: system.state(job_id) == "succeeded", seconds=60)
    record = system.readings.read(job_id)
    at = next(turn["at"] for turn in record.timeline if turn["what"] == "submit")
    return float(at) - record.created_at


def _until_done(system: System, batch_id: str, seconds: float) -> tuple[float, list[int]]:
    """Return the seconds it took, and how many of the worker's slots were in use at each look."""
    began, in_use = time.monotonic(), list(wait_until(lambda: _look(system)))
    while not _status(system, batch_id)["done"]:
        if time.monotonic() - began > seconds:
            sys.exit(f"{batch_id} was not done in {seconds:.0f} s: {_status(system, batch_id)}")
        in_use += _look(system)
        time.sleep(0.5)
    return time.monotonic() - began, in_use


def _look(system: System) -> list[int]:
    """Ask the worker how many of its slots are in use; it may be too busy to answer."""
    active = system.app.control.inspect(limit=1, timeout=5).active() or {}
    return [len(tasks) for tasks in active.values()]


def _tasks(system: System) -> list[Any]:
    return list(system.simulator.books()["tasks"])


def _jobs(system: System, batch_id: str) -> int:
    try:
        return int(_status(system, batch_id)["jobs"])
    except subprocess.CalledProcessError:
        return 0


def _status(system: System, batch_id: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(_cli(system, "batch", "status", batch_id, "--json"))
    return found


def _start(system: System, *arguments: str) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "worker", *arguments]
    return subprocess.Popen(
        command, env=system.environment, cwd=system.folder, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip


def _cli(system: System, *arguments: str) -> str:
    command = [sys.executable, "-m", "worker", *arguments]
    done = subprocess.run(
        command, env=system.environment, cwd=system.folder, check=True, capture_output=True,
        text=True,
    )  # fmt: skip
    return done.stdout


if __name__ == "__main__":
    main()
