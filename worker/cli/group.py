"""The ``fermata`` command itself: its exit codes, its consoles, and errors as one clear line."""

import contextlib
import sys
from collections.abc import Iterator
from typing import Any, Final, NoReturn

import click
from kombu.exceptions import OperationalError
from rich.console import Console

from worker.cli import console
from worker.core.errors import (
    ConfigError,
    FermataError,
    InvalidRequest,
    UnknownBatch,
    UnknownJob,
    Unwritable,
)
from worker.store.connection import StoreUnavailable

EXIT_FAILED: Final = 1
EXIT_USAGE: Final = 2
EXIT_SETTINGS: Final = 3
EXIT_UNREACHABLE: Final = 4
EXIT_TIMEOUT: Final = 5
EXIT_FILE: Final = 6
EXIT_INTERRUPTED: Final = 130
EXIT_HUNG_UP: Final = 141
"""The exit code of a program that SIGPIPE ends, as in ``fermata jobs | head -1``."""

_UNLIMITED: Final = 100_000

EXIT_CODES = """
\b
Exit codes: 0 done · 1 a job failed · 2 wrong request or usage
3 wrong settings, or what they name cannot be used: a port, a process
4 Redis or the broker cannot be reached · 5 --timeout is over
6 a file, a folder or the output cannot be written, or the disk is full
130 Ctrl-C · 141 nobody reads the output any more
"""

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")


def _console(*, stderr: bool) -> Console:
    """Open a console; output into a pipe or a file is neither wrapped nor cut."""
    stream = sys.stderr if stderr else sys.stdout
    return Console(stderr=stderr, highlight=False, width=None if stream.isatty() else _UNLIMITED)


# Standard error: with --json, standard output must hold the JSON alone.
errors = _console(stderr=True)
out = _console(stderr=False)


@contextlib.contextmanager
def _hanging_up() -> Iterator[None]:
    """End quietly, with a code of its own, if the reader of the output has gone."""
    try:
        yield
    except (BrokenPipeError, SystemExit) as error:
        # rich turns a BrokenPipeError into SystemExit(1), with the first as its context.
        if isinstance(error, SystemExit) and not isinstance(error.__context__, BrokenPipeError):
            raise
        console.abandon_output()
        sys.exit(EXIT_HUNG_UP)


class _Listing(click.Group):
    """Lists its commands with a whole sentence each. Click would cut it at the end of the line."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        told = [
            (name, self.commands[name].get_short_help_str(_UNLIMITED))
            for name in self.list_commands(ctx)
        ]
        with formatter.section("Commands"):
            formatter.write_dl(told)


class _Group(_Listing):
    """Turns our errors into one clear line and an exit code."""

    group_class = _Listing

    def main(self, *args: Any, **options: Any) -> Any:
        try:
            try:
                return super().main(*args, **options)
            finally:
                # Python buffers the output: a full disk or a closed pipe may show only here.
                sys.stdout.flush()
        except OSError as error:
            console.abandon_output()
            where = error.filename or "the output cannot be written"
            fail(f"{where}: {error.strerror or error}", EXIT_FILE)

    # Click and rich both end with 1 if the reader has gone. Here 1 means that a job failed.

    def make_context(self, *args: Any, **options: Any) -> click.Context:
        with _hanging_up():
            return super().make_context(*args, **options)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            with _hanging_up():
                return super().invoke(ctx)
        except ConfigError as error:
            fail(error.message, EXIT_SETTINGS)
        except Unwritable as error:
            fail(error.message, EXIT_FILE)
        except (InvalidRequest, UnknownBatch, UnknownJob) as error:
            fail(error.message, EXIT_USAGE)
        except FermataError as error:
            fail(error.message, EXIT_FAILED)
        except (StoreUnavailable, OperationalError, ConnectionError, TimeoutError) as error:
            fail(f"Redis or the broker cannot be reached: {error}", EXIT_UNREACHABLE)
        except KeyboardInterrupt:
            fail("interrupted", EXIT_INTERRUPTED)


def tell(message: str) -> None:
    """Print a message to standard error as one line, which a terminal wraps by itself."""
    errors.print(message, markup=False, soft_wrap=True)


def fail(message: str, code: int) -> NoReturn:
    with contextlib.suppress(OSError, SystemExit):  # rich exits if nobody reads its output
        errors.print(f"fermata: {message}", style="red", markup=False, soft_wrap=True)
    sys.exit(code)


@click.group(cls=_Group, epilog=EXIT_CODES, context_settings={"max_content_width": 100})
@click.version_option(package_name="fermata")
def main() -> None:
    """Fermata: Celery jobs that wait for a webhook without holding a worker.

    Start with `fermata dev` in one terminal: a private Valkey, a simulated provider, the
    receiver, a worker, beat and the desk, whose page it links to. Then, in another one:

    \b
      fermata submit sonic.create_music -p custom_mode=false \\
          -p gpt_description_prompt="a calm piano piece" --then sonic.stems_full --wait
    """
