"""Measure beside peers: ``python -m benchmarks.peers``, which is what ``make bench-peers`` runs."""

import contextlib
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from typing import Final

import click

from benchmarks import machine, page, report
from benchmarks.effort import FULL, QUICK
from benchmarks.house import house
from benchmarks.peers import rounds
from benchmarks.peers.dbos import dbos
from benchmarks.peers.fermata import Fermata
from benchmarks.peers.peer import Missing, Peer
from benchmarks.peers.plain import Plain
from benchmarks.peers.restate import restate

PEERS: Final[dict[str, Callable[[Fermata], AbstractContextManager[Peer]]]] = {
    "celery": lambda ours: contextlib.nullcontext(Plain(ours.home, ours.worker)),
    "dbos": lambda ours: dbos(ours.home),
    "restate": lambda ours: restate(ours.home),
}

HELP = """Measure Fermata beside other systems that do the same work, in turn, in one run.

\b
  celery    a plain Celery task that submits, and a second one behind a Flask view
  dbos      DBOS Transact on PostgreSQL, which this machine must have
  restate   Restate's server and its Python SDK; npm fetches the server

Without a PEER all are measured. They are installed into temporary folders from the registries of
pip and npm, and are gone at the end. One that cannot be set up is skipped, with the reason.
"""


@click.command(help=HELP)
@click.argument("peers", metavar="[PEER]...", nargs=-1, type=click.Choice(list(PEERS)))
@click.option("--quick", is_flag=True, help="One small round: does it run? (no figure to keep)")
@click.option("--write", is_flag=True, help="Write the table into benchmarks/README.md.")
def main(*, peers: tuple[str, ...], quick: bool, write: bool) -> None:
    if write and (quick or peers):
        raise click.UsageError("--write keeps the figures of a full run: no PEER and no --quick")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    made_on = machine.look()
    with house() as home, _started(Fermata(home), peers or PEERS) as (ours, others):
        if not others:
            raise click.ClickException("there is no peer to measure beside: see the reasons above")
        click.echo(f"measuring: Fermata, {', '.join(each.name for each in others)}", err=True)
        figures = rounds.measure(ours, others, QUICK if quick else FULL)
    report.show(figures, made_on)
    if write and len(others) == len(PEERS):
        page.renew("peers", report.markdown(figures, made_on))
    elif write:
        click.echo("benchmarks/README.md stays as it is: it holds all peers of one run", err=True)


@contextlib.contextmanager
def _started(ours: Fermata, names: Iterable[str]) -> Iterator[tuple[Fermata, list[Peer]]]:
    """Set up the peers that can be; say of each other one why it is skipped."""
    with contextlib.ExitStack() as stack:
        peers = []
        for name in names:
            click.echo(f"setting up: {name}", err=True)
            try:
                peers.append(stack.enter_context(PEERS[name](ours)))
            except Missing as why:
                click.echo(f"skipped: {name}: {why}", err=True)
        yield ours, peers


if __name__ == "__main__":
    sys.exit(main())
