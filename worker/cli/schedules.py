"""``fermata schedules``: the timetable and its runs."""

import json

import click

from worker.cli import show
from worker.cli.group import EXIT_CODES, errors, json_option, main, out
from worker.core.amounts import count
from worker.settings import Role, load
from worker.wiring.batches import open_run_now, open_timetable


@main.group()
def schedules() -> None:
    """Batches on a cron line; docs/schedules.md describes the timetable."""


@schedules.command("list", epilog=EXIT_CODES)
@json_option
def list_(as_json: bool) -> None:
    """List the schedules, with their last run and how many were missed."""
    timetable = open_timetable(load(Role.CLIENT))
    found = [timetable.describe(each) for each in timetable.schedules.values()]
    if as_json:
        click.echo(json.dumps(found, indent=2))
    elif found:
        out.print(show.schedules_table(found))
    else:
        errors.print("The timetable is empty.")


@schedules.command(epilog=EXIT_CODES)
def check() -> None:
    """Check the timetable; if it is wrong, print every mistake and end with exit code 3."""
    found = open_timetable(load(Role.CLIENT)).schedules
    out.print(f"{count(len(found), 'schedule')}, all right")


@schedules.command(epilog=EXIT_CODES)
@click.argument("name")
def run(name: str) -> None:
    """Start a schedule now, as a batch named after this minute.

    A worker reads the manifest and submits it; `fermata schedules list` shows the outcome.
    """
    batch_id = open_run_now(load(Role.CLIENT))(name)
    left = f"batch {batch_id} is left to a worker; what comes of it: fermata schedules list"
    out.print(left, soft_wrap=True)
    out.print(f"once it is being submitted: fermata batch watch {batch_id}", soft_wrap=True)
