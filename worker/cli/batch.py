"""``fermata batch``: many flows from one manifest."""

import contextlib
import io
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

import click
from rich.console import Console

from worker.batch import Batch, Ledger, Retrying, Runs, Submission, Tally, manifest, report
from worker.cli import show
from worker.cli.group import (
    EXIT_CODES,
    EXIT_FAILED,
    EXIT_FILE,
    EXIT_INTERRUPTED,
    EXIT_TIMEOUT,
    EXIT_USAGE,
    errors,
    fail,
    json_option,
    main,
    out,
    tell,
)
from worker.core.amounts import count
from worker.core.batch import Row, RowError
from worker.core.job.lanes import TENANT, TENANT_FORM
from worker.settings import Role, load
from worker.wiring.batches import open_batches

_CHUNK: Final = 64 * 1024
_EVERY_ROWS: Final = 500
_LOOK_EVERY_SECONDS: Final = 1.0
_TELL_EVERY_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True)
class _Manifest:
    """A file that can be read several times, and its format."""

    path: Path
    form: manifest.Format

    def rows(self) -> Iterator[Row | RowError]:
        with self.path.open("rb") as opened:
            yield from manifest.read(iter(lambda: opened.read(_CHUNK), b""), form=self.form)

    def right_rows(self) -> Iterator[Row]:
        return (row for row in self.rows() if isinstance(row, Row))


@main.group()
def batch() -> None:
    """Run many flows from one manifest; docs/batches.md describes its form."""


_file = click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True))
_form = click.option(
    "--format", "form", type=click.Choice([each.value for each in manifest.Format]),
    help="The format of FILE, if its name does not end in .csv, .jsonl or .yaml.",
)  # fmt: skip
_id = click.option(
    "--id", "batch_id", metavar="NAME",
    help="The batch's name. Default: FILE without its folder and its suffix.",
)  # fmt: skip
_name = click.argument("batch_id")


@batch.command(epilog=EXIT_CODES)
@_file
@_form
@json_option
def check(file: str, form: str | None, as_json: bool) -> None:
    """Check every row of a manifest and price it; nothing is submitted. `-` reads stdin.

    \b
    Examples:
      fermata batch check songs.csv
      make-songs | fermata batch check - --format jsonl --json
    """
    with _opened(file, form) as found:
        tally = _check(found, as_json=as_json)
    sys.exit(EXIT_USAGE if tally.errors else 0)


@batch.command(epilog=EXIT_CODES)
@_file
@_form
@_id
@click.option("--skip-bad", is_flag=True, help="Submit the rows that are right.")
@click.option("--dry-run", is_flag=True, help="Check and price it; the same as `batch check`.")
@click.option("--wait", is_flag=True, help="Show its progress until all jobs have ended.")
@json_option
def submit(  # noqa: PLR0917  (click passes them by name)
    file: str,
    form: str | None,
    batch_id: str | None,
    skip_bad: bool,
    dry_run: bool,
    wait: bool,
    as_json: bool,
) -> None:
    """Check a manifest, then submit every row of it that was not submitted before.

    All rows are checked first; if one is wrong, nothing is submitted. Run it again after a crash,
    or with more rows in the manifest: it submits the rows that are missing, and none twice, for
    as long as the batch is remembered (two weeks by default).

    \b
    Examples:
      fermata batch submit songs.csv --wait
      make-songs | fermata batch submit - --format jsonl --id friday
    """
    with _opened(file, form) as found:
        if dry_run:
            sys.exit(EXIT_USAGE if _check(found, as_json=as_json).errors else 0)
        batch_id = _batch_id(file, batch_id)
        batches = open_batches(load(Role.CLIENT))
        ledger = batches.ledger
        # Asked before the check: a batch that was cancelled earlier is submitted again, but one
        # that somebody cancels during the check stays cancelled.
        again = ledger.is_cancelled(batch_id)
        # With --json, standard output has the outcome of the submit; the check goes to stderr.
        tally = _check(found, as_json=False, err=as_json)
        if tally.errors and not skip_bad:
            sys.exit(EXIT_USAGE)
        opened = ledger.open(
            batch_id,
            now=time.time(),
            rows=tally.rows,
            expected_jobs=tally.jobs,
            expected_credits=tally.credits,
            manifest="" if file == "-" else str(found.path.resolve()),
            again=again,
        )
        done = (
            _submit(batches.runs, found, batch_id, tally) if opened else Submission(cancelled=True)
        )
    _print_submission(batch_id, done, as_json=as_json and not wait, err=as_json)
    if wait:
        _watch(ledger, batch_id, None, as_json=as_json)


def _submit(runs: Runs, found: _Manifest, batch_id: str, tally: Tally) -> Submission:
    with _progress("submitting", tally.rows) as progress:
        return runs.submit(batch_id, found.right_rows(), progress)


def _print_submission(batch_id: str, done: Submission, *, as_json: bool, err: bool) -> None:
    if as_json:
        described = {"batch_id": batch_id, "submitted": done.submitted, "present": done.present}
        click.echo(json.dumps(described))
    else:
        said = (
            f"batch {batch_id}: {count(done.submitted, 'row')} submitted, {done.present:,} before"
        )
        click.echo(said, err=err)
    if done.cancelled:
        fail(
            f"batch {batch_id} was cancelled meanwhile: its rows end, or were not submitted",
            EXIT_FAILED,
        )


@batch.command(epilog=EXIT_CODES)
@_name
@click.option("--timeout", type=float, metavar="SECONDS", help="Stop watching after this long.")
@json_option
def watch(batch_id: str, timeout: float | None, as_json: bool) -> None:
    """Show a batch live until all its jobs have ended; Ctrl-C stops watching, not the batch."""
    ledger = open_batches(load(Role.CLIENT)).ledger
    _watch(ledger, batch_id, timeout, as_json=as_json)


@batch.command(epilog=EXIT_CODES)
@_name
@json_option
def status(batch_id: str, as_json: bool) -> None:
    """Show how a batch stands."""
    ledger = open_batches(load(Role.CLIENT)).ledger
    _print(ledger.read(batch_id), as_json=as_json)


@batch.command("list", epilog=EXIT_CODES)
@click.option(
    "--limit", type=click.IntRange(min=1), default=20, show_default=True,
    help="How many, newest first.",
)  # fmt: skip
@json_option
def list_(limit: int, as_json: bool) -> None:
    """List the newest batches."""
    ledger = open_batches(load(Role.CLIENT)).ledger
    found = ledger.recent(limit)
    if as_json:
        click.echo(json.dumps([each.to_json() for each in found], indent=2))
    elif found:
        out.print(show.batches_table(found))
    else:
        errors.print("There are no batches yet.")


@batch.command(epilog=EXIT_CODES)
@_name
@json_option
def cancel(batch_id: str, as_json: bool) -> None:
    """Cancel all jobs of a batch that have not ended; a run that still submits it stops.

    The provider may still charge for a song that it is working on; it is kept on the job's record.
    """
    batches, cancelled, cursor = open_batches(load(Role.CLIENT)), 0, None
    with errors.status("cancelling") as live:
        while True:
            done = batches.runs.cancel(batch_id, by="batch cancel", cursor=cursor)
            cancelled += done.ending
            cursor = done.cursor
            if cursor is None:
                break
            live.update(f"{count(cancelled, 'job')} cancelled")
    found = batches.ledger.read(batch_id)
    over = " (it is over already)" if found.done and not cancelled else ""
    if as_json:
        click.echo(json.dumps({"batch_id": batch_id, "cancelled": cancelled}))
    else:
        out.print(f"batch {batch_id}: {count(cancelled, 'job')} cancelled{over}")
    if ending := found.live:
        tell(f"{count(ending, 'job')} still ending: see `fermata batch status {batch_id}`")


@batch.command(epilog=EXIT_CODES)
@_name
@click.option("--failed", is_flag=True, required=True, help="What to retry: the jobs that failed.")
@click.option(
    "--even-if-paid", is_flag=True,
    help="Also retry what the provider may have charged for, although nobody has its result.",
)  # fmt: skip
@json_option
def retry(batch_id: str, failed: bool, even_if_paid: bool, as_json: bool) -> None:
    """Run the failed jobs of a batch again, each at its price; what is to follow them follows.

    No job that succeeded is paid again. Each runs as it was first asked for: to run a row with
    other parameters, change it, and its key if it has one, and submit the manifest again.

    \b
    Examples:
      fermata batch retry songs --failed
      fermata batch retry songs --failed --even-if-paid
    """
    batches, done = open_batches(load(Role.CLIENT)), Retrying()
    with errors.status("retrying") as live:
        while True:
            slice_ = batches.runs.retry(
                batch_id, by="batch retry", even_if_paid=even_if_paid, cursor=done.cursor
            )
            done.retried += slice_.retried
            done.refused += slice_.refused
            done.cursor = slice_.cursor
            if done.cursor is None:
                break
            live.update(f"{count(done.retried, 'job')} run again")
    if as_json:
        told = {"batch_id": batch_id, "retried": done.retried, "refused": done.refused}
        click.echo(json.dumps(told))
    else:
        out.print(f"batch {batch_id}: {count(done.retried, 'job')} run again")
    for why, jobs in done.refused.items():
        tell(f"{count(jobs, 'job')} not retried: {why}")
    if done.refused:
        fail(f"see them by `fermata batch report {batch_id}`", EXIT_FAILED)


@batch.command("report", epilog=EXIT_CODES)
@_name
@click.option(
    "--format", "form", type=click.Choice(["csv", "jsonl"]), default="csv", show_default=True
)
@click.option("--output", type=click.Path(dir_okay=False), help="Default: stdout.")
def report_(batch_id: str, form: str, output: str | None) -> None:
    """Write one line for each row, in UTF-8: its state, files, error and cost."""
    batches = open_batches(load(Role.CLIENT))
    batches.ledger.read(batch_id)
    with _written(output) as to:
        report.write(report.lines(batches.rows, batch_id), to, as_csv=form == "csv")


@contextmanager
def _written(output: str | None) -> Iterator[IO[str]]:
    """Open the output. A pipe or a file gets UTF-8, whatever the terminal's encoding is."""
    if output not in {None, "-"}:
        with Path(str(output)).open("w", encoding="utf-8") as file:
            yield file
        return
    if isinstance(sys.stdout, io.TextIOWrapper) and not sys.stdout.isatty():
        sys.stdout.reconfigure(encoding="utf-8")
    yield sys.stdout
    sys.stdout.flush()


@contextmanager
def _opened(file: str, form: str | None) -> Iterator[_Manifest]:
    """Open a manifest. Standard input is copied to a file first, because it is read twice."""
    found = manifest.Format(form) if form else manifest.format_of(file)
    if found is None:
        raise click.UsageError(f"say how {file} is written: --format csv, jsonl or yaml")
    if file != "-":
        yield _Manifest(Path(file), found)
        return
    with contextlib.ExitStack() as stack:
        try:
            kept = stack.enter_context(tempfile.NamedTemporaryFile())
            shutil.copyfileobj(sys.stdin.buffer, kept)
            kept.flush()
        except OSError as error:
            why = f"standard input cannot be kept in a file: {error.strerror}; set TMPDIR to a "
            fail(f"{why}folder that can be written to", EXIT_FILE)
        yield _Manifest(Path(kept.name), found)


def _batch_id(file: str, given: str | None) -> str:
    if given is None and file == "-":
        raise click.UsageError("name the batch: --id NAME")
    batch_id = given or Path(file).stem
    if not TENANT.fullmatch(batch_id):
        raise click.UsageError(f"{batch_id!r} is no name for a batch; it must be {TENANT_FORM}")
    return batch_id


def _check(found: _Manifest, *, as_json: bool, err: bool = False) -> Tally:
    """Check every row; print the errors and the sums."""
    tally, listed = Tally(), list[RowError]()
    with errors.status("checking") as live:
        for row in found.rows():
            if isinstance(row, Row):
                tally.add(row)
            else:
                tally.errors += 1
                if as_json:
                    listed.append(row)
                else:
                    _print_error(row, first=tally.errors == 1, err=err)
            if (tally.rows + tally.errors) % _EVERY_ROWS == 0:
                live.update(f"checking: {tally.rows:,} rows right, {count(tally.errors, 'error')}")
    if as_json:
        wrong = {"errors": [error.to_json() for error in listed]}
        click.echo(json.dumps(tally.to_json() | wrong, indent=2))
    else:
        _print_tally(tally, err=err)
    return tally


def _print_error(error: RowError, *, first: bool, err: bool) -> None:
    """Print one line of a table. The lines are not collected: there may be very many."""
    if first:
        click.echo(f"{'line':>7}  {'column':<24}  reason", err=err)
    click.echo(f"{error.line:>7}  {error.column or '':<24}  {error.reason}", err=err)


def _print_tally(tally: Tally, *, err: bool) -> None:
    told = errors if err else out
    for name, rows in sorted(tally.operations.items()):
        told.print(f"{rows:>7}  {name}")
    told.print(
        f"{count(tally.rows, 'row')}, {count(tally.jobs, 'job')}, "
        f"{count(tally.credits, 'credit')} at list price"
    )
    if tally.errors:
        errors.print(f"{count(tally.errors, 'error')}: nothing would be submitted", style="red")


@contextmanager
def _progress(what: str, total: int) -> Iterator[Callable[[int], None]]:
    with errors.status(what) as live:
        yield lambda done: live.update(f"{what}: {done:,} of {total:,} rows")


def _watch(ledger: Ledger, batch_id: str, timeout: float | None, *, as_json: bool) -> None:
    try:
        found = _follow(ledger, batch_id, timeout, errors if as_json else out)
    except KeyboardInterrupt:
        going = f"interrupted; the batch goes on: see `fermata batch watch {batch_id}`"
        fail(going, EXIT_INTERRUPTED)
    if as_json:
        click.echo(json.dumps(found.to_json(), indent=2))
    if not found.done:
        fail("--timeout is over; the batch goes on", EXIT_TIMEOUT)
    if found.errors:
        sys.exit(EXIT_FAILED)


def _follow(ledger: Ledger, batch_id: str, timeout: float | None, console: Console) -> Batch:
    """Show a batch live; without a terminal, print a line now and then."""
    give_up = None if timeout is None else time.monotonic() + timeout
    began, first, tell_at = time.monotonic(), ledger.read(batch_id), 0.0
    with show.live(console) as live:
        while True:
            found, now = ledger.read(batch_id), time.monotonic()
            live.update(show.batch(found, since=first, seconds=now - began), refresh=True)
            if not console.is_terminal and (now >= tell_at or found.done):
                tell_at = now + _TELL_EVERY_SECONDS
                tell(show.batch_line(found))
            if found.done or (give_up is not None and now > give_up):
                return found
            time.sleep(_LOOK_EVERY_SECONDS)


def _print(found: Batch, *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(found.to_json(), indent=2))
    else:
        out.print(show.batch(found))
