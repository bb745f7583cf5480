"""Show figures: a table for a terminal, the same as Markdown, and JSON."""

import json
import sys
from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table

from benchmarks.figures import Figure
from benchmarks.machine import Machine
from benchmarks.page import table

COLUMNS = ("figure", "unit", "Fermata", "the other", "ratio", "rounds (low to high)")
PIPED_WIDTH = 110


def show(figures: Sequence[Figure], machine: Machine) -> None:
    """Print one table for each group, and what it was measured against."""
    console = Console(width=None if sys.stdout.isatty() else PIPED_WIDTH)
    for group, against in _headings(figures):
        shown = Table(*COLUMNS, title=f"{group}, against: {against}", title_justify="left")
        for column in shown.columns[2:]:
            column.justify = "right"
        for figure in figures:
            if _heading(figure) == (group, against):
                shown.add_row(*_cells(figure))
        console.print(shown)
    console.print(f"ratio = Fermata ÷ the other, measured in one run. {machine}")


def markdown(figures: Sequence[Figure], machine: Machine) -> str:
    """Return the README's table, and what it was measured on."""
    rows = [(*_heading(figure), *_cells(figure)) for figure in figures]
    return f"{machine}\n\n" + table(("", "against", *COLUMNS), rows, words=4)


def to_json(figures: Sequence[Figure], machine: Machine) -> str:
    """Return everything that was measured, every round's ratio included."""
    found = {"figures": [figure.to_json() for figure in figures]} | machine.to_json()
    return json.dumps(found, indent=2) + "\n"


def _headings(figures: Iterable[Figure]) -> list[tuple[str, str]]:
    return list(dict.fromkeys(_heading(figure) for figure in figures))


def _heading(figure: Figure) -> tuple[str, str]:
    return figure.subject.group, figure.subject.against


def _cells(figure: Figure) -> tuple[str, ...]:
    spread = f"{min(figure.ratios):.2f} to {max(figure.ratios):.2f}"
    rounds = f"{len(figure.ratios)} ({spread})" if len(figure.ratios) > 1 else "1"
    values = (_number(figure.ours), _number(figure.other), f"{figure.ratio:.2f}")
    return (figure.subject.name, figure.subject.unit, *values, rounds)


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}"
