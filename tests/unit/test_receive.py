"""What becomes of a delivery, by where its job stands."""

from dataclasses import replace

import pytest

from tests.unit import recorded
from tests.unit.lab import JOB, REMASTER, Lab
from worker.core.contract import PROBE_BODY, PROBE_ID
from worker.core.errors import InvalidPayload, InvalidSignature, UnknownJob
from worker.core.job.models import JobId, Kind, Leased, Source
from worker.core.job.states import LIVE, LOST, TERMINAL, JobState
from worker.core.job.timing import OnUnconfirmed
from worker.core.providers import find
from worker.engine.receive import Receipt

SONG = recorded.delivery("delivery_completed")
PARTLY = recorded.delivery("delivery_completed_too_soon")
STREAMING = recorded.delivery("delivery_streaming")
HALF = SONG.replace(b"succeeded", b"failed", 1)
FAILED = recorded.delivery("delivery_failed")
PARKED = LIVE - {JobState.RESUMING}


def in_state(state: JobState) -> Lab:
    lab = Lab()
    lab.bring(state)
    return lab


def told(lab: Lab) -> str:
    return str(lab.readings.read(JOB).timeline[-1]["what"])


@pytest.mark.parametrize("state", sorted(PARKED))
@pytest.mark.parametrize("body", [SONG, FAILED])
def test_an_end_resumes_a_parked_job_wherever_it_stands(state: JobState, body: bytes) -> None:
    lab = in_state(state)
    assert lab.deliver(body) == Receipt.RESUMED
    event = lab.readings.event(JOB)
    assert event
    assert (event.source, event.delivery_id, event.body) == (Source.WEBHOOK, "d-1", body.decode())
    assert lab.state() is JobState.RESUMING


@pytest.mark.parametrize("body", [SONG, FAILED])
def test_the_same_end_again_has_no_effect(body: bytes) -> None:
    lab = in_state(JobState.WAITING)
    lab.deliver(body)
    assert lab.deliver(body) == Receipt.WITHOUT_EFFECT
    assert told(lab).endswith("again")


@pytest.mark.parametrize("state", sorted({JobState.RESUMING} | LOST))
def test_a_song_of_a_job_that_ends_without_it_is_kept(state: JobState) -> None:
    lab = in_state(state)
    assert lab.deliver(SONG) == Receipt.LATE
    late = lab.readings.read(JOB).late or {}
    assert (late["final"], late["body"], late["delivery_id"]) == (True, SONG.decode(), "d-1")
    assert lab.deliver(SONG) == Receipt.WITHOUT_EFFECT


@pytest.mark.parametrize("state", sorted(TERMINAL))
def test_a_failure_of_a_job_that_has_ended_is_only_noted(state: JobState) -> None:
    lab = in_state(state)
    assert lab.deliver(FAILED) == Receipt.WITHOUT_EFFECT
    assert (told(lab), lab.readings.read(JOB).late) == ("song.failed again", None)


@pytest.mark.parametrize("state", sorted(PARKED))
def test_whoever_streams_has_accepted(state: JobState) -> None:
    lab = in_state(state)
    assert lab.deliver(STREAMING) == Receipt.PROGRESS
    job = lab.readings.read(JOB)
    assert (job.state, bool(job.provider_task_id)) == (JobState.WAITING, True)
    assert job.progress


@pytest.mark.parametrize("body", [STREAMING, PARTLY])
def test_progress_of_a_job_that_was_cancelled_is_nothing_or_a_part_of_a_song(body: bytes) -> None:
    lab = in_state(JobState.CANCELLED)
    late = body is PARTLY
    assert lab.deliver(body) == (Receipt.LATE if late else Receipt.WITHOUT_EFFECT)
    assert bool(lab.readings.read(JOB).late) is late


def end_well(lab: Lab, body: bytes) -> None:
    lab.bring(JobState.WAITING)
    lab.deliver(body)
    event, operation = lab.readings.event(JOB), find(REMASTER)
    assert event
    result = lab.settlements.result(Leased(JOB, REMASTER, "a message", event, 1), operation)
    lab.settle(result)


@pytest.mark.parametrize(
    ("first", "then", "receipt"),
    [
        (SONG, SONG + b" ", Receipt.WITHOUT_EFFECT),
        (SONG, HALF, Receipt.WITHOUT_EFFECT),
        (HALF, SONG, Receipt.LATE),
    ],
)
def test_after_a_song_only_more_of_it_is_kept(first: bytes, then: bytes, receipt: Receipt) -> None:
    lab = Lab()
    end_well(lab, first)
    assert lab.deliver(then) == receipt
    assert lab.state() is JobState.SUCCEEDED


def test_the_whole_song_takes_the_place_of_a_part_that_came_late() -> None:
    lab = in_state(JobState.EXPIRED)
    assert [lab.deliver(body) for body in (PARTLY, SONG)] == [Receipt.LATE] * 2
    assert (lab.readings.read(JOB).late or {})["final"]


def test_another_song_of_a_job_that_was_submitted_twice_is_kept() -> None:
    lab = Lab(on_unconfirmed=OnUnconfirmed.RESUBMIT)
    lab.bring(JobState.WAITING)
    lab.records.note(JOB, now=lab.now, count="resubmissions")
    lab.deliver(SONG)
    other = SONG.replace(b"11111111", b"44444444").replace(b"33333333", b"55555555")
    assert lab.deliver(other) == Receipt.LATE


# -- what cannot be used ----------------------------------------------------------------------


@pytest.mark.parametrize("body", [SONG, FAILED])
def test_an_end_without_a_job_is_an_orphan(body: bytes) -> None:
    lab = Lab()
    assert lab.deliver(body) == Receipt.QUARANTINED
    assert lab.quarantine.kept == [(Kind.ORPHAN, JOB, body)]


def test_progress_without_a_job_is_not_worth_keeping() -> None:
    lab = Lab()
    assert lab.deliver(STREAMING) == Receipt.WITHOUT_EFFECT
    assert not lab.quarantine.kept


def test_a_delivery_that_cannot_be_read_is_kept_and_its_job_is_polled_at_once() -> None:
    lab = in_state(JobState.WAITING)
    assert lab.deliver(b"{") == Receipt.QUARANTINED
    assert lab.quarantine.kept == [(Kind.UNREADABLE, JOB, b"{")]
    assert (lab.state(), lab.due_in(), told(lab)) == (JobState.WAITING, 0, "quarantined")


def test_of_the_headers_only_evidence_is_kept() -> None:
    lab = Lab()
    signed, body = lab.headers(b"{"), b"{"
    lab.deliveries.receive(JOB, signed | {"Cookie": "secret", "User-Agent": "them"}, body)
    assert lab.quarantine.headers == [signed | {"User-Agent": "them"}]


def test_a_forged_delivery_leaves_nothing_behind() -> None:
    lab = in_state(JobState.WAITING)
    with pytest.raises(InvalidSignature):
        lab.deliveries.receive(JOB, lab.headers(SONG, JobId("job-2")), SONG)
    assert (lab.state(), lab.quarantine.kept) == (JobState.WAITING, [])


def test_the_doctors_probe_changes_nothing() -> None:
    lab = Lab()
    assert lab.deliver(PROBE_BODY, JobId(PROBE_ID)) == Receipt.WITHOUT_EFFECT
    assert not lab.quarantine.kept


# -- replayed from quarantine -----------------------------------------------------------------


def test_a_replayed_delivery_resumes_its_job_whatever_its_age() -> None:
    lab = in_state(JobState.WAITING)
    entry = lab.kept(SONG)
    lab.now += 86400
    assert lab.deliveries.replay(entry) == Receipt.RESUMED
    assert "replayed" in [each["what"] for each in lab.readings.read(JOB).timeline]


def test_a_delivery_that_is_still_an_orphan_cannot_be_replayed() -> None:
    lab = Lab()
    with pytest.raises(UnknownJob):
        lab.deliveries.replay(lab.kept(SONG))
    assert lab.state() is None


def test_a_kept_delivery_is_verified_and_read_and_nothing_changes() -> None:
    lab = Lab()
    for body, said in (
        (SONG, "song.completed, the end of a job"),
        (STREAMING, "song.streaming, progress of a job"),
    ):
        assert lab.deliveries.verify(lab.kept(body)).summary == said
    with pytest.raises(InvalidSignature):
        lab.deliveries.verify(replace(lab.kept(SONG), job_id=JobId("job-2")))
    with pytest.raises(InvalidPayload):
        lab.deliveries.verify(lab.kept(b"["))
    assert (lab.state(), lab.quarantine.kept) == (None, [])
