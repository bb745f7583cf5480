"""The command line: ``fermata``."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NoReturn

import click
from kombu.exceptions import OperationalError
from rich.console import Console
from rich.live import Live

from worker import bootstrap, flow, show, watch
from worker.bootstrap import open_producer, open_store
from worker.core.errors import ConfigError, FermataError, InvalidRequest, UnknownJob
from worker.core.models import JobId, JobRecord
from worker.core.operations import OPERATIONS, Operation, find
from worker.core.signatures import parameters
from worker.core.states import JobState
from worker.settings import Role, load
from worker.store import Store, StoreUnavailable

EXIT_FAILED: Final = 1
EXIT_USAGE: Final = 2
EXIT_SETTINGS: Final = 3
EXIT_UNREACHABLE: Final = 4
EXIT_TIMEOUT: Final = 5
EXIT_INTERRUPTED: Final = 130

_EXIT_CODES = """
\b
Exit codes: 0 done · 1 a job failed · 2 wrong request or usage · 3 wrong settings
4 Redis or the broker cannot be reached · 5 --timeout is over · 130 Ctrl-C
"""

_json = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
# Standard error, so that what --json prints stays alone on standard output.
_errors = Console(stderr=True, highlight=False)
_out = Console(highlight=False)


class _Group(click.Group):
    """Turns our errors into one clear line and an exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except ConfigError as error:
            _fail(error.message, EXIT_SETTINGS)
        except (InvalidRequest, UnknownJob) as error:
            _fail(error.message, EXIT_USAGE)
        except FermataError as error:
            _fail(error.message, EXIT_FAILED)
        except (StoreUnavailable, OperationalError) as error:
            _fail(f"Redis or the broker cannot be reached: {error}", EXIT_UNREACHABLE)
        except KeyboardInterrupt:
            _fail("interrupted", EXIT_INTERRUPTED)


def _fail(message: str, code: int) -> NoReturn:
    _errors.print(f"fermata: {message}", style="red", markup=False)
    sys.exit(code)


@click.group(cls=_Group, epilog=_EXIT_CODES, context_settings={"max_content_width": 100})
@click.version_option(package_name="fermata")
def main() -> None:
    """Fermata: Celery jobs that wait for a webhook without holding a worker.

    Start with `fermata dev` in one terminal: a private Valkey, a simulated provider, the
    receiver, a worker and beat. Then, in another one:

    \b
      fermata submit sonic.create_music -p custom_mode=false \\
          -p gpt_description_prompt="a calm piano piece" --then sonic.stems_full --wait
    """


@main.command(epilog=_EXIT_CODES)
@click.argument("operation")
@click.option(
    "-p", "--param", "params", multiple=True, metavar="NAME=VALUE",
    help="A field of the request; repeat it. `@FILE` as the value reads a file.",
)  # fmt: skip
@click.option("--source", metavar="CLIP_ID", help="The clip to work on (for operations on a clip).")
@click.option(
    "--then", "branches", multiple=True, metavar="OP[+OP…]",
    help="Follow up on the result; repeat it for branches in parallel, `a+b` for a sequence.",
)  # fmt: skip
@click.option("--id", "job_id", help="The job id, instead of a new UUID.")
@click.option("--wait", is_flag=True, help="Show the jobs live until all have ended.")
@click.option("--timeout", type=float, metavar="SECONDS", help="Stop waiting after this long.")
@_json
def submit(  # noqa: PLR0917  (click passes them by name)
    operation: str,
    params: Sequence[str],
    source: str | None,
    branches: Sequence[str],
    job_id: str | None,
    wait: bool,
    timeout: float | None,
    as_json: bool,
) -> None:
    """Enqueue an operation, and follow-ups on its result.

    \b
    Examples:
      fermata submit account.credits --wait
      fermata submit sonic.remaster -p continue_clip_id=26c9c592-0566-46cf-bb71-91ac1deaa7b5 \\
          -p mv=chirp-v5 -p variation_category=subtle \\
          --then sonic.stems_full --then sonic.wav+sonic.midi --wait
    """
    settings = load(Role.CLIENT)
    parameters = dict(_parameter(operation, text) for text in params)
    parsed = [flow.parse_branch(text) for text in branches]
    enqueued = flow.enqueue(
        open_producer(settings),
        operation,
        parameters,
        source=source,
        branches=parsed,
        job_id=job_id,
    )
    if not wait:
        _print_enqueued(enqueued, as_json=as_json)
        return
    _wait(open_store(settings), enqueued, timeout, as_json=as_json)


def _parameter(operation: str, text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals:
        raise click.BadParameter(f"{text!r} is not NAME=VALUE", param_hint="--param")
    if value.startswith("@"):
        try:
            value = Path(value[1:]).read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise click.BadParameter(f"{value}: {error}", param_hint="--param") from None
    return name, _typed(operation, name, value)


def _typed(operation: str, name: str, value: str) -> Any:
    """Read a value as JSON, unless the request's field holds text."""
    field = find(operation).schema().fields.get(name)
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
    for step in enqueued.steps:
        _out.print(f"{step.job_id}  {step.operation}")
    _errors.print(f"Look at it with: fermata job {enqueued.steps[0].job_id}", style="dim")


def _step(step: flow.Step) -> dict[str, Any]:
    return {"job_id": step.job_id, "operation": step.operation, "after": step.after}


def _wait(store: Store, enqueued: flow.Flow, timeout: float | None, *, as_json: bool) -> None:
    sights: list[watch.Sight] = []
    with Live(console=_errors if as_json else _out, auto_refresh=False) as live:
        for sights in watch.follow(store, enqueued, timeout_seconds=timeout):
            live.update(show.flow_table(sights), refresh=True)
    if as_json:
        described = [
            _step(s.step) | {"state": s.state} | (s.record.to_json() if s.record else {})
            for s in sights
        ]
        click.echo(json.dumps(described, indent=2))
    if not all(sight.ended for sight in sights):
        _fail("--timeout is over; the jobs go on", EXIT_TIMEOUT)
    if not all(sight.succeeded for sight in sights):
        sys.exit(EXIT_FAILED)


@main.command(epilog=_EXIT_CODES)
@click.argument("job_id")
@_json
def job(job_id: str, as_json: bool) -> None:
    """Show one job: its state, its timeline, its result."""
    _print_job(open_store(load(Role.CLIENT)).read(JobId(job_id)), as_json=as_json)


def _print_job(record: JobRecord, *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(record.to_json(), indent=2))
    else:
        _out.print(show.job(record))


@main.command(epilog=_EXIT_CODES)
@click.option("--limit", default=20, show_default=True, help="How many, newest first.")
@_json
def jobs(limit: int, as_json: bool) -> None:
    """List the newest jobs."""
    records = open_store(load(Role.CLIENT)).recent(limit)
    if as_json:
        click.echo(json.dumps([record.to_json() for record in records], indent=2))
    elif records:
        _out.print(show.jobs_table(records))
    else:
        _errors.print("There are no jobs yet.")


@main.command(epilog=_EXIT_CODES)
@click.argument("job_id")
@_json
def poll(job_id: str, as_json: bool) -> None:
    """Ask the provider now how a waiting job stands, instead of at its next moment."""
    parts = bootstrap.parts()
    record = parts.store.read(JobId(job_id))
    if record.state is not JobState.WAITING:
        raise InvalidRequest(f"{job_id} is {record.state}: only a waiting job can be polled")
    parts.sweep.poll(record, find(record.operation))
    _print_job(parts.store.read(JobId(job_id)), as_json=as_json)


@main.command(epilog=_EXIT_CODES)
@_json
def operations(as_json: bool) -> None:
    """List what the provider can do; docs/operations.md says it at length."""
    if as_json:
        click.echo(json.dumps([_operation(row) for row in OPERATIONS.values()], indent=2))
    else:
        _out.print(show.operations_table(OPERATIONS.values()))


def _operation(row: Operation) -> dict[str, Any]:
    described: dict[str, Any] = {
        "name": row.name,
        "mode": row.mode,
        "method": row.method,
        "path": row.path,
    }
    described |= {"credits": row.credits, "retired": row.retired, "summary": row.summary}
    return described | {"fields": [each.describe() for each in parameters(row)]}


@main.command(epilog=_EXIT_CODES)
@click.option("--port", default=8000, show_default=True, help="The receiver's; 0 picks one.")
@click.option(
    "--simulator-port", default=8001, show_default=True, help="The simulator's; 0 picks one."
)
@click.option("--concurrency", default=2, show_default=True, help="Processes of the worker.")
def dev(port: int, simulator_port: int, concurrency: int) -> None:
    """Run everything on this machine: Valkey, simulator, receiver, worker and beat.

    With FERMATA_REDIS_URL set, no Valkey is started; with FERMATA_PROVIDER_URL set, no
    simulator. Data is kept in FERMATA_DATA_DIR (default .fermata). Ctrl-C stops it all.
    """
    from worker import development  # noqa: PLC0415

    sys.exit(development.run(port, simulator_port, concurrency))


@main.command(epilog=_EXIT_CODES)
@click.option(
    "--output", default="demo-output", show_default=True,
    type=click.Path(path_type=Path, file_okay=False), help="Where audio, MIDI and summary go.",
)  # fmt: skip
def demo(output: Path) -> None:
    """Run the main job on a system of its own: create, remaster, then stems, MIDI and WAV."""
    from worker import demonstration  # noqa: PLC0415

    sys.exit(demonstration.run(output, _out))
