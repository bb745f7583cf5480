"""Chaos: ``python -m tests.chaos``, which is what ``make chaos`` runs."""

import shutil
import signal
import sys
import time
from pathlib import Path

import click

from tests.chaos import report
from tests.chaos.run import Effort, Outcome, run
from tests.chaos.stage import Stage
from tests.toy.system import ToyStage

HELP = """Break Fermata: real processes under load, killed, frozen, restarted and lied to.

Then the simulator's own books are compared with the records, Celery's results and the steps that
were counted. Exit code 0: every promise was kept.

\b
Examples:
  python -m tests.chaos                                  five seeds, half an hour
  python -m tests.chaos --seed 7 --seeds 1               one of them again
  python -m tests.chaos --jobs 120 --faults 25 --seeds 1
"""


@click.command(help=HELP)
@click.option("--jobs", default=2000, show_default=True, help="Provider jobs of each seed.")
@click.option("--faults", default=200, show_default=True, help="Faults of each seed.")
@click.option("--seed", default=1, show_default=True, help="The first seed.")
@click.option("--seeds", default=5, show_default=True, help="How many seeds.")
@click.option(
    "--folder", type=click.Path(path_type=Path), default=Path(".fermata/chaos"), show_default=True,
    help="Where logs and data go.",
)  # fmt: skip
@click.option(
    "--provider", type=click.Choice(["aimusic", "toy"]), default="aimusic", show_default=True,
    help="Who is on the other side: toy speaks otherwise (tests/toy).",
)  # fmt: skip
def main(*, jobs: int, faults: int, seed: int, seeds: int, folder: Path, provider: str) -> None:
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # leave nothing running then either
    outcomes: list[Outcome] = []
    folder = folder.resolve() / time.strftime("%Y%m%d-%H%M%S")
    click.echo(f"seeds {seed} to {seed + seeds - 1}: {jobs} jobs, {faults} faults each; {folder}")
    try:
        for number in range(seed, seed + seeds):
            effort, stage = Effort(jobs, faults), ToyStage if provider == "toy" else Stage
            outcomes.append(_run(number, effort, folder / f"seed-{number}", stage))
    except KeyboardInterrupt:
        click.echo("stopped")
    text = report.table(outcomes) + "\n" + report.kinds(outcomes) + report.broken(outcomes)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report.md").write_text(text, "utf-8")
    click.echo(text)
    sys.exit(0 if len(outcomes) == seeds and not report.broken(outcomes) else 1)


def _run(seed: int, effort: Effort, folder: Path, stage: type[Stage]) -> Outcome:
    def say(line: str) -> None:
        click.echo(f"seed {seed} {line}", err=True)

    outcome = run(seed, effort, folder, say=say, build=stage)
    click.echo(report.table([outcome]) + report.broken([outcome]), err=True)
    if not outcome.verdict.broken:
        shutil.rmtree(folder / "valkey")  # large; of a broken run it is the evidence
    return outcome


if __name__ == "__main__":
    main()
