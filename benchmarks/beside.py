"""The same group, measured by another checkout of Fermata: by its own code, on its own libraries.

Its ``benchmarks`` must know the group; figures are compared if both give them the same name.
"""

import json
import os
import signal
import subprocess
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Final

from benchmarks.figures import Figure, Subject, compare
from tests.system import ROOT

ROUNDS: Final = 3

Name = tuple[str, str]
"""What a figure is called, and its unit."""


def measure(group: str, checkout: Path, *, quick: bool) -> list[Figure]:
    """Measure here and there in turn; the ratio is Fermata here ÷ Fermata there."""
    here: dict[Name, list[float]] = defaultdict(list)
    there: dict[Name, list[float]] = defaultdict(list)
    for _ in range(1 if quick else ROUNDS):
        for root, samples in ((ROOT, here), (checkout.resolve(), there)):
            for name, value in _run(root, group, quick=quick).items():
                samples[name].append(value)
    return [
        compare(Subject(group, *name, str(checkout)), values, there[name])
        for name, values in here.items()
        if name in there
    ]


def _run(root: Path, group: str, *, quick: bool) -> dict[Name, float]:
    """Run a checkout's own benchmark to its end; returns what it measured of Fermata."""
    with tempfile.TemporaryDirectory() as folder:
        written = Path(folder) / "figures.json"
        command = [str(root / ".venv/bin/python"), "-m", "benchmarks", group]
        with subprocess.Popen(
            [*command, *(["--quick"] if quick else []), "--json", str(written)],
            cwd=root,
            env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
            stdout=subprocess.DEVNULL,
        ) as process:
            try:
                code = process.wait()
            except BaseException:
                process.send_signal(signal.SIGINT)  # it ends what it has started
                process.wait()
                raise
        if code:
            raise RuntimeError(f"{root}: the benchmark ended with exit code {code}")
        figures = json.loads(written.read_text("utf-8"))["figures"]
    return {(figure["name"], figure["unit"]): figure["ours"] for figure in figures}
