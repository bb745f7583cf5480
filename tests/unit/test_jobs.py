"""What a worker writes on a record before the provider hears of the job."""

from typing import Any

import pytest
from redis import Redis

from tests.unit import recorded
from worker.core.job.lanes import Lane, Limits
from worker.core.job.models import JobId, Parked
from worker.core.job.states import JobState
from worker.core.job.timing import Policy
from worker.core.providers.aimusic.operations import OPERATIONS
from worker.core.providers.aimusic.submission import check_parameters
from worker.engine.legs import Attempt, Callbacks, Jobs
from worker.store.gate import Gate


class Turns:
    """Records that keep what they are told."""

    def __init__(self) -> None:
        self.fields: dict[str, Any] = {}
        self.unavailable = OSError

    def admit(self, *_: Any, fields: dict[str, Any], **__: Any) -> JobState:
        self.fields = fields
        return JobState.SUBMITTING


def begun(case: str) -> dict[str, Any]:
    """Begin the job of a recorded request; returns what its record holds."""
    wanted = recorded.load(case, "request.json")
    operation = OPERATIONS[wanted["operation"]]
    body = check_parameters(operation, wanted["parameters"])
    records: Any = Turns()
    readings: Any = None
    provider: Any = None
    gate = Gate(Redis(), Limits(), held_seconds=60)
    callbacks = Callbacks("https://fermata.example", "k")
    jobs = Jobs(
        records=records, readings=readings, provider=provider, gate=gate, callbacks=callbacks,
        policy=Policy(), clock=lambda: 0.0, jitter=lambda: 0.0,
    )  # fmt: skip
    attempt = Attempt(JobId("job-1"), operation, "leg")
    assert jobs.begin(attempt, body, Parked("{}", {}), Lane())
    fields: dict[str, Any] = records.fields
    return fields


@pytest.mark.parametrize("case", sorted(recorded.cases("request.json")))
def test_a_job_begins_with_the_clip_that_it_works_on_if_there_is_one(case: str) -> None:
    wanted = recorded.load(case, "request.json")
    row, fields = OPERATIONS[wanted["operation"]], begun(case)
    assert fields["operation"] == row.name
    clips = wanted["parameters"].get(row.clip_field)
    assert fields.get("clip_id") == (clips if isinstance(clips, str) else None)
