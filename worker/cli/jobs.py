"""``fermata submit``, ``wait`` and ``job``: one job or flow at a time."""

import json
import os
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import click
from rich.console import Console

from worker import text
from worker.cli import show
from worker.cli.group import (
    EXIT_CODES,
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    EXIT_TIMEOUT,
    errors,
    fail,
    json_option,
    main,
    out,
    tell,
)
from worker.core.batch import Row, check_request
from worker.core.batch.columns import read_pick
from worker.core.batch.flows import Plan, find_flow
from worker.core.contract import PRIORITY_HEADER, TENANT_HEADER
from worker.core.errors import InvalidRequest, UnknownJob
from worker.core.job import kept
from worker.core.job.canvas import Step
from worker.core.job.lanes import Priority
from worker.core.job.models import JobId, JSONObject
from worker.core.providers import chosen
from worker.core.text import decode
from worker.engine.describe import record_json
from worker.messages import flow, watch
from worker.settings import Role, load
from worker.store.readings import Readings
from worker.wiring.producer import open_producer
from worker.wiring.servers import open_readings

_BEGINNING: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f-]{0,26})?")
"""The first eight characters of a UUID, or more of them, but not all 36."""
_NEWEST: Final = 200


@main.command(epilog=EXIT_CODES)
@click.argument("operation")
@click.option(
    "-p", "--param", "params", multiple=True, metavar="NAME=VALUE",
    help="A field of the request; repeat it. `@FILE` as the value reads a file.",
)  # fmt: skip
@click.option("--source", metavar="CLIP_ID", help="The clip to work on (for operations on a clip).")
@click.option(
    "--pick", metavar="INDEX|CLIP_ID",
    help="Which clip of the source; without one, which of the result the follow-ups work on.",
)  # fmt: skip
@click.option(
    "--then", "branches", multiple=True, metavar="OP[+OP…]",
    help="A follow-up on the result. `a+b`: b follows a. Repeated: branches side by side. The last "
    "step of each may be archive.store.",
)  # fmt: skip
@click.option("--id", "job_id", help="The job id, instead of a new UUID.")
@click.option(
    "--idempotency-key", metavar="KEY",
    help="Enqueue the flow once under this key; a repeated call shows the first flow again.",
)  # fmt: skip
@click.option(
    "--priority",
    type=click.Choice([each.value for each in Priority]),
    help="Which jobs go first while many wait.",
)
@click.option("--tenant", help="On whose behalf it runs, if tenants share the provider.")
@click.option("--wait", is_flag=True, help="Show the jobs live until all have ended.")
@click.option("--timeout", type=float, metavar="SECONDS", help="Stop waiting after this long.")
@json_option
def submit(  # noqa: PLR0917  (click passes them by name)
    operation: str,
    params: Sequence[str],
    source: str | None,
    pick: str | None,
    branches: Sequence[str],
    job_id: str | None,
    idempotency_key: str | None,
    priority: str | None,
    tenant: str | None,
    wait: bool,
    timeout: float | None,
    as_json: bool,
) -> None:
    """Enqueue an operation or a named flow, and follow-ups on its result.

    A follow-up is a job of its own, at its own price. It begins when the job before it has
    succeeded, and takes that job's result as its source, so it needs no parameters. Of several
    clips it works on the first that succeeded, or on the one that `--pick` says. `--then a+b` is a
    sequence: b works on the result of a. Each further `--then` is a branch beside it, on the same
    result. If a job fails, its follow-ups never run; other branches go on.

    \b
      --then sonic.stems_full --then sonic.wav+sonic.midi

    \b
      sonic.remaster
      ├ sonic.stems_full        both work on the remaster
      └ sonic.wav
        └ sonic.midi            works on the result of sonic.wav

    \b
    Examples:
      fermata submit account.credits --wait
      fermata submit sonic.remaster -p continue_clip_id=26c9c592-0566-46cf-bb71-91ac1deaa7b5 \\
          -p mv=chirp-v5 -p variation_category=subtle \\
          --then sonic.stems_full --then sonic.wav+sonic.midi --wait
    """
    settings = load(Role.CLIENT)
    parameters = dict(_parameter(operation, each) for each in params)
    plan = _plan(operation, parameters, source=source, pick=pick, then=[*branches], tenant=tenant)
    lane = {PRIORITY_HEADER: priority, TENANT_HEADER: tenant}
    producer, readings = open_producer(settings), open_readings(settings)
    try:
        enqueued = flow.enqueue(
            producer,
            plan,
            job_id=job_id,
            idempotency_key=idempotency_key,
            headers={name: value for name, value in lane.items() if value},
        )
    except KeyboardInterrupt:
        fail("interrupted; whether a job is enqueued, `fermata jobs` tells", EXIT_INTERRUPTED)
    if not wait:
        _print_enqueued(enqueued, as_json=as_json)
        return
    _wait(readings, enqueued, timeout, as_json=as_json)


def _plan(operation: str, parameters: JSONObject, *, pick: str | None, **own: Any) -> Plan:
    """Check a request; raises InvalidRequest that tells every mistake."""
    # The shell knows text alone: what looks like an index is one.
    picked = None if pick is None else read_pick(pick, untyped=True)
    row = check_request(operation, parameters, pick=picked, **own)
    if isinstance(row, Row):
        return row.plan
    fields = ((field.removeprefix("parameters."), why) for field, why in row)
    raise InvalidRequest(f"{operation}: " + "; ".join(f"{name}: {why}" for name, why in fields))


def _parameter(operation: str, argument: str) -> tuple[str, Any]:
    name, equals, value = argument.partition("=")
    if not equals:
        raise click.BadParameter(f"{argument!r} is not NAME=VALUE", param_hint="--param")
    try:
        value = text.read(Path(value[1:])) if value.startswith("@") else _as_typed(value)
    except ValueError as error:
        raise click.BadParameter(f"{name}: {error}", param_hint="--param") from None
    return name, _typed(operation, name, value)


def _as_typed(value: str) -> str:
    """Read an argument as UTF-8, whatever encoding the locale names.

    Raises NotText.
    """
    return decode(os.fsencode(value))


def _typed(operation: str, name: str, value: str) -> Any:
    """Read a value as JSON, unless the request's field holds text."""
    try:
        field = find_flow(operation).parameters.get(name)
    except InvalidRequest:
        return value  # the check names it, with all other mistakes
    if field is None or type(field).__name__ == "String":
        return value
    try:
        return json.loads(value)
    except ValueError:
        return value


def _print_enqueued(enqueued: flow.Flow, *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps([_step(step) for step in enqueued.steps], indent=2))
        return
    for line in show.enqueued(enqueued.steps):
        out.print(line)
    errors.print(f"Look at it with: fermata job {enqueued.steps[0].job_id}", style="dim")


def _step(step: Step) -> dict[str, Any]:
    return {"job_id": step.job_id, "operation": step.operation, "after": step.after}


def _wait(readings: Readings, enqueued: flow.Flow, timeout: float | None, *, as_json: bool) -> None:
    try:
        sights = _follow(readings, enqueued, timeout, errors if as_json else out)
    except KeyboardInterrupt:
        first = enqueued.steps[0].job_id
        fail(f"interrupted; the jobs go on: see `fermata job {first}`", EXIT_INTERRUPTED)
    if as_json:
        described = [
            (record_json(s.record, chosen()) if s.record else {})
            | _step(s.step)
            | {"state": s.state}
            for s in sights
        ]
        click.echo(json.dumps(described, indent=2))
    if not all(sight.ended for sight in sights):
        fail("--timeout is over; the jobs go on", EXIT_TIMEOUT)
    if not all(sight.succeeded for sight in sights):
        sys.exit(EXIT_FAILED)


def _follow(
    readings: Readings, enqueued: flow.Flow, timeout: float | None, console: Console
) -> list[watch.Sight]:
    """Show the jobs of a flow live; without a terminal, print a line for each change."""
    sights: list[watch.Sight] = []
    told: dict[str, str] = {}
    with show.live(console) as live:
        for sights in watch.follow(readings, enqueued, timeout_seconds=timeout):
            live.update(show.flow_table(sights), refresh=True)
            if not console.is_terminal:
                _tell_changes(sights, told)
    return sights


def _tell_changes(sights: Sequence[watch.Sight], told: dict[str, str]) -> None:
    for sight in sights:
        if told.get(sight.step.job_id) != sight.state:
            told[sight.step.job_id] = sight.state
            tell(f"{sight.step.job_id}  {sight.step.operation}  {sight.state}")


@main.command(epilog=EXIT_CODES)
@click.argument("job_ids", nargs=-1, required=True, metavar="JOB_ID…")
@click.option("--timeout", type=float, metavar="SECONDS", help="Stop waiting after this long.")
@json_option
def wait(job_ids: Sequence[str], timeout: float | None, as_json: bool) -> None:
    """Show jobs live until all of them have ended.

    A follow-up that has not begun is known by its flow: name it together with a job before it.
    """
    readings = open_readings(load(Role.CLIENT))
    found = watch.those(readings, full_ids(readings, job_ids))
    _wait(readings, found, timeout, as_json=as_json)


@main.command(epilog=EXIT_CODES)
@click.argument("job_id")
@json_option
def job(job_id: str, as_json: bool) -> None:
    """Show one job: its state, its request, its timeline, its result.

    A job of a flow is shown with the jobs before, beside and after it. The request is shown until
    the job has succeeded.

    For one of the newest jobs, the eight characters of its id that `fermata dev` shows are enough,
    here and in the other commands that take a job.
    """
    readings = open_readings(load(Role.CLIENT))
    print_job(readings, *full_ids(readings, [job_id]), as_json=as_json)


def full_ids(readings: Readings, given: Iterable[str]) -> list[JobId]:
    """Complete ids of which a person gave the beginning; every command that takes a job calls this.

    Raises InvalidRequest if several of the newest jobs have a beginning, UnknownJob if none has it.
    An id that is whole is returned as it is, whether it has a record or not.
    """
    return [_full_id(readings, each) for each in given]


def _full_id(readings: Readings, given: str) -> JobId:
    if not _BEGINNING.fullmatch(given) or readings.state(JobId(given)):
        return JobId(given)
    alike = [each.job_id for each in readings.recent(_NEWEST) if each.job_id.startswith(given)]
    if len(alike) > 1:
        raise InvalidRequest(
            f"{len(alike)} jobs have an id that begins with {given}: give it whole"
        )
    if not alike:
        raise UnknownJob(
            f"of the newest {_NEWEST} jobs, none has an id that begins with {given}: give it whole"
        )
    return alike[0]


def print_job(readings: Readings, job_id: JobId, *, as_json: bool) -> None:
    """Print a job with its flow, as a person or a program wants it.

    Raises UnknownJob, StoreUnavailable.
    """
    record = readings.read(job_id)
    sights = watch.look(readings, watch.flow_of(readings, record))
    message = readings.message(job_id)
    request = kept.request(message) if message else None
    if as_json:
        beside = {"flow": [_step(each.step) | {"state": each.state} for each in sights]}
        described = record_json(record, chosen()) | beside | {"request": request}
        click.echo(json.dumps(described, indent=2))
    else:
        out.print(show.job(record, sights, request))
        if len(sights) >= watch.MOST_STEPS:
            tell(f"Of this flow, the first {watch.MOST_STEPS} jobs are shown.")
