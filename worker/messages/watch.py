"""Finds the jobs of a flow, and follows them until each has ended."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from time import monotonic, sleep
from typing import Final

from worker.core.contract import JOB_ID
from worker.core.errors import UnknownJob
from worker.core.job import canvas
from worker.core.job.canvas import Step
from worker.core.job.models import JobId, JobRecord
from worker.core.job.states import LOST, TERMINAL, JobState
from worker.core.providers import chosen
from worker.messages.flow import Flow
from worker.store.readings import Readings

LOOK_EVERY_SECONDS: Final = 0.2
NOT_STARTED: Final = "not started"
NOT_RUN: Final = "not run"
NO_RECORD: Final = "no record"
"""The state of a step that is no job of ours, or has no id before it is published."""
MOST_STEPS: Final = 500
"""Of a longer or wider flow, only the first jobs are shown, and the job in question."""


@dataclass(frozen=True, slots=True)
class Sight:
    """One job as it stands: its record, or None if it has none yet."""

    step: Step
    record: JobRecord | None
    not_run: bool = False
    """The job that it follows did not succeed, so it never runs."""

    @property
    def state(self) -> str:
        if self.record:
            return self.record.state
        if self.not_run:
            return NOT_RUN
        recorded = self.step.operation in chosen().operations and JOB_ID.fullmatch(self.step.job_id)
        return NOT_STARTED if recorded else NO_RECORD

    @property
    def ended(self) -> bool:
        return self.not_run or (self.record is not None and self.record.state in TERMINAL)

    @property
    def succeeded(self) -> bool:
        return self.record is not None and self.record.state is JobState.SUCCEEDED


def look(readings: Readings, flow: Flow, *, only: Sequence[str] | None = None) -> list[Sight]:
    """Look at every job of a flow once.

    Args:
        only: what is needed of the records, besides what places a job in its flow; None: all.
    """
    records = _read(readings, [step.job_id for step in flow.steps], only)
    seen: dict[str, Sight] = {}
    for step in flow.steps:
        before, record = seen.get(step.after or ""), records.get(step.job_id)
        stopped = record is None and before is not None and before.ended and not before.succeeded
        seen[step.job_id] = Sight(step, record, not_run=stopped)
    return list(seen.values())


def _read(
    readings: Readings, job_ids: Sequence[JobId], only: Sequence[str] | None
) -> dict[JobId, JobRecord]:
    """Read the records of some steps; of one that failed and was retried, the job in its place."""
    found: dict[JobId, JobRecord] = {}
    steps = {job_id: job_id for job_id in job_ids}
    while steps:
        wanted = [*steps]
        read = readings.read_those(wanted) if only is None else readings.read_in_part(wanted, *only)
        found |= {steps[record.job_id]: record for record in read}
        steps = {r.again: steps[r.job_id] for r in read if r.again and r.state in LOST}
    return found


def flow_of(readings: Readings, record: JobRecord) -> Flow:
    """Find the flow that a job is part of: the first job on record, and the jobs after it."""
    record = _original(readings, record)
    above = readings.read_in_part([job_id for job_id in (record.first, record.after) if job_id])
    top = _original(readings, above[0]) if above else record
    steps = {top.job_id: Step(top.job_id, top.operation)}
    _descend(readings, [top], steps)
    if record.job_id not in steps:
        # A user's task published this job by its own code, so no message of the flow names it.
        before = record.after if record.after in steps else top.job_id
        steps[record.job_id] = Step(record.job_id, record.operation, before)
        _descend(readings, [record], steps)
    return Flow(tuple(steps.values()))


def _original(readings: Readings, record: JobRecord) -> JobRecord:
    """Find the job that the flow names: the first one, if this job runs in the place of another."""
    while record.instead_of:
        try:
            record = readings.read(record.instead_of)
        except UnknownJob:
            return record
    return record


def those(readings: Readings, job_ids: Sequence[JobId]) -> Flow:
    """Find some jobs; before each that has no record yet, the jobs that it follows.

    Raises UnknownJob if one of them has no record, and is in the flow of none of the others.
    """
    known = {record.job_id: record for record in readings.read_in_part(job_ids)}
    steps: dict[str, Step] = {}
    for record in known.values():
        # Jobs that are named together are often of one flow: it is read once.
        if record.job_id not in steps:
            steps |= {step.job_id: step for step in flow_of(readings, record).steps}
    for job_id in job_ids:
        if job_id not in steps:  # it is unknown, unless it has begun just now
            steps[job_id] = Step(job_id, readings.read(job_id).operation)
    wanted: set[str] = set()
    for each in job_ids:
        wanted |= _up_to_a_record(each, steps, known)
    return Flow(tuple(step for job_id, step in steps.items() if job_id in wanted))


def _up_to_a_record(
    job_id: str, steps: Mapping[str, Step], known: Mapping[JobId, JobRecord]
) -> set[str]:
    """Return a job that has no record yet with the jobs before it: if they fail, it never runs."""
    found = {job_id}
    while job_id not in known and (before := steps[job_id].after) in steps and before not in found:
        found.add(job_id := str(before))
    return found


def _descend(readings: Readings, level: list[JobRecord], steps: dict[JobId, Step]) -> None:
    """Add the jobs that follow some jobs, level by level.

    A job that has not ended still knows from its message all that follows; an ended one keeps
    those directly after it.
    """
    while level and len(steps) < MOST_STEPS:
        for following in _following(readings, level):
            for step in following[: MOST_STEPS - len(steps)]:
                steps.setdefault(step.job_id, step)
        below = {job.job_id for job in level}
        level = readings.read_in_part(
            [each.job_id for each in steps.values() if each.after in below]
        )


def _following(readings: Readings, jobs: Sequence[JobRecord]) -> Iterator[tuple[Step, ...]]:
    """Yield what follows each of some jobs."""
    without = [job.job_id for job in jobs if not job.following]
    messages = dict(zip(without, readings.messages(without), strict=True))
    for job in jobs:
        if job.following:
            yield tuple(Step(*step) for step in job.following["steps"])
        elif message := messages[job.job_id]:
            yield canvas.still_to_come(job.job_id, message)


def follow(
    readings: Readings, flow: Flow, *, timeout_seconds: float | None
) -> Iterator[list[Sight]]:
    """Yield the jobs' states again and again, until every job has ended or the time is up."""
    give_up = None if timeout_seconds is None else monotonic() + timeout_seconds
    while True:
        sights = look(readings, flow)
        yield sights
        if all(sight.ended for sight in sights) or (give_up is not None and monotonic() > give_up):
            return
        sleep(LOOK_EVERY_SECONDS)
