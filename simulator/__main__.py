"""Run the simulator: `python -m simulator --port 8001 --api-key sk_test`."""

from __future__ import annotations

import logging
import signal
import sys
from dataclasses import Field, fields
from typing import Any, Literal, get_args, get_origin, get_type_hints

import click

from .app import CONTROLS, create_app
from .scenarios import BadScenario, Scenario, describe_fields, vary
from .serving import serve
from .settings import Settings

EPILOG = f"""\b
Fields of a scenario, and what each may be:
{describe_fields(78)}

\b
Control routes, while it runs; a scenario there is for requests whose body holds the text:
  {f"{chr(10)}  ".join(CONTROLS)}

\b
  curl -X POST http://127.0.0.1:8001/_simulator/scenarios \\
      -d '{{"match": "waltz", "times": 1, "scenario": {{"webhook": "lost"}}}}'

\b
Examples:
  python -m simulator --port 8001 --api-key sk_test
  python -m simulator --latency 0.5 --scenario webhook=duplicate --scenario copies=3
  python -m simulator --scenario submit=rate_limited --scenario retry_after_seconds=2

Every option can be set in the environment too: --api-key is SIMULATOR_API_KEY, and
SIMULATOR_SCENARIO="webhook=late late_seconds=1" is two of --scenario.
"""


def _option(setting: Field[Any]) -> click.Option:
    """Make the command-line option of one setting."""
    hint, default = get_type_hints(Settings)[setting.name], setting.default
    plain = next((each for each in get_args(hint) if each in (int, float)), None)
    return click.Option(
        [f"--{setting.name.replace('_', '-')}"],
        default=default,
        help=setting.metadata["help"],
        is_flag=isinstance(default, bool),
        type=click.Choice(get_args(hint)) if get_origin(hint) is Literal else plain,
    )


def _read_scenario(_ctx: click.Context, _param: object, pairs: tuple[str, ...]) -> Scenario:
    try:
        return vary(Scenario(), dict(pair.partition("=")[::2] for pair in pairs))
    except BadScenario as error:
        raise click.BadParameter(str(error)) from None


@click.command(
    epilog=EPILOG,
    context_settings={"show_default": True, "max_content_width": 100},
    params=[_option(setting) for setting in fields(Settings) if setting.metadata],
)
@click.option("--host", default="127.0.0.1", help="Address to listen on.")
@click.option("--port", default=8001, help="Port to listen on; 0 takes any free one.")
@click.option("--fd", type=int, help="Descriptor of a socket that listens, in place of both.")
@click.option("--latency", type=float, help="Short for --scenario latency_seconds=...")
@click.option(
    "--scenario",
    multiple=True,
    metavar="FIELD=VALUE",
    callback=_read_scenario,
    help="How to treat every request, as webhook=lost. Repeatable; the fields are below.",
)
@click.option("--check", is_flag=True, help="Check the options, and end.")
def main(
    *,
    host: str,
    port: int,
    fd: int | None,
    latency: float | None,
    scenario: Scenario,
    check: bool,
    **settings: Any,
) -> None:
    """Stand in for the AI music provider.

    It speaks the provider's HTTP API under /api/v1, signs and delivers webhooks, and serves real
    audio and MIDI under /media. Routes under /_simulator show the accepted tasks and the
    deliveries, and change how it treats single requests.
    """
    if latency is not None:
        scenario = vary(scenario, {"latency_seconds": latency})
    if check:
        return
    logging.basicConfig(stream=sys.stdout, level=logging.INFO, format="%(asctime)s %(message)s")
    try:
        app = create_app(Settings(scenario=scenario, **settings))
        server = serve(app, host, port, descriptor=fd)
    except OSError as error:
        raise click.ClickException(f"cannot listen on {host}:{port}: {error.strerror}") from None
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # serve_forever ends on Ctrl-C
    click.echo(f"simulator listening on http://{host}:{server.port}")
    server.serve_forever()


if __name__ == "__main__":
    main(auto_envvar_prefix="SIMULATOR")
