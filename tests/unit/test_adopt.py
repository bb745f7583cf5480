"""A job whose record is gone comes back from a delivery that was kept of it."""

from dataclasses import replace

import pytest

from tests.unit import recorded
from tests.unit.lab import JOB, REMASTER, WAV, Lab
from worker.core.errors import InvalidRequest, InvalidSignature, TaskFailed
from worker.core.job.models import JobId
from worker.core.job.states import JobState
from worker.core.providers import find

SONG = recorded.delivery("delivery_completed")
FAILED = recorded.delivery("delivery_failed")
STREAMING = recorded.delivery("delivery_streaming")


def test_a_song_becomes_the_result_of_its_job() -> None:
    lab = Lab()
    assert lab.adoption.adopt(lab.kept(SONG), find(REMASTER)) is JobState.SUCCEEDED
    job = lab.readings.read(JOB)
    assert (job.operation, job.due_at) == (REMASTER, None)
    assert job.result == lab.answered[JOB]
    assert len(lab.answered[JOB]["clips"]) == 2


def test_a_failure_becomes_the_error_of_its_job() -> None:
    lab = Lab()
    assert lab.adoption.adopt(lab.kept(FAILED), find(REMASTER)) is JobState.FAILED
    assert isinstance(lab.answered[JOB], TaskFailed)
    assert (lab.readings.read(JOB).error or {})["type"] == "TaskFailed"


@pytest.mark.parametrize(
    ("body", "operation", "why"),
    [(STREAMING, REMASTER, "no end of a job"), (SONG, WAV, "takes no webhook")],
)
def test_only_an_end_is_adopted_and_only_as_what_it_can_be(
    body: bytes, operation: str, why: str
) -> None:
    lab = Lab()
    with pytest.raises(InvalidRequest, match=why):
        lab.adoption.adopt(lab.kept(body), find(operation))
    assert (lab.state(), lab.answered) == (None, {})


def test_a_job_that_has_a_record_is_not_adopted() -> None:
    lab = Lab()
    lab.bring(JobState.WAITING)
    with pytest.raises(InvalidRequest, match="has a record"):
        lab.adoption.adopt(lab.kept(SONG), find(REMASTER))
    assert (lab.state(), lab.answered) == (JobState.WAITING, {})


def test_an_entry_of_another_job_is_not_the_providers() -> None:
    lab = Lab()
    entry = replace(lab.kept(SONG), job_id=JobId("job-2"))
    with pytest.raises(InvalidSignature):
        lab.adoption.adopt(entry, find(REMASTER))
    assert not lab.answered


@pytest.mark.parametrize(
    ("tenant", "lane"), [(None, "interactive:default"), ("acme", "interactive:acme")]
)
def test_an_adopted_job_is_of_the_tenant_that_is_named(tenant: str | None, lane: str) -> None:
    lab = Lab()
    lab.adoption.adopt(lab.kept(SONG), find(REMASTER), tenant=tenant)
    assert lab.readings.read(JOB).lane == lane


def test_there_can_be_no_tenant_of_any_name() -> None:
    lab = Lab()
    with pytest.raises(InvalidRequest, match="must be 1 to 64 letters"):
        lab.adoption.adopt(lab.kept(SONG), find(REMASTER), tenant="a:b")
    assert (lab.state(), lab.answered) == (None, {})
