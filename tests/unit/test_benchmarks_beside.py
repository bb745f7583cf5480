"""A run beside another checkout compares what both measure."""

import json
from pathlib import Path

import pytest

from benchmarks import beside


def checkout(folder: Path, code: int = 0, **figures: float) -> Path:
    """Make a checkout whose benchmark measures just these figures."""
    python = folder / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    told = [{"name": name, "unit": "/s", "ours": value} for name, value in figures.items()]
    written = json.dumps({"figures": told})
    script = f"#!/bin/sh\nfor last; do :; done\necho '{written}' >\"$last\"\nexit {code}\n"
    python.write_text(script, "utf-8")
    python.chmod(0o700)
    return folder


def test_what_both_checkouts_measure_is_compared_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(beside, "ROOT", checkout(tmp_path / "here", parks=300, claims=7))
    there = checkout(tmp_path / "there", parks=100, resumes=50)

    [figure] = beside.measure("park", there, quick=False)
    assert (figure.subject.group, figure.subject.name, figure.subject.unit) == (
        "park",
        "parks",
        "/s",
    )
    assert figure.subject.against == str(there)
    assert (figure.ours, figure.other, figure.ratios) == (300, 100, (3.0,) * beside.ROUNDS)


def test_a_checkout_whose_benchmark_fails_gives_no_figure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(beside, "ROOT", checkout(tmp_path / "here", parks=300))
    there = checkout(tmp_path / "there", code=3, parks=100)
    with pytest.raises(RuntimeError, match="there: the benchmark ended with exit code 3"):
        beside.measure("park", there, quick=True)
