"""One run: a load, faults while it lasts, then quiet, then the audit."""

import random
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.chaos.books import Progress, Verdict, audit, count_trouble
from tests.chaos.faults import Faults
from tests.chaos.load import Composer, Flow
from tests.chaos.stage import Stage

Say = Callable[[str], None]

FAULT_SECONDS: Final = 1.0
"""The time between two faults, in which killed processes come back and work gets done."""

JOBS_PER_SECOND: Final = 8.0
STUCK_SECONDS: Final = 240
"""If nothing has moved for so long, nothing will: the run gives up."""

QUIET_SECONDS: Final = 10
"""The quiet before the audit: a second copy of anything has run by then."""

LIMIT_SECONDS: Final = 1800
SAY_EVERY_SECONDS: Final = 10


@dataclass(frozen=True, slots=True)
class Effort:
    """How much of everything."""

    jobs: int
    faults: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """The numbers of one run: load, faults, audit."""

    seed: int
    jobs: int
    flows: int
    faults: Counter[str]
    trouble: Counter[str]
    restarts: int
    seconds: float
    verdict: Verdict


class Run:
    """A run over a stage that is up."""

    def __init__(self, stage: Stage, seed: int, effort: Effort, say: Say) -> None:
        self._stage = stage
        self._effort = effort
        self._say = say
        self._flows = deque(Composer(stage.app, random.Random(seed)).compose(effort.jobs))
        self._started: list[Flow] = []
        self._faults = Faults(stage, random.Random(~seed))
        self._begun = time.monotonic()
        self._limit = self._begun + LIMIT_SECONDS
        self._said = 0.0

    def play(self) -> tuple[list[Flow], Faults]:
        """Enqueue the load with faults all the while, and wait until everything is over.

        A run is short, and beat's minutes are long: it lasts until there was one.
        """
        seconds = max(self._effort.jobs / JOBS_PER_SECOND, self._effort.faults * FAULT_SECONDS)
        flow_seconds = seconds / len(self._flows)
        next_flow = next_fault = time.monotonic()
        while self._is_on():
            now = time.monotonic()
            self._stage.tend()
            if self._flows and now >= next_flow:
                next_flow += flow_seconds
                self._start(self._flows.popleft())
            if self._faults.count() < self._effort.faults and now >= next_fault:
                next_fault = now + seconds / self._effort.faults * 0.8
                self._faults.inject()
            self._report()
            time.sleep(0.01)
        self._faults.disarm()
        self._stage.stop_beat()
        self._settle()
        return self._started + self._stage.minutely.flows(), self._faults

    def _is_on(self) -> bool:
        faults = self._faults.count() < self._effort.faults
        return bool(self._flows) or faults or not self._stage.minutely.flows()

    def _start(self, flow: Flow) -> None:
        for step in flow.jobs:
            times = 1 if step.trouble.get("submit") == "rate_limited" else None
            match = step.source if step.operation == "sonic.stems_full" else step.key
            scenario = {"latency_seconds": 0.2 + int(step.key[:2], 16) / 128} | step.trouble
            self._stage.simulator.rule(match, times=times, **scenario)
        assert flow.canvas is not None
        flow.canvas.apply_async()
        self._started.append(flow)

    def _settle(self) -> None:
        """Wait until every step has ended, or until nothing has moved for too long."""
        progress = Progress(self._stage)
        pending, changed_at, quiet_since = -1, time.monotonic(), time.monotonic()
        while (now := time.monotonic()) < min(changed_at + STUCK_SECONDS, self._limit):
            self._stage.tend()
            left = progress.pending(self._started + self._stage.minutely.flows())
            if len(left) != pending:
                pending, changed_at = len(left), now
            if left or not self._stage.is_idle():
                quiet_since = now
            if now > quiet_since + QUIET_SECONDS:
                return
            self._report(f"{pending} steps to come")
            time.sleep(0.3)

    def _report(self, more: str = "") -> None:
        now = time.monotonic() - self._begun
        if now < self._said + SAY_EVERY_SECONDS:
            return
        self._said = now
        jobs = sum(len(flow.jobs) for flow in self._started)
        self._say(f"{now:4.0f} s: {jobs} jobs enqueued, {self._faults.count()} faults; {more}")


def run(
    seed: int, effort: Effort, folder: Path, *, say: Say, build: Callable[[Path], Stage] = Stage
) -> Outcome:
    """Run one seed in a folder of its own; none of its processes runs on afterwards."""
    begun = time.monotonic()
    with build(folder) as stage:
        flows, faults = Run(stage, seed, effort, say).play()
        return Outcome(
            seed=seed,
            jobs=sum(len(flow.jobs) for flow in flows),
            flows=len(flows),
            faults=faults.done,
            trouble=count_trouble(flows),
            restarts=stage.restarts,
            seconds=time.monotonic() - begun,
            verdict=audit(stage, flows),
        )
