"""Measure: ``python -m benchmarks``, which is what ``make bench`` runs."""

import logging
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

import click
import structlog

from benchmarks import (
    acknowledge,
    beside,
    crash,
    desk,
    house,
    latency,
    machine,
    memory,
    page,
    park,
    report,
    resolve,
    scale,
    slow_provider,
)
from benchmarks.effort import FULL, QUICK, Effort
from benchmarks.figures import Figure

GROUPS: Final[dict[str, Callable[[Effort], list[Figure]]]] = {
    "acknowledge": acknowledge.measure,
    "park": park.measure,
    "memory": memory.measure,
    "latency": latency.measure,
    "resolve": resolve.measure,
    "slow-provider": slow_provider.measure,
    "scale": scale.measure,
    "crash": crash.measure,
    "desk": desk.measure,
}

HELP = """Measure Fermata on real processes, each figure against plain Flask or Celery, or itself.

\b
  acknowledge    CPU and rate of accepted webhooks, against a bare Flask view
  park           parks and resumes a second, against a plain Celery no-op task
  memory         bytes a parked job, against the same job waiting in a queue
  latency        webhook to next submit, against a step of a plain chain
  resolve        webhook to stored result, against a plain task behind a Flask view
  slow-provider  submits a second that are answered after 1 s, against a pool of processes
  scale          a million parked jobs, against a thousand
  crash          kill -9 of a worker to its jobs' resumption, against a lease
  desk           looks at a hundred thousand jobs, against a thousand

Without a GROUP all are measured, in about five minutes. Every figure is a ratio of two things
measured in one run: compare ratios between machines, never absolute numbers. Other work on the
machine spoils it; the spread over the rounds shows by how much.

\b
Examples:
  python -m benchmarks
  python -m benchmarks park latency --json figures.json
  python -m benchmarks --write           renew the table of benchmarks/README.md
  python -m benchmarks --quick           does it run? (no figure to keep)
  python -m benchmarks park --beside ../last-week    against another checkout with a .venv
"""


@click.command(help=HELP)
@click.argument("groups", metavar="[GROUP]...", nargs=-1, type=click.Choice(list(GROUPS)))
@click.option("--quick", is_flag=True, help="One small round, some seconds a group.")
@click.option("--markdown", is_flag=True, help="Print one Markdown table.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write a JSON file too.")
@click.option("--write", is_flag=True, help="Write that table into benchmarks/README.md.")
@click.option(
    "--beside",
    "checkout",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Compare with another checkout of Fermata instead, three times in turn.",
)
def main(
    *,
    groups: tuple[str, ...],
    quick: bool,
    markdown: bool,
    json_file: Path | None,
    write: bool,
    checkout: Path | None,
) -> None:
    if write and (quick or groups or checkout):
        raise click.UsageError(
            "--write keeps the figures of a full run: no GROUP, no --quick and no --beside"
        )
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    _be_quiet()
    if quick:
        house.share_imports()
    made_on = machine.look()
    figures: list[Figure] = []
    for group in groups or GROUPS:
        click.echo(f"measuring: {group}", err=True)
        if checkout:
            figures += beside.measure(group, checkout, quick=quick)
        else:
            figures += GROUPS[group](QUICK if quick else FULL)
    if json_file:
        json_file.write_text(report.to_json(figures, made_on), "utf-8")
    if write:
        page.renew("figures", report.markdown(figures, made_on))
    if markdown:
        click.echo(report.markdown(figures, made_on), nl=False)
    else:
        report.show(figures, made_on)


def _be_quiet() -> None:
    """Keep the log of what runs in this very process out of the report."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))


if __name__ == "__main__":
    sys.exit(main())
