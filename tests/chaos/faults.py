"""The faults: which there are, and how each is done."""

import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from tests.chaos import kills
from tests.chaos.kills import Point
from tests.chaos.stage import WORKERS, Stage

WEIGHTS: Final = {
    "kill point": 46,
    "kill pool child": 12,
    "kill worker": 6,
    "kill worker's main process": 4,
    "kill receiver": 4,
    "kill receiver's child": 5,
    "kill beat": 2,
    "freeze worker": 5,
    "freeze receiver": 5,
    "freeze Valkey": 4,
    "restart Valkey": 4,
    "lose message": 3,
}
WHOLE: Final = 0.25
"""How many of the kill points take a whole process group with them, not one process."""


class Faults:
    """Injects faults from a seed, and counts those that took place."""

    def __init__(self, stage: Stage, rng: random.Random) -> None:
        self._stage = stage
        self._rng = rng
        self._armed: dict[Point, Path] = {}
        self.done: Counter[str] = Counter()

    def inject(self) -> None:
        """Draw a fault and do it. A fault that finds no target does not count."""
        kind = self._rng.choices(list(WEIGHTS), weights=list(WEIGHTS.values()))[0]
        worker = self._rng.choice(WORKERS)
        nth = self._rng.randrange(8)
        seconds = self._rng.uniform(1, 4)
        stage = self._stage
        deeds: dict[str, Callable[[], Any]] = {
            "kill point": self._arm,
            "kill pool child": lambda: stage.kill(worker, child=nth),
            "kill worker": lambda: stage.kill(worker),
            "kill worker's main process": lambda: stage.kill_main(worker),
            "kill receiver": lambda: stage.kill_main("receiver"),
            "kill receiver's child": lambda: stage.kill("receiver", child=nth),
            "kill beat": lambda: stage.kill("beat"),
            "freeze worker": lambda: stage.freeze(worker, seconds),
            "freeze receiver": lambda: stage.freeze("receiver", seconds),
            "freeze Valkey": lambda: stage.freeze_valkey(seconds),
            "restart Valkey": lambda: stage.restart_valkey(seconds - 1),
            "lose message": stage.lose_message,
        }
        if deeds[kind]() is not False and kind != "kill point":
            self.done[kind] += 1

    def _arm(self) -> None:
        free = [point for point in Point if point not in self._armed]
        if free:
            point, whole = self._rng.choice(free), self._rng.random() < WHOLE
            self._armed[point] = kills.arm(self._stage.folder, point, whole=whole)

    def count(self) -> int:
        """Count the faults that took place, kill points that a process has passed among them."""
        for point, armed in list(self._armed.items()):
            if not armed.exists():
                del self._armed[point]
                self.done[f"at {point}"] += 1
        return self.done.total()

    def disarm(self) -> None:
        """Take back the kill points that nobody has passed."""
        for armed in self._armed.values():
            armed.unlink(missing_ok=True)
