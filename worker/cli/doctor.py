"""``fermata doctor``: can this set-up be trusted with jobs?"""

import json
import sys
from dataclasses import asdict
from typing import Final

import click
from rich.markup import escape
from rich.table import Table

from worker.cli.group import EXIT_FAILED, EXIT_UNREACHABLE, json_option, main, out
from worker.core.errors import ConfigError
from worker.core.health.checks import Finding, Level
from worker.doctor import facts as adapter
from worker.settings import Role, Settings, load

_COLOURS: Final = {
    Level.OK: "green",
    Level.NOTE: "cyan",
    Level.WARNING: "yellow",
    Level.DANGER: "bold red",
}

_EXIT_CODES = """
\b
Exit codes: 0 no danger · 1 danger · 2 wrong usage · 3 wrong settings
4 Redis or the broker cannot be reached · 130 Ctrl-C
"""


@main.command(epilog=_EXIT_CODES)
@json_option
def doctor(as_json: bool) -> None:
    """Check Redis, Celery, keys, workers, the way back from the provider, API key and credits.

    Nothing is changed, and nothing is paid for. A worker refuses to start with the dangers that
    put data at risk; FERMATA_ALLOW_RISKS names those that you accept.
    """
    from worker.app import app  # noqa: PLC0415  (slow to import)

    found = adapter.examine(_settings(), app)
    if as_json:
        click.echo(json.dumps([asdict(each) for each in found], indent=2))
    else:
        out.print(_table(found))
        out.print(_summary(found))
    sys.exit(_exit_code(found))


def _settings() -> Settings:
    """Read the settings. If not even Redis is named, the error names all that a worker needs."""
    try:
        return load(Role.CLIENT)
    except ConfigError as error:
        if "FERMATA_REDIS_URL" in error.details.get("settings", ()):
            load(Role.WORKER)
        raise


def _exit_code(found: list[Finding]) -> int:
    if any(each.name == adapter.AWAY for each in found):
        return EXIT_UNREACHABLE
    return EXIT_FAILED if any(each.level is Level.DANGER for each in found) else 0


def _table(found: list[Finding]) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    places = len({each.where for each in found if each.where})
    for each in found:
        level = f"[{_COLOURS[each.level]}]{each.level}[/]"
        place = f"\n[dim]{each.where}[/]" if places > 1 and each.where else ""
        do = f"\n[dim]→[/] {escape(each.do)}" if each.do else ""
        table.add_row(level, f"{each.name}{place}", escape(each.said) + do)
    return table


def _summary(found: list[Finding]) -> str:
    counts = {level: sum(each.level is level for each in found) for level in reversed(Level)}
    told = (f"[{_COLOURS[level]}]{n} {level}[/]" for level, n in counts.items() if n)
    return "\n" + " · ".join(told)
