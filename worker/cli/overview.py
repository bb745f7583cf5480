"""``fermata status`` and ``fermata jobs``: how all is, and which jobs there are.

Both read what the scripts count and index as jobs move, so they cost the same however many there
are.
"""

import json
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import click
from rich.table import Table

from worker.cli import show
from worker.cli.group import EXIT_CODES, errors, json_option, main, out, tell
from worker.cli.show import coloured, fitted, safe, utc
from worker.core import overview as views
from worker.core.job.states import JobState
from worker.core.overview import Filter, Row
from worker.core.providers import chosen, find
from worker.engine.describe import record_json
from worker.settings import Role, Settings, load
from worker.store.counters import Counters
from worker.store.lists import Lists
from worker.store.quarantine import Quarantine
from worker.store.readings import Readings
from worker.wiring.servers import open_readings, open_redis

_WATCH_SECONDS: Final = 2
_MINUTES: Final = 60
_AGO: Final = re.compile(r"(\d+(?:\.\d+)?)([smhd])")
_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}


@dataclass(frozen=True, slots=True)
class _Status:
    """How all is now; the share and the waits are those of the last hour."""

    jobs: Mapping[JobState, int]
    gate: str
    settled_by_webhook: int
    settled_by_poll: int
    """Jobs of operations that take a webhook."""
    webhook_share: float | None
    webhook_share_is_low: bool
    wait_p50_seconds: float | None
    wait_p95_seconds: float | None
    oldest_seconds: Mapping[JobState, float]
    """For each state in which a job stands that has not ended."""
    workers_silent_seconds: Mapping[str, float]
    quarantine: int
    unconfirmed: int


@main.command(epilog=EXIT_CODES)
@click.option("--watch", is_flag=True, help="Refresh it in place, until Ctrl-C.")
@json_option
def status(watch: bool, as_json: bool) -> None:
    """Show how all is: jobs by state, the gate, webhooks, waits, workers, quarantine.

    If fewer jobs than usual are settled by their webhook, the path from the provider to the
    receiver is broken: `fermata doctor` tries it.
    """
    if watch and as_json:
        raise click.UsageError("--watch shows a table: leave out --json")
    settings = load(Role.CLIENT)
    if watch:
        _watch(settings)
    elif as_json:
        click.echo(json.dumps(asdict(_look(settings)), indent=2))
    else:
        out.print(_table(_look(settings)))


def _watch(settings: Settings) -> None:
    try:
        with show.live(out) as live:
            while True:
                live.update(_table(_look(settings)), refresh=True)
                time.sleep(_WATCH_SECONDS)
    except KeyboardInterrupt:
        return  # its only end, and no failure: the exit code is 0


def _look(settings: Settings) -> _Status:
    client, now = open_redis(settings), time.time()
    counters = Counters(client)
    jobs: dict[JobState, int] = {}
    for (state, _), count in sorted(counters.counts().items()):
        jobs[state] = jobs.get(state, 0) + count
    hour = views.added(counters.minutes(now=now, count=_MINUTES))
    waits = views.histogram(hour, "wait", views.WAIT_BOUNDS)
    settled = views.webhook_share(hour, chosen().operations)
    return _Status(
        jobs=jobs,
        gate=views.gate_sentence(counters.gate(), settings.limits, now=now),
        settled_by_webhook=settled.webhooks,
        settled_by_poll=settled.polls,
        webhook_share=settled.share,
        webhook_share_is_low=settled.is_low,
        wait_p50_seconds=waits.quantile(0.5),
        wait_p95_seconds=waits.quantile(0.95),
        oldest_seconds={state: now - since for state, since in counters.oldest().items()},
        workers_silent_seconds={name: now - at for name, at in counters.workers().items()},
        quarantine=sum(Quarantine(client).counts().values()),
        unconfirmed=jobs.get(JobState.UNCONFIRMED, 0),
    )


def _table(found: _Status) -> Table:
    table = Table.grid(padding=(0, 2))
    for name, said in _lines(found):
        table.add_row(f"[dim]{name}", said)
    return table


def _lines(found: _Status) -> Iterator[tuple[str, str]]:
    yield "jobs", _listed(f"{n:,} {coloured(state)}" for state, n in found.jobs.items())
    yield "gate", safe(found.gate)
    yield "settled in the last hour", _settled(found)
    yield "at the provider", _waits(found)
    oldest = (f"{coloured(state)} {_long(each)}" for state, each in found.oldest_seconds.items())
    yield "oldest", _listed(oldest)
    silent = found.workers_silent_seconds.items()
    yield "workers", _listed(f"{safe(name)} {_long(each)} ago" for name, each in silent)
    quarantined = f"[yellow]{found.quarantine:,}[/]: `fermata quarantine list`"
    yield "quarantine", quarantined if found.quarantine else "empty"
    doubtful = f"[yellow]{found.unconfirmed:,}[/]: `fermata jobs --state unconfirmed`"
    yield "unconfirmed", doubtful if found.unconfirmed else "none"


def _settled(found: _Status) -> str:
    share = found.webhook_share
    if share is None:
        return "none by the provider"
    by_webhook = f"{share:.0%} by webhook ({found.settled_by_webhook:,})"
    told = f"of the jobs that take a webhook, {by_webhook}, the others by poll"
    if found.webhook_share_is_low:
        return f"[yellow]{told}: do webhooks arrive? See `fermata doctor`[/]"
    return told


def _waits(found: _Status) -> str:
    if found.wait_p50_seconds is None:
        return "none"
    return f"half within {found.wait_p50_seconds:.0f} s, 95% within {found.wait_p95_seconds:.0f} s"


def _listed(said: Iterable[str]) -> str:
    return ", ".join(said) or "none"


def _long(seconds: float) -> str:
    return str(timedelta(seconds=max(round(seconds), 0)))


class _Time(click.ParamType[float]):
    """A time: ISO 8601 (in UTC if it names no zone), or how long ago it was, as ``2h``."""

    name = "time"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        if isinstance(value, float):
            return value
        if ago := _AGO.fullmatch(value):
            return time.time() - float(ago[1]) * _UNITS[ago[2]]
        try:
            at = datetime.fromisoformat(value)
        except ValueError:
            self.fail(f"{value!r} is neither as 30m, 2h or 7d nor an ISO date", param, ctx)
        return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()


@main.command(epilog=EXIT_CODES)
@click.option("--state", type=click.Choice([each.value for each in JobState]))
@click.option("--operation", metavar="NAME", help="As `fermata operations` lists them.")
@click.option("--tenant", metavar="NAME")
@click.option("--batch", metavar="BATCH_ID")
@click.option("--error", metavar="TYPE", help="The type of the error, as TaskFailed.")
@click.option("--since", type=_Time(), metavar="TIME", help="Created since: 30m, 2h, 7d or ISO.")
@click.option("--until", type=_Time(), metavar="TIME", help="Created before: the same forms.")
@click.option(
    "--limit", default=20, show_default=True, type=click.IntRange(min=1),
    help="How many, newest first.",
)  # fmt: skip
@click.option("--cursor", metavar="CURSOR", help="Go on where the list before has ended.")
@json_option
def jobs(limit: int, cursor: str | None, as_json: bool, **wanted: Any) -> None:
    """List the newest jobs, the jobs of a flow below its first; or those that match a filter.

    A job behind `└` follows the one above it; branches that run side by side hang on one line
    (`├`). The first job of a flow is shown with it, however old it is; `…` stands for jobs
    between them that are not shown.

    With a filter, each job is one line of a plain list. With a state or an operation, the jobs that
    reached their state last come first. If the list does not end there, the cursor with which it
    goes on is told.
    """
    settings = load(Role.CLIENT)
    if cursor or any(each is not None for each in wanted.values()):
        _list(Lists(open_redis(settings)), _filter(**wanted), cursor, limit, as_json=as_json)
    else:
        _list_flows(open_readings(settings), limit, as_json=as_json)


def _filter(*, state: str | None, operation: str | None, **others: Any) -> Filter:
    if operation:
        find(operation)
    return Filter(state=JobState(state) if state else None, operation=operation, **others)


def _list(lists: Lists, wanted: Filter, cursor: str | None, limit: int, *, as_json: bool) -> None:
    try:
        page = lists.page(wanted, cursor=cursor, limit=limit)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--cursor") from None
    if as_json:
        told = {"jobs": [asdict(row) for row in page.rows], "cursor": page.cursor}
        click.echo(json.dumps(told | {"looked_at": page.looked_at}, indent=2))
    elif page.rows:
        out.print(_rows_table(page.rows, out.width))
    else:
        tell("No job matches." if page.cursor is None else "No job matches so far.")
    if page.cursor:
        tell(f"Looked at {page.looked_at:,} jobs; go on with --cursor {page.cursor}")


def _list_flows(readings: Readings, limit: int, *, as_json: bool) -> None:
    records = readings.recent(limit)
    if as_json:
        click.echo(json.dumps([record_json(record, chosen()) for record in records], indent=2))
    elif records:
        known = {record.job_id for record in records}
        missing = {record.first for record in records if record.first} - known
        firsts = readings.read_those(sorted(missing))
        out.print(show.jobs_table([*records, *firsts], width=out.width))
    else:
        errors.print("There are no jobs yet.")


def _rows_table(rows: Iterable[Row], width: int) -> Table:
    names = ("job id", "operation", "state", "created (UTC)", "tenant", "credits", "batch", "why")
    cells = [
        (
            row.job_id,
            row.operation,
            coloured(row.state),
            f"{utc(row.created_at):%m-%d %H:%M:%S}",
            safe(row.tenant),
            f"{row.credits:g}",
            safe(row.batch or ""),
            safe(row.error_type or ""),
        )
        for row in rows
    ]
    return fitted(names, cells, width)
