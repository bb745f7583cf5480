"""``fermata operations``, ``dev``, ``demo``: what there is, and the whole system at once."""

import json
import sys
from pathlib import Path
from typing import Any, Final

import click

from worker import show
from worker.cli.group import EXIT_CODES, json_option, main, out
from worker.core.operations import OPERATIONS, Operation
from worker.core.signatures import parameters

_PORT: Final = click.IntRange(0, 65535)


@main.command(epilog=EXIT_CODES)
@json_option
def operations(as_json: bool) -> None:
    """List what the provider can do; docs/operations.md says it at length."""
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
    "--concurrency", default=2, show_default=True, type=click.IntRange(min=1),
    help="Processes of the worker.",
)  # fmt: skip
def dev(port: int, simulator_port: int, concurrency: int) -> None:
    """Run everything on this machine: Valkey, simulator, receiver, worker and beat.

    With FERMATA_REDIS_URL set, no Valkey is started; with FERMATA_PROVIDER_URL set, no
    simulator. Data is kept in FERMATA_DATA_DIR (default .fermata). Ctrl-C stops it all.
    """
    from worker import development  # noqa: PLC0415

    sys.exit(development.run(port, simulator_port, concurrency))


@main.command(epilog=EXIT_CODES)
@click.option(
    "--output", default="demo-output", show_default=True,
    type=click.Path(path_type=Path, file_okay=False), help="Where audio, MIDI and summary go.",
)  # fmt: skip
def demo(output: Path) -> None:
    """Run the main job on a system of its own: create, remaster, then stems, MIDI and WAV."""
    from worker import demonstration  # noqa: PLC0415

    sys.exit(demonstration.run(output, out))
