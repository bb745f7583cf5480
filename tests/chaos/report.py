"""The table of a chaos run."""

from collections import Counter
from collections.abc import Sequence

from tests.chaos.run import Outcome

COLUMNS = (
    "seed", "jobs", "flows", "faults", "provider's faults", "seconds", "unsettled",
    "accepted twice", "results lost", "steps run twice", "chords, errbacks, steps missing",
    "Celery disagrees", "unconfirmed", "plain steps run again",
)  # fmt: skip


def table(outcomes: Sequence[Outcome]) -> str:
    """Make the Markdown table: one row a seed."""
    rows = [COLUMNS, ("---:",) * len(COLUMNS), *map(_row, outcomes)]
    return "".join(f"| {' | '.join(map(str, row))} |\n" for row in rows)


def _row(outcome: Outcome) -> tuple[object, ...]:
    verdict = outcome.verdict
    return (
        outcome.seed, outcome.jobs, outcome.flows, outcome.faults.total(),
        outcome.trouble.total(), round(outcome.seconds), len(verdict.unsettled),
        len(verdict.accepted_twice), len(verdict.results_lost),
        len(verdict.uncalled) + len(verdict.ran_twice), len(verdict.missing),
        len(verdict.disagreeing), verdict.unknowable, verdict.again,
    )  # fmt: skip


def kinds(outcomes: Sequence[Outcome]) -> str:
    """List how often each kind of fault took place, over all seeds."""
    faults: Counter[str] = sum((each.faults for each in outcomes), Counter())
    trouble: Counter[str] = sum((each.trouble for each in outcomes), Counter())
    lines = ["Ours:", *_lines(faults), "The provider's:", *_lines(trouble)]
    return "".join(f"{line}\n" for line in lines)


def _lines(counted: Counter[str]) -> list[str]:
    return [f"  {number:5}  {kind}" for kind, number in counted.most_common()]


def broken(outcomes: Sequence[Outcome]) -> str:
    """Name what broke a promise."""
    return "".join(
        f"seed {outcome.seed}, {promise}: {', '.join(keys)}\n"
        for outcome in outcomes
        for promise, keys in outcome.verdict.broken.items()
    )
