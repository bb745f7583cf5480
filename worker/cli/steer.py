"""``fermata cancel``, ``poll``, ``retry`` and ``gate``: change what happens to jobs."""

import json
import sys
import time
from collections.abc import Callable, Sequence
from typing import Final

import click

from worker.cli.group import (
    EXIT_CODES,
    EXIT_FAILED,
    EXIT_USAGE,
    errors,
    json_option,
    main,
    out,
)
from worker.cli.jobs import full_ids, print_job
from worker.core import pauses
from worker.core.errors import InvalidRequest, UnknownJob
from worker.core.job.models import JobId
from worker.core.overview import gate_sentence
from worker.engine.cancel import Cancellation, Cancellations
from worker.messages.retry import Retried, Retries
from worker.settings import Role, Settings, load
from worker.store.counters import Counters
from worker.store.gate import Gate
from worker.store.records import Records
from worker.wiring import worker_process
from worker.wiring.producer import open_retries
from worker.wiring.servers import open_readings, open_redis

_OPERATOR: Final = "the operator"


@main.command(epilog=EXIT_CODES)
@click.argument("job_ids", nargs=-1, required=True, metavar="JOB_ID…")
@json_option
def cancel(job_ids: Sequence[str], as_json: bool) -> None:
    """Cancel jobs: each fails with JobCancelled, and its chain, chord and errbacks end with it.

    A parked job ends at once. The provider is not told (it has no way to cancel), so it may
    still charge; a song that it delivers later is kept on the record. A job that no worker has
    begun yet ends as soon as one takes its message. If there is no record of a whole id, the
    cancellation is kept for two weeks, in case such a job still comes, and the exit code is 2.
    """
    settings = load(Role.CLIENT)
    cancellations = Cancellations(Records(open_redis(settings)), time.time)
    found = full_ids(open_readings(settings), job_ids)
    outcomes = {each: cancellations.cancel(each, by=_OPERATOR) for each in found}
    if as_json:
        click.echo(json.dumps(outcomes, indent=2))
    else:
        for job_id, outcome in outcomes.items():
            out.print(f"{job_id}  {_CANCELLED[outcome]}", markup=False, soft_wrap=True)
    if Cancellation.TOO_LATE in outcomes.values():
        sys.exit(EXIT_FAILED)
    if Cancellation.WAITING in outcomes.values():
        sys.exit(EXIT_USAGE)


_CANCELLED: Final = {
    Cancellation.ENDING: "ending",
    Cancellation.TOO_LATE: "too late",
    Cancellation.WAITING: "no record of it; should a worker begin it, it ends then",
}


@main.command(epilog=EXIT_CODES)
@click.argument("job_id")
@json_option
def poll(job_id: str, as_json: bool) -> None:
    """Ask the provider now how a waiting job stands, before its due time."""
    parts = worker_process.parts()
    (found,) = full_ids(parts.readings, [job_id])
    parts.polls.poll_now(parts.readings.read(found))
    print_job(parts.readings, found, as_json=as_json)


@main.command(epilog=EXIT_CODES)
@click.argument("job_ids", nargs=-1, required=True, metavar="JOB_ID…")
@click.option("--flow", is_flag=True, help="Retry all that failed of the flows of these jobs.")
@click.option(
    "--even-if-paid", is_flag=True,
    help="Also retry what the provider may have charged for, although nobody has its result.",
)  # fmt: skip
@json_option
def retry(job_ids: Sequence[str], flow: bool, even_if_paid: bool, as_json: bool) -> None:
    """Run failed jobs again, each at its price; the rest of its flow follows it.

    A retried job gets a new id. What succeeded before it is not run or paid again, and the steps
    after it run under the ids that they have always had. To retry a job twice enqueues it once.

    A job of a chord's header is refused, because its chord has failed with it. All that failed of a
    batch is retried by `fermata batch retry`.

    \b
    Examples:
      fermata retry 7d0127ba-8249-4a88-8f3a-f7e377b2d7c7
      fermata retry --flow 7d0127ba-8249-4a88-8f3a-f7e377b2d7c7
    """
    settings = load(Role.CLIENT)
    retries, done, unknown = open_retries(settings), Retried(), set[JobId]()
    for job_id in full_ids(open_readings(settings), job_ids):
        try:
            found = _retry(retries, job_id, flow=flow, even_if_paid=even_if_paid)
        except (InvalidRequest, UnknownJob) as error:
            # One that is refused must not hide what was enqueued before it.
            done.refused[job_id] = error.message
            if isinstance(error, UnknownJob):
                unknown.add(job_id)
            continue
        done.jobs |= found.jobs
        done.refused |= found.refused
    if as_json:
        click.echo(json.dumps({"retried": done.jobs, "refused": done.refused}, indent=2))
    else:
        _show_retried(done)
    if done.refused:
        none_known = not done.jobs and unknown == {*done.refused}
        sys.exit(EXIT_USAGE if none_known else EXIT_FAILED)


def _retry(retries: Retries, job_id: JobId, *, flow: bool, even_if_paid: bool) -> Retried:
    if flow:
        return retries.retry_flow(job_id, by=_OPERATOR, even_if_paid=even_if_paid)
    return Retried({job_id: retries.retry(job_id, by=_OPERATOR, even_if_paid=even_if_paid)})


def _show_retried(done: Retried) -> None:
    for before, again in done.jobs.items():
        out.print(f"{before}  runs again as {again}", markup=False, soft_wrap=True)
    for why in done.refused.values():
        errors.print(why, markup=False, soft_wrap=True)
    if not done.jobs and not done.refused:
        errors.print("Nothing has failed there.")


@main.group(invoke_without_command=True)
@click.pass_context
def gate(context: click.Context) -> None:
    """The gate before the provider: show how it stands, pause it, resume it.

    \b
    Examples:
      fermata gate
      fermata gate pause
      fermata gate pause --tenant acme
      fermata gate resume --tenant acme
    """
    if context.invoked_subcommand is None:
        _show_gate(load(Role.CLIENT))


def _part(command: Callable[..., None]) -> Callable[..., None]:
    operation = click.option("--operation", metavar="NAME", help="Of this operation alone.")
    return click.option("--tenant", metavar="NAME", help="Of this tenant alone.")(
        operation(command)
    )


@gate.command(epilog=EXIT_CODES)
@_part
def pause(tenant: str | None, operation: str | None) -> None:
    """Let no job pass the gate until it is resumed: all jobs, a tenant's, or an operation's.

    Jobs that come wait before it. Jobs that have passed it go on, and so do webhooks and polls.
    """
    settings, part = load(Role.CLIENT), pauses.part(tenant=tenant, operation=operation)
    _open_gate(settings).pause(_OPERATOR, now=time.time(), part=part)
    _show_gate(settings)


@gate.command(epilog=EXIT_CODES)
@_part
def resume(tenant: str | None, operation: str | None) -> None:
    """Let jobs pass again. No pause expires, and each is resumed separately."""
    settings, part = load(Role.CLIENT), pauses.part(tenant=tenant, operation=operation)
    if not _open_gate(settings).resume(_OPERATOR, now=time.time(), part=part):
        errors.print("That was not paused.")
    _show_gate(settings)


def _open_gate(settings: Settings) -> Gate:
    return Gate(open_redis(settings), settings.limits, settings.policy.held_seconds)


def _show_gate(settings: Settings) -> None:
    view = Counters(open_redis(settings)).gate()
    out.print(gate_sentence(view, settings.limits, now=time.time()), markup=False, soft_wrap=True)
