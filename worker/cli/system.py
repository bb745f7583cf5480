"""``fermata operations``, ``dev``, ``desk``, ``demo``: the operations, and systems to run."""

import json
import os
import sys
from pathlib import Path
from typing import Any, Final

import click

from worker.cli import show
from worker.cli.group import EXIT_CODES, json_option, main, out
from worker.core.health.checks import DESK_PORT, THREADS
from worker.core.providers.aimusic.operations import OPERATIONS, Operation
from worker.core.providers.aimusic.signatures import parameters
from worker.settings import Role, load

_PORT: Final = click.IntRange(0, 65535)


@main.command(epilog=EXIT_CODES)
@json_option
def operations(as_json: bool) -> None:
    """List the provider's operations; docs/operations.md describes them at length."""
    if as_json:
        click.echo(json.dumps([_operation(row) for row in OPERATIONS.values()], indent=2))
    else:
        out.print(show.operations_table(OPERATIONS.values()))


def _operation(row: Operation) -> dict[str, Any]:
    described: dict[str, Any] = {
        "name": row.name,
        "mode": row.mode,
        "method": row.method,
        "path": row.path,
    }
    described |= {"credits": row.credits, "retired": row.retired, "summary": row.summary}
    return described | {"fields": [each.describe() for each in parameters(row)]}


@main.command(epilog=EXIT_CODES)
@click.option(
    "--port", default=8000, show_default=True, type=_PORT, help="The receiver's; 0 picks one."
)
@click.option(
    "--simulator-port", default=8001, show_default=True, type=_PORT,
    help="The simulator's; 0 picks one.",
)  # fmt: skip
@click.option(
    "--desk-port", default=DESK_PORT, show_default=True, type=_PORT,
    help="The desk's; 0 picks one.",
)  # fmt: skip
@click.option("--desk/--no-desk", "with_desk", default=True, help="With the desk, or without.")
@click.option(
    "--concurrency", default=THREADS, show_default=True, type=click.IntRange(min=1),
    help="Threads of the worker: how many submits it has at the provider at once.",
)  # fmt: skip
@click.option(
    "--scenario", multiple=True, metavar="FIELD=VALUE",
    help="How the simulator treats every request, as webhook=lost or submit=rate_limited; "
    "repeatable. `python -m simulator --help` lists the fields.",
)  # fmt: skip
def dev(  # noqa: PLR0917  (click passes them by name)
    port: int,
    simulator_port: int,
    desk_port: int,
    with_desk: bool,
    concurrency: int,
    scenario: tuple[str, ...],
) -> None:
    """Run everything on this machine: Valkey, simulator, receiver, worker, desk and beat.

    It says when it is ready, with the address of the page, and then shows the jobs as they move.
    Other `fermata` commands in the same folder reach it by themselves.

    With FERMATA_REDIS_URL set, no Valkey is started; with FERMATA_PROVIDER_URL set, no
    simulator. Data is kept in FERMATA_DATA_DIR (default .fermata), and the output of the processes
    in its folder `logs`. Ctrl-C ends them all, and so does a closed terminal, except under nohup.
    """
    from worker.cli.dev import system  # noqa: PLC0415

    desk_at = desk_port if with_desk else None
    sys.exit(system.run(system.Options(port, simulator_port, desk_at, concurrency, scenario)))


@main.command(epilog=EXIT_CODES)
@click.option("--host", default="127.0.0.1", show_default=True, help="Where it listens.")
@click.option("--port", default=DESK_PORT, show_default=True, type=click.IntRange(1, 65535))
def desk(host: str, port: int) -> None:
    """Run the desk in the foreground: the page, the HTTP API and the metrics.

    Without FERMATA_DESK_TOKENS it opens on this machine alone, and prints the link by which to
    enter; on any other address it refuses to start. Ctrl-C ends it.
    """
    from worker.cli.dev import premises, system  # noqa: PLC0415
    from worker.doctor import shadows  # noqa: PLC0415

    load(Role.DESK)
    shadows.require_none()
    door = premises.listen("fermata desk --port", port, host=host)
    os.set_inheritable(door.fileno(), True)
    # In place of this process, so that signals reach gunicorn itself.
    command = system.desk_command(door)
    os.execv(command[0], command)  # noqa: S606


@main.command(epilog=EXIT_CODES)
@click.option(
    "--output", default="demo-output", show_default=True,
    type=click.Path(path_type=Path, file_okay=False), help="Where audio, MIDI and summary go.",
)  # fmt: skip
def demo(output: Path) -> None:
    """Run the main job on a system of its own: create, remaster, then stems, MIDI and WAV."""
    from worker.cli import demo  # noqa: PLC0415

    sys.exit(demo.run(output, out))
