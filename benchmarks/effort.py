"""How much is measured: enough for a figure, or only enough to see that it works."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Effort:
    """The bounds of a run. Every count is for one round."""

    rounds: int
    deliveries: int
    tasks: int
    """Fifteen times this and a warm-up stay below 2,000, where a worker replaces its child."""
    chains: int
    parked: int
    """Jobs parked at once to weigh them; one round, for a size does not vary."""
    resolved: int
    many: int
    """Jobs parked at once, against a thousand."""
    idle_seconds: float
    turns: int
    """How often each slot of a worker waits for a slow provider."""
    kills: int
    """Workers that are killed at once."""
    long_rounds: int
    """Rounds of what takes some ten seconds however fast the machine is: it waits."""
    chains_per_second: float = 25


FULL: Final = Effort(
    rounds=5, deliveries=300, tasks=120, chains=50, parked=1000,
    resolved=200, many=1_000_000, idle_seconds=5, turns=4, kills=3, long_rounds=3,
)  # fmt: skip
QUICK: Final = Effort(
    rounds=1, deliveries=50, tasks=20, chains=10, parked=40,
    resolved=60, many=10_000, idle_seconds=3, turns=1, kills=1, long_rounds=1,
)  # fmt: skip
