"""What becomes of a job that is submitted: whatever the provider says, or does not."""

from typing import Any

import pytest
from structlog.testing import capture_logs

from tests.unit import recorded
from tests.unit.lab import JOB, LYRICS_TIMELINE, REMASTER, WAV, Lab
from worker.core.errors import FermataError, JobCancelled, RequestRefused, UnknownJob
from worker.core.job.lanes import Lane
from worker.core.job.models import Event, Leased, Parked, Source
from worker.core.job.states import JobState
from worker.core.job.timing import PUBLISH_LEASE_SECONDS, OnUnconfirmed
from worker.core.providers import find
from worker.core.wire import AnswerLost, NeverSent
from worker.engine.submit import MOST_REFUSALS

GRACE = 900
LOST = AnswerLost("a timeout")
ACCEPTED = recorded.answer("submit_accepted")

OUTCOMES: dict[str, tuple[Any, str, JobState, float]] = {
    "accepted": (ACCEPTED, REMASTER, JobState.WAITING, 150),
    "never sent": (NeverSent("no route"), REMASTER, JobState.QUEUED, 1),
    "too many requests": (recorded.answer("error_429"), REMASTER, JobState.QUEUED, 7),
    "unknown": (LOST, REMASTER, JobState.UNCONFIRMED, GRACE),
    "unknown, and may be asked again": (LOST, LYRICS_TIMELINE, JobState.QUEUED, 1),
    "no credits": (recorded.answer("error_402"), REMASTER, JobState.QUEUED, 0),
}


@pytest.mark.parametrize("case", OUTCOMES)
def test_a_job_that_is_not_settled_here_waits(case: str) -> None:
    answer, operation, state, due_in = OUTCOMES[case]
    lab = Lab()
    assert lab.submit(answer, operation) is None
    assert (lab.state(), lab.due_in()) == (state, due_in)
    assert len(lab.transport.asked) == 1


ENDS: dict[str, tuple[Any, str, str | None]] = {
    "refused": (recorded.answer("error_400_message"), REMASTER, "RequestRefused"),
    "answered": (recorded.answer("wav_ready"), WAV, None),
    "unknown, and no webhook will tell": (LOST, WAV, "SubmissionUnconfirmed"),
}


@pytest.mark.parametrize("case", ENDS)
def test_a_job_that_is_settled_here_is_claimed_by_its_own_leg(case: str) -> None:
    answer, operation, error = ENDS[case]
    lab = Lab()
    event = lab.submit(answer, operation)
    assert event
    assert event.source is Source.ANSWER
    assert (event.error or {}).get("type") == error
    lab.attempts.claim(lab.attempt(operation), event)
    assert (lab.state(), lab.error()) == (JobState.RESUMING, error)


def test_an_operator_may_choose_to_submit_again_what_nobody_knows_of() -> None:
    lab = Lab(on_unconfirmed=OnUnconfirmed.RESUBMIT)
    assert lab.submit(LOST, WAV) is None
    assert (lab.state(), lab.readings.read(JOB).resubmissions) == (JobState.QUEUED, 1)


def test_a_job_is_held_while_the_gate_is_closed_and_nothing_is_sent() -> None:
    lab = Lab()
    lab.memory.breaker, lab.memory.probe_at = "OutOfCredits", lab.now + 30
    assert not lab.begin(lab.attempt())
    assert (lab.state(), lab.due_in()) == (JobState.HELD, 1000)
    assert not lab.transport.asked


@pytest.mark.parametrize("refused_before", range(MOST_REFUSALS + 1))
def test_a_job_that_closes_an_open_gate_again_and_again_fails_by_it(refused_before: int) -> None:
    lab = Lab()
    lab.bring(JobState.SUBMITTING)
    lab.records.note(JOB, now=lab.now, fields={"refusals": refused_before})
    lab.transport.answers.append(recorded.answer("error_402"))
    event = lab.submissions.submit(lab.attempt(), {})
    assert bool(event) is (refused_before == MOST_REFUSALS)
    assert bool(lab.memory.breaker)


def test_a_job_is_passed_on_to_another_queue_unless_somebody_has_begun_it() -> None:
    lab = Lab()
    upload, parked = find("sonic.upload"), Parked("a message", {})
    leased_until = lab.now + PUBLISH_LEASE_SECONDS
    assert lab.attempts.pass_on(JOB, upload, {}, parked, Lane()) == leased_until
    assert (lab.state(), lab.due_in()) == (JobState.QUEUED, PUBLISH_LEASE_SECONDS)
    assert lab.begin(lab.attempt(upload.name), on_record=True)
    assert lab.attempts.pass_on(JOB, upload, {}, parked, Lane()) is None


def test_a_webhook_that_was_faster_than_the_answer_has_won() -> None:
    lab = Lab()
    lab.bring(JobState.SUBMITTING)
    webhook = Event(Source.WEBHOOK, body="{}")
    assert lab.records.claim(JOB, webhook, now=lab.now)
    lab.transport.answers.append(ACCEPTED)
    assert lab.submissions.submit(lab.attempt(), {}) is None
    assert (lab.state(), lab.readings.event(JOB)) == (JobState.RESUMING, webhook)
    assert lab.readings.read(JOB).provider_task_id


def test_a_leg_that_was_given_up_announces_nothing() -> None:
    lab = Lab()
    assert lab.begin(lab.attempt())
    assert not lab.begin(lab.attempt(leg="leg-2"))
    assert lab.records.take_from(JOB, "leg-1")
    assert lab.attempts.announce(lab.attempt()) is None


def test_a_job_whose_record_was_lost_is_not_submitted_without_its_message() -> None:
    lab = Lab()
    with pytest.raises(UnknownJob):
        lab.begin(lab.attempt(), on_record=True)
    assert lab.state() is None


@pytest.mark.parametrize("case", sorted(recorded.cases("request.json")))
def test_a_job_begins_with_the_clip_that_it_works_on_if_there_is_one(case: str) -> None:
    wanted = recorded.load(case, "request.json")
    operation = find(wanted["operation"])
    lab = Lab()
    body = lab.provider.check(operation.name, wanted["parameters"])
    assert lab.attempts.begin(lab.attempt(operation.name), body, Parked("{}", {}), Lane())
    job, clips = lab.readings.read(JOB), wanted["parameters"].get(operation.clip_field)
    assert job.operation == operation.name
    assert job.clip_id == (clips if isinstance(clips, str) else None)


# -- the end ----------------------------------------------------------------------------------

ENDINGS: dict[str, tuple[Any, JobState]] = {
    "a result": ({"clips": []}, JobState.SUCCEEDED),
    "a cancellation": (JobCancelled("by a test"), JobState.CANCELLED),
    "our error": (RequestRefused("no"), JobState.FAILED),
    "anybody's error": (ZeroDivisionError(), JobState.FAILED),
}


@pytest.mark.parametrize("case", ENDINGS)
def test_a_job_is_settled_once_by_how_its_leg_ended(case: str) -> None:
    outcome, state = ENDINGS[case]
    lab = Lab()
    lab.bring(JobState.RESUMING)
    for each in (outcome, {"clips": ["another"]}):
        lab.settle(each)
    job = lab.readings.read(JOB)
    assert (job.state, job.due_at) == (state, None)
    assert job.result == (outcome if state is JobState.SUCCEEDED else None)
    assert bool(job.error) is (state is not JobState.SUCCEEDED)


def test_the_log_of_a_settled_job_says_whose_it_was_what_ended_it_and_how_long_it_took() -> None:
    lab = Lab()
    lab.bring(JobState.RESUMING)
    event = Event(Source.POLL, body="{}")
    leased = Leased(JOB, REMASTER, "m", event, 1, created_at=lab.now - 42, tenant="acme")
    with capture_logs() as logs:
        lab.settle({"clips": []}, leased=leased)
    [told] = logs
    assert told["event"] == "job_settled"
    wanted: dict[str, Any] = {"operation": REMASTER, "tenant": "acme", "source": "poll"}
    wanted |= {"seconds": 42, "outcome": "succeed"}
    assert {name: told[name] for name in wanted} == wanted


def test_the_log_of_a_job_that_was_never_parked_names_no_source() -> None:
    with capture_logs() as logs:
        Lab().settle(RequestRefused("no"))
    assert [(told["source"], told["outcome"]) for told in logs] == [("none", "fail")]


def test_a_resumed_leg_raises_the_error_of_its_event() -> None:
    event = Event(Source.SWEEP, error=RequestRefused("no").to_json())
    with pytest.raises(FermataError, match="no"):
        Lab().settlements.result(Leased(JOB, REMASTER, "m", event, 1), find(REMASTER))
