"""The numbers that the house is held to: ``make numbers`` prints them, a test keeps them."""

import ast
import json
import re
import subprocess
import sys
import tokenize
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import click

ROOT: Final = Path(__file__).parent.parent.parent
WORKER: Final = ROOT / "worker"
FACING_CELERY: Final = {"messages", "mends", "app", "wiring", "doctor"}
CELERY: Final = {"celery", "kombu", "billiard", "amqp"}


@dataclass(frozen=True)
class Number:
    """One number of the house, with its limit and its goal."""

    what: str
    count: Callable[[], float]
    limit: float
    """The most that it may be; the least, if ``more_is_better``."""
    goal: float
    """The number that it is to become."""
    more_is_better: bool = False

    def holds(self, counted: float) -> bool:
        return counted >= self.limit if self.more_is_better else counted <= self.limit


def modules(folder: Path = WORKER) -> Iterator[Path]:
    return (path for path in folder.rglob("*.py") if "__pycache__" not in path.parts)


def folders() -> int:
    return sum(path.is_dir() and path.name != "__pycache__" for path in WORKER.iterdir())


def files() -> int:
    return sum(path.is_file() for path in WORKER.iterdir())


def modules_of_the_receiver() -> int:
    question = (
        "import json, sys, webhook_receiver.app\n"
        "ours = [m for m in sys.modules if m.split('.')[0] in ('worker', 'webhook_receiver')]\n"
        "print(json.dumps(len(ours)))"
    )
    asked = [sys.executable, "-c", question]
    return int(json.loads(subprocess.check_output(asked, cwd=ROOT, env={}, text=True)))


def modules_that_know_celery_elsewhere() -> int:
    return sum(
        bool(_imported(path) & CELERY)
        for path in modules()
        if path.relative_to(WORKER).parts[0] not in FACING_CELERY
        and path != WORKER / "cli" / "group.py"
    )


def _imported(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.partition(".")[0])
    return found


def highest_argument_index() -> int:
    texts = (path.read_text("utf-8") for path in (WORKER / "store" / "lua").rglob("*.lua"))
    indices = (int(n) for text in texts for n in re.findall(r"ARGV\[(\d+)\]", text))
    return max(indices, default=0)


def methods_of_the_largest_class() -> int:
    return max(
        sum(isinstance(each, ast.FunctionDef) for each in node.body)
        for path in modules()
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.ClassDef)
    )


def comments_per_100_lines() -> float:
    comments = lines = 0
    for path in modules():
        with path.open("rb") as source:
            comments += sum(t.type == tokenize.COMMENT for t in tokenize.tokenize(source.readline))
        lines += sum(bool(line.strip()) for line in path.read_text("utf-8").splitlines())
    return round(100 * comments / lines, 1)


NUMBERS: Final = (
    Number("folders in worker/", folders, 11, 11),
    Number("files in worker/", files, 9, 8),
    Number("modules of ours behind webhook_receiver.app", modules_of_the_receiver, 49, 40),
    Number(
        "modules that import Celery outside its rooms", modules_that_know_celery_elsewhere, 0, 0
    ),
    Number("highest index of an argument in Lua", highest_argument_index, 0, 0),
    # The port of a provider, core/ports.py:Provider; aimusic/provider.py:AIMusic has 13.
    Number("methods of the largest class", methods_of_the_largest_class, 14, 12),
    Number("comments per 100 lines of code", comments_per_100_lines, 3.0, 3, more_is_better=True),
)


def main() -> None:
    """Print a table: each number, its limit today, and its goal."""
    click.echo(f"{'':50} {'now':>6} {'limit':>6} {'goal':>6}")
    for number in NUMBERS:
        counted = number.count()
        click.echo(f"{number.what:50} {counted:6g} {number.limit:6g} {number.goal:6g}")


if __name__ == "__main__":
    main()
