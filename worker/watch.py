"""Follow the jobs of a flow until each has ended."""

from collections.abc import Iterator
from dataclasses import dataclass
from time import monotonic, sleep
from typing import Final

from worker.core.errors import UnknownJob
from worker.core.models import JobRecord
from worker.core.states import TERMINAL, JobState
from worker.flow import Flow, Step
from worker.store import Store

LOOK_EVERY_SECONDS: Final = 0.2
NOT_STARTED: Final = "not started"
NOT_RUN: Final = "not run"


@dataclass(frozen=True, slots=True)
class Sight:
    """One job as it stands: its record, or none where no worker has begun it."""

    step: Step
    record: JobRecord | None
    not_run: bool = False
    """The job it follows failed, so it never runs."""

    @property
    def state(self) -> str:
        if self.record:
            return self.record.state
        return NOT_RUN if self.not_run else NOT_STARTED

    @property
    def ended(self) -> bool:
        return self.not_run or (self.record is not None and self.record.state in TERMINAL)

    @property
    def succeeded(self) -> bool:
        return self.record is not None and self.record.state is JobState.SUCCEEDED


def look(store: Store, flow: Flow) -> list[Sight]:
    """Look at every job of a flow once."""
    seen: dict[str, Sight] = {}
    for step in flow.steps:
        before = seen.get(step.after or "")
        record = _read(store, step)
        stopped = record is None and before is not None and before.ended and not before.succeeded
        seen[step.job_id] = Sight(step, record, not_run=stopped)
    return list(seen.values())


def follow(store: Store, flow: Flow, *, timeout_seconds: float | None) -> Iterator[list[Sight]]:
    """Yield what there is to see, again and again, until every job has ended or time is up."""
    give_up = None if timeout_seconds is None else monotonic() + timeout_seconds
    while True:
        sights = look(store, flow)
        yield sights
        if all(sight.ended for sight in sights) or (give_up is not None and monotonic() > give_up):
            return
        sleep(LOOK_EVERY_SECONDS)


def _read(store: Store, step: Step) -> JobRecord | None:
    try:
        return store.read(step.job_id)
    except UnknownJob:
        return None
