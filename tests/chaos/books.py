"""The audit: the simulator's own books against our records, results and counted steps."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from celery import states

from tests.chaos.load import Flow, Kind, Step
from tests.chaos.stage import Stage
from worker.core.job.models import JobId, JobRecord, JSONObject
from worker.core.job.states import TERMINAL, JobState, Turn
from worker.core.providers.aimusic.operations import find

FINAL: Final = frozenset({"song.completed", "song.failed"})
UNREADABLE: Final = frozenset({"malformed", "nonsense"})
"""Deliveries that the receiver answers with 200 and keeps in quarantine."""


@dataclass(slots=True)
class Verdict:
    """The outcome of the audit. Each list names the jobs or steps that broke a promise."""

    unsettled: list[str] = field(default_factory=list)
    accepted_twice: list[str] = field(default_factory=list)
    results_lost: list[str] = field(default_factory=list)
    disagreeing: list[str] = field(default_factory=list)
    """Celery's result is not what the record says."""
    uncalled: list[str] = field(default_factory=list)
    """Jobs and plain steps that ran although the job before them had not ended that way."""
    ran_twice: list[str] = field(default_factory=list)
    """Plain steps of which two copies ran, and errbacks that got two errors."""
    missing: list[str] = field(default_factory=list)
    """Bodies of chords, errbacks, plain steps and scheduled minutes that never ran."""
    unknowable: int = 0
    """Jobs without an answer to the submit and without a webhook: SubmissionUnconfirmed."""
    again: int = 0
    """Plain steps and errbacks that ran again from the same message: their worker had died."""

    @property
    def broken(self) -> dict[str, list[str]]:
        promises = (
            "unsettled", "accepted_twice", "results_lost", "disagreeing", "uncalled", "ran_twice",
            "missing",
        )  # fmt: skip
        return {name: getattr(self, name) for name in promises if getattr(self, name)}


class Progress:
    """The steps that are still to come, by our own records."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._ended: dict[str, JobState] = {}
        self._ran: set[str] = set()

    def pending(self, flows: Sequence[Flow]) -> list[str]:
        """Name the steps that should run, or end, and have not."""
        return [s.key for flow in flows for s in flow.steps if self._is_pending(s)]

    def _is_pending(self, step: Step) -> bool:
        if not self.is_called(step):
            return False
        if step.kind is Kind.JOB:
            return self.ending(step.key) is None
        return not self._has_run(step.key)

    def is_called(self, step: Step) -> bool:
        """Say whether a step has to run, as far as the records tell."""
        endings = [self.ending(job_id) for job_id in step.after]
        if step.kind is Kind.ERRBACK:
            return any(e not in {None, JobState.SUCCEEDED} for e in endings)
        return all(ending is JobState.SUCCEEDED for ending in endings)

    def ending(self, job_id: str) -> JobState | None:
        """Return how a job has ended; None if it has not."""
        if job_id not in self._ended:
            state = self._stage.readings.state(JobId(job_id))
            if state in TERMINAL and state is not None:
                self._ended[job_id] = state
        return self._ended.get(job_id)

    def _has_run(self, key: str) -> bool:
        if key not in self._ran and self._stage.runs(key):
            self._ran.add(key)
        return key in self._ran


def audit(stage: Stage, flows: Sequence[Flow]) -> Verdict:
    """Compare the simulator's books with our records, when all is quiet."""
    verdict, progress = Verdict(), Progress(stage)
    booked = _Booked(stage.simulator.books()["tasks"])
    for step in (step for flow in flows for step in flow.steps):
        called = progress.is_called(step)
        if step.kind is not Kind.JOB:
            _audit_plain(verdict, stage, step, called=called)
        elif progress.ending(step.key) is not None:
            record = stage.readings.read(JobId(step.key))
            _audit_job(verdict, stage, step, record, booked.of(step, record))
            verdict.uncalled += [] if called else [step.key]
        elif called:
            verdict.unsettled.append(step.key)
        elif booked.of(step, None):
            verdict.uncalled.append(step.key)
    verdict.missing += stage.minutely.missing()
    return verdict


def _audit_plain(verdict: Verdict, stage: Stage, step: Step, *, called: bool) -> None:
    runs = stage.runs(step.key)
    if called and not runs:
        verdict.missing.append(step.key)
    if runs and not called:
        verdict.uncalled.append(step.key)
    copies = len(set(runs))
    if copies > 1:
        verdict.ran_twice.append(step.key)
    verdict.again += len(runs) - copies


def _audit_job(
    verdict: Verdict, stage: Stage, step: Step, record: JobRecord, tasks: list[JSONObject]
) -> None:
    if len(tasks) > 1:
        verdict.accepted_twice.append(step.key)
    if not _agrees(stage, record):
        verdict.disagreeing.append(step.key)
    succeeded = [task for task in tasks if task["state"] == "succeeded"]
    if _is_unconfirmed(record):
        verdict.unknowable += 1
        if _was_answered(record) or _was_heard(step, record, tasks):
            verdict.results_lost.append(step.key)
    elif not tasks or bool(succeeded) is not (record.state is JobState.SUCCEEDED):
        verdict.results_lost.append(step.key)


def _is_unconfirmed(record: JobRecord) -> bool:
    return (record.error or {}).get("type") == "SubmissionUnconfirmed"


def _was_answered(record: JobRecord) -> bool:
    return any(entry["what"] == Turn.ACCEPT for entry in record.timeline)


def _was_heard(step: Step, record: JobRecord, tasks: list[JSONObject]) -> bool:
    """Say whether the receiver took the job's webhook, and could read it, before the job ended."""
    ended_at = record.timeline[-1]["at"]
    deliveries = [each for task in tasks for each in task["deliveries"] if each["event"] in FINAL]
    return step.trouble.get("webhook") not in UNREADABLE and any(
        each["http_status"] == 200 and each["at"] < ended_at for each in deliveries
    )


def _agrees(stage: Stage, record: JobRecord) -> bool:
    meta = stage.app.backend.get_task_meta(record.job_id)
    if record.state is JobState.SUCCEEDED:
        return bool(meta["status"] == states.SUCCESS and meta["result"] == record.result)
    error = (record.error or {}).get("type")
    return bool(meta["status"] == states.FAILURE and type(meta["result"]).__name__ == error)


class _Booked:
    """The simulator's tasks by job: by the job id in their callback, else by their clip."""

    def __init__(self, tasks: list[JSONObject]) -> None:
        self._tasks: dict[str, list[JSONObject]] = defaultdict(list)
        for task in tasks:
            request = task["request"]
            url = str(request.get("webhook_url") or "")
            key = url.rpartition("/")[2] or f"{task['path']} {request.get('clip_id')}"
            self._tasks[key].append(task)

    def of(self, step: Step, record: JobRecord | None) -> list[JSONObject]:
        clip = step.source or (record.clip_id if record else None)
        return self._tasks.get(step.key) or self._tasks.get(f"{_path(step)} {clip}") or []


def _path(step: Step) -> str:
    return find(step.operation).path


def count_trouble(flows: Sequence[Flow]) -> Counter[str]:
    """Count what the provider did to jobs, by kind."""
    steps = [step for flow in flows for step in flow.jobs if step.trouble]
    return Counter(
        "+".join(str(value) for value in step.trouble.values() if isinstance(value, str))
        for step in steps
    )
