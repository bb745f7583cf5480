"""``fermata batch``: many flows from one manifest."""

import json
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import click

from worker import manifest
from worker.cli.group import EXIT_CODES, EXIT_USAGE, errors, json_option, main, out
from worker.core.batch import Row, RowError

_CHUNK: Final = 64 * 1024
_EVERY_ROWS: Final = 500


@dataclass(slots=True)
class _Tally:
    """What a manifest comes to."""

    rows: int = 0
    jobs: int = 0
    credits: float = 0
    operations: Counter[str] = field(default_factory=Counter)
    errors: int = 0

    def add(self, row: Row) -> None:
        self.rows += 1
        self.jobs += len(row.plan.operations)
        self.credits += row.plan.credits
        self.operations[row.name] += 1

    def to_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}


@main.group()
def batch() -> None:
    """Run many flows from one manifest; docs/batches.md describes its form."""


@batch.command(epilog=EXIT_CODES)
@click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True))
@click.option(
    "--format", "format_", type=click.Choice([each.value for each in manifest.Format]),
    help="How FILE is written, where its name does not end in .csv, .jsonl or .yaml.",
)  # fmt: skip
@json_option
def check(file: str, format_: str | None, as_json: bool) -> None:
    """Check every row of a manifest and price it; nothing is submitted. `-` reads stdin.

    \b
    Examples:
      fermata batch check songs.csv
      make-songs | fermata batch check - --format jsonl --json
    """
    tally, found = _Tally(), list[RowError]()
    for error in _check(file, _format(file, format_), tally):
        tally.errors += 1
        if as_json:
            found.append(error)
        else:
            _print_error(error, first=tally.errors == 1)
    if as_json:
        listed = {"errors": [error.to_json() for error in found]}
        click.echo(json.dumps(tally.to_json() | listed, indent=2))
    else:
        _print_tally(tally)
    sys.exit(EXIT_USAGE if tally.errors else 0)


def _format(file: str, format_: str | None) -> manifest.Format:
    found = manifest.Format(format_) if format_ else manifest.format_of(file)
    if found is None:
        raise click.UsageError(f"say how {file} is written: --format csv, jsonl or yaml")
    return found


def _check(file: str, format_: manifest.Format, tally: _Tally) -> Iterator[RowError]:
    """Add up the rows that are right, and pass on what is wrong with the others."""
    with click.open_file(file, "rb") as opened, errors.status("checking") as status:
        chunks = iter(lambda: opened.read(_CHUNK), b"")
        for row in manifest.read(chunks, form=format_):
            if isinstance(row, RowError):
                yield row
                continue
            tally.add(row)
            if tally.rows % _EVERY_ROWS == 0:
                status.update(f"checking: {tally.rows:,} rows are right, {tally.errors:,} errors")


def _print_error(error: RowError, *, first: bool) -> None:
    """Print one line of a table that is never held as a whole."""
    if first:
        click.echo(f"{'line':>7}  {'column':<24}  reason")
    click.echo(f"{error.line:>7}  {error.column or '':<24}  {error.reason}")


def _print_tally(tally: _Tally) -> None:
    for name, rows in sorted(tally.operations.items()):
        out.print(f"{rows:>7}  {name}")
    out.print(f"{tally.rows:,} rows, {tally.jobs:,} jobs, {tally.credits:,g} credits at list price")
    if tally.errors:
        errors.print(f"{tally.errors:,} errors: nothing would be submitted", style="red")
