"""``fermata quarantine``: look at deliveries that could not be used, and use them after all."""

import base64
import json
import sys
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import click

from worker.cli import show
from worker.cli.group import EXIT_CODES, EXIT_FAILED, errors, json_option, main, out
from worker.core.errors import FermataError
from worker.core.job.models import Entry
from worker.core.providers import find
from worker.settings import Role, load
from worker.store.quarantine import Quarantine
from worker.wiring.receiver import open_deliveries
from worker.wiring.results import open_adoption
from worker.wiring.servers import open_redis

_ALL_OF_IT = "Every entry, the oldest first."


@main.group()
def quarantine() -> None:
    """Authentic deliveries that could not be used: look at them, replay, adopt or drop them.

    A delivery is kept here when the provider signed it, and yet it is

    \b
      unreadable   it cannot be parsed, by this version of Fermata at least
      orphan       its job has no record: past its retention, or lost with Redis's data

    The newest 1,000 are kept, and of those as many as fit into 64 MiB; a delivery that is repeated
    takes one place. If its job has a record, the record names each entry too.

    \b
    Examples:
      fermata quarantine list
      fermata quarantine show 1763800000000-0
      fermata quarantine verify 1763800000000-0
      fermata quarantine replay --all
      fermata quarantine adopt 1763800000000-0 sonic.remaster
    """


@quarantine.command("list", epilog=EXIT_CODES)
@click.option("--limit", default=50, show_default=True, help="How many, the newest ones.")
@json_option
def list_entries(limit: int, as_json: bool) -> None:
    """List the entries, the oldest first.

    \b
    Examples:
      fermata quarantine list
      fermata quarantine list --limit 1000 --json | jq -r '.[] | select(.kind == "orphan").job_id'
    """
    found = deque(_quarantine().entries(), maxlen=max(limit, 0))
    if as_json:
        click.echo(json.dumps([entry.to_json() for entry in found], indent=2))
    elif found:
        out.print(show.quarantine_table(found, width=out.width))
    else:
        errors.print("The quarantine is empty.")


@quarantine.command("show", epilog=EXIT_CODES)
@click.argument("entry")
@json_option
def show_entry(entry: str, as_json: bool) -> None:
    """Show one delivery whole: why it was kept, its headers, its body.

    Control characters are shown escaped. With --json the body is there to the byte, in Base64.

    \b
    Examples:
      fermata quarantine show 1763800000000-0
      fermata quarantine show 1763800000000-0 --json | jq -r .body_base64 | base64 -d > body
    """
    found = _quarantine().read(entry)
    if as_json:
        body = base64.b64encode(found.body).decode()
        click.echo(json.dumps(found.to_json() | {"body_base64": body}, indent=2))
    else:
        out.print(show.quarantined(found))


@quarantine.command(epilog=EXIT_CODES)
@click.argument("entry")
@json_option
def verify(entry: str, as_json: bool) -> None:
    """Check a delivery's signature again, and read it; nothing is changed.

    The exit code is 1, with the reason, if the signing key was retired, if the entry was changed,
    or if the delivery still cannot be read.

    \b
    Example:
      fermata quarantine verify 1763800000000-0
    """
    found, settings = _quarantine().read(entry), load(Role.RECEIVER)
    delivery = open_deliveries(settings, open_redis(settings)).verify(found)
    if as_json:
        click.echo(json.dumps({"event": delivery.event, "final": delivery.final}, indent=2))
    else:
        said = f"The signature is right. It can be read: {delivery.summary}."
        out.print(show.printable(said), markup=False, soft_wrap=True)


@quarantine.command(epilog=EXIT_CODES)
@click.argument("entries", nargs=-1, metavar="[ENTRY]...")
@click.option("--all", "everything", is_flag=True, help=_ALL_OF_IT)
@json_option
def replay(entries: Sequence[str], everything: bool, as_json: bool) -> None:
    """Take deliveries through the receiver's own door again, as if they came now.

    Do this after an upgrade that can read an unreadable delivery, or after a lost record was
    restored. The signature is checked again; the age is not, because it was checked when the
    delivery came.

    A job that still waits is resumed. A job that has ended stays as it is: a song that it ended
    without is kept on its record (see `fermata job`), and a duplicate is noted there. In each of
    these cases the entry has done its work and is removed. An entry that still cannot be used
    stays, with the reason, and makes the exit code 1; for an orphan, see
    `fermata quarantine adopt --help`.

    \b
    Examples:
      fermata quarantine replay 1763800000000-0
      fermata quarantine replay --all
    """
    kept = _quarantine()
    settings = load(Role.RECEIVER)
    deliveries = open_deliveries(settings, open_redis(settings))
    chosen = _chosen(kept, entries, everything=everything)
    outcomes = [_attempt(kept, entry, deliveries.replay) for entry in chosen]
    _report(outcomes, as_json=as_json)


@quarantine.command(epilog=EXIT_CODES)
@click.argument("entry")
@click.argument("operation")
@click.option("--tenant", metavar="NAME", help="Whose job it was; else the default tenant's.")
@json_option
def adopt(entry: str, operation: str, tenant: str | None, as_json: bool) -> None:
    """Give an orphan's job its record back, with the result that was delivered.

    The job's OPERATION and its tenant were lost with its record, so you name them: see
    `fermata operations`. The new
    record is succeeded, or failed if the provider says so, and `AsyncResult(job_id).get()`
    answers again. The follow-ups of the job (chain, chord, links) were lost with its record and do
    not run.

    \b
    Example:
      fermata quarantine adopt 1763800000000-0 sonic.remaster
    """
    kept, row = _quarantine(), find(operation)
    adoption = open_adoption(load(Role.RECEIVER))
    outcome = _attempt(
        kept, kept.read(entry), lambda found: adoption.adopt(found, row, tenant=tenant)
    )
    _report([outcome], as_json=as_json)


@quarantine.command(epilog=EXIT_CODES)
@click.argument("entries", nargs=-1, metavar="[ENTRY]...")
@click.option("--all", "everything", is_flag=True, help=_ALL_OF_IT)
@click.option("--yes", is_flag=True, help="Do not ask.")
def drop(entries: Sequence[str], everything: bool, yes: bool) -> None:
    """Forget deliveries for good.

    \b
    Examples:
      fermata quarantine drop 1763800000000-0
      fermata quarantine drop --all --yes
    """
    kept = _quarantine()
    doomed = [entry.entry_id for entry in _chosen(kept, entries, everything=everything)]
    if doomed and not yes:
        click.confirm(f"Forget {len(doomed)} of them for good?", abort=True, err=True)
    errors.print(f"Forgotten: {kept.drop(*doomed) if doomed else 0}")


def _quarantine() -> Quarantine:
    return Quarantine(open_redis(load(Role.CLIENT)))


def _chosen(kept: Quarantine, entries: Sequence[str], *, everything: bool) -> Iterable[Entry]:
    if bool(entries) == everything:
        raise click.UsageError("Name entries, or say --all.")
    return kept.entries() if everything else [kept.read(entry) for entry in entries]


def _attempt(kept: Quarantine, entry: Entry, use: Callable[[Entry], str]) -> dict[str, str | None]:
    """Use an entry, and remove it if that worked."""
    tried: dict[str, str | None] = {"entry_id": entry.entry_id, "job_id": entry.job_id}
    try:
        became = use(entry)
    except FermataError as error:
        return tried | {"became": None, "why": error.message}
    kept.drop(entry.entry_id)
    return tried | {"became": became, "why": ""}


def _report(outcomes: Sequence[dict[str, Any]], *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(outcomes, indent=2))
    elif not outcomes:
        errors.print("The quarantine is empty.")
    else:
        for tried in outcomes:
            said = tried["became"] or f"stays: {tried['why']}"
            line = f"{tried['entry_id']}  {tried['job_id']}  {said}"
            out.print(show.printable(line), markup=False, soft_wrap=True)
    if any(tried["became"] is None for tried in outcomes):
        sys.exit(EXIT_FAILED)
