"""The benchmarks run, as their page says; what they find is the business of a quiet machine."""

import json
import math
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from benchmarks.__main__ import GROUPS
from benchmarks.peers import pins
from tests.system import ROOT, wait_until

COMMAND_SECONDS = 240
"""Many times what a run takes, for it may have half a core beside other tests."""


def start(folder: Path, *module: str, **settings: str) -> "subprocess.Popen[str]":
    """Start a benchmark in a folder of its own, where its temporary files land too."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "TMPDIR": str(folder)} | settings
    return subprocess.Popen(
        [sys.executable, "-m", *module], cwd=folder, env=environment,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip


def run(folder: Path, *module: str) -> str:
    """Run a benchmark to its end; returns what it printed."""
    with start(folder, *module) as process:
        try:
            said, errors = process.communicate(timeout=COMMAND_SECONDS)
        finally:
            process.send_signal(signal.SIGINT)
    assert process.returncode == 0, errors
    return said


def gone(family: list[psutil.Process]) -> bool:
    """Say whether none of these runs; what nobody has waited for yet is gone too."""
    alive = [each for each in family if each.is_running()]
    return all(each.status() == psutil.STATUS_ZOMBIE for each in alive)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder whose name leaves room for the names of sockets in it."""
    with tempfile.TemporaryDirectory(prefix="fermata-") as name:
        yield Path(name)


@pytest.mark.timeout(COMMAND_SECONDS + 60)
@pytest.mark.parametrize("groups", [[*GROUPS][::2], [*GROUPS][1::2]], ids=" ".join)
def test_a_quick_run_measures_each_group_and_leaves_the_page_alone(
    folder: Path, groups: list[str]
) -> None:
    page = (ROOT / "benchmarks" / "README.md").read_bytes()
    said = run(folder, "benchmarks", *groups, "--quick", "--markdown", "--json", "figures.json")

    found = json.loads((folder / "figures.json").read_text())
    figures: list[dict[str, Any]] = found["figures"]
    assert {figure["group"] for figure in figures} == set(groups)
    for figure in figures:
        assert f"| {figure['group']} | {figure['against']} | {figure['name']} |" in said
        for value in (figure["ours"], figure["other"], figure["ratio"], *figure["ratios"]):
            assert math.isfinite(value), figure
            assert value > 0, figure
    assert set(found["versions"]) >= {"Python", "Celery", "kombu"}
    assert (ROOT / "benchmarks" / "README.md").read_bytes() == page
    # A worker that is killed leaves billiard's own folder.
    left = [each.name for each in folder.iterdir() if not each.name.startswith("pymp-")]
    assert left == ["figures.json"]


@pytest.mark.timeout(COMMAND_SECONDS + 60)
def test_a_small_batch_is_measured_by_the_simulators_books(tmp_path: Path) -> None:
    said = run(tmp_path, "benchmarks.batch", "--rows", "4")
    assert "| jobs accepted, of those wanted | 43 of 43: each row once |" in said
    assert "| jobs of the first batch that succeeded | 12 of 12 |" in said
    assert "of 2, in the mean of" in said


def test_the_cost_of_a_manifest_is_measured_for_each_length(tmp_path: Path) -> None:
    *_, short, long = run(tmp_path, "benchmarks.rows", "10", "20").splitlines()
    for rows, line in (("10", short), ("20", long)):
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        assert cells[0] == rows
        assert float(cells[2].removesuffix(" MiB")) > 10
        assert float(cells[3].removesuffix(" bytes").replace(",", "")) > 0


NO_REGISTRY = {
    "PIP_NO_INDEX": "1",
    "PIP_FIND_LINKS": "",
    "npm_config_offline": "true",
}


def beside_peers(folder: Path, *peers: str) -> "subprocess.CompletedProcess[str]":
    """Measure quickly beside peers, while no registry can be reached."""
    command = ("benchmarks.peers", *peers, "--quick")
    with start(folder, *command, **NO_REGISTRY) as process:
        try:
            said = process.communicate(timeout=COMMAND_SECONDS)
        finally:
            process.send_signal(signal.SIGINT)
    return subprocess.CompletedProcess(command, process.returncode, *said)


@pytest.mark.timeout(COMMAND_SECONDS + 60)
def test_a_run_goes_on_without_a_peer_that_cannot_be_fetched(tmp_path: Path) -> None:
    page = (ROOT / "benchmarks" / "README.md").read_bytes()
    done = beside_peers(tmp_path, "celery", "dbos")

    assert done.returncode == 0, done.stderr
    [why] = [line for line in done.stderr.splitlines() if line.startswith("skipped:")]
    assert why.startswith(f"skipped: dbos: dbos=={pins.DBOS} cannot be had from its registry: ")
    assert "peers, against: plain Celery" in done.stdout
    rows = [line.split("│") for line in done.stdout.splitlines() if line.startswith("│")]
    assert len(rows) == 5
    for _, what, _unit, ours, other, ratio, _rounds, _ in rows:
        assert all(float(each.replace(",", "")) > 0 for each in (ours, other, ratio)), what
    assert (ROOT / "benchmarks" / "README.md").read_bytes() == page
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_no_peer_can_be_fetched_for_says_why_of_each(tmp_path: Path) -> None:
    done = beside_peers(tmp_path, "dbos", "restate")

    assert done.returncode == 1
    reasons = [line for line in done.stderr.splitlines() if not line.startswith("setting up:")]
    skipped = [line.partition(" cannot be had from its registry: ")[0] for line in reasons]
    assert skipped == [
        f"skipped: dbos: dbos=={pins.DBOS}",
        f"skipped: restate: restate-sdk=={pins.RESTATE_SDK}",
        "Error: there is no peer to measure beside: see the reasons above",
    ]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("module", "children", "number"),
    [
        (("benchmarks", "memory"), 3, signal.SIGINT),
        (("benchmarks.rows", "100000"), 4, signal.SIGTERM),
        (("benchmarks.peers", "celery"), 5, signal.SIGINT),
    ],
    ids=["Ctrl-C", "SIGTERM", "Ctrl-C beside a peer"],
)
def test_a_run_that_is_ended_leaves_nothing(
    tmp_path: Path, module: tuple[str, ...], children: int, number: signal.Signals
) -> None:
    with start(tmp_path, *module) as process:
        benchmark = psutil.Process(process.pid)
        wait_until(lambda: len(benchmark.children()) == children, seconds=60, what="all runs")
        family = benchmark.children(recursive=True)
        process.send_signal(number)
        process.communicate(timeout=60)

    assert process.returncode != 0
    wait_until(lambda: gone(family), what=f"all of them are gone: {family}")
    assert list(tmp_path.iterdir()) == []


DEAF = """
import contextlib, os, signal, time
from benchmarks.house import undisturbed

class Deaf:
    def __enter__(self):
        with contextlib.suppress(BaseException):
            os.kill(os.getpid(), signal.SIGTERM)
        return self

    def __exit__(self, *_):
        os.kill(os.getpid(), signal.SIGINT)
        print("stopped")

with undisturbed(Deaf()):
    time.sleep(30)
"""
"""A run whose start swallows that it is to end; a second signal comes while it ends."""


def test_a_signal_that_a_library_swallows_ends_a_run_all_the_same(tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", DEAF]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert "KeyboardInterrupt" in ended.stderr
    assert (ended.stdout, ended.returncode) == ("stopped\n", -signal.SIGINT)
