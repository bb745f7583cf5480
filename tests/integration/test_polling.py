"""What no webhook settles: polls, lost answers, refusals, deadlines, an unreachable provider."""

from collections.abc import Sequence
from typing import Any

import pytest
from celery.result import AsyncResult

from tests.integration.conftest import Flows
from tests.integration.flow import GET_SECONDS, HELD, Flow, clip, who
from tests.ports import take_port
from tests.system import stop, wait_until
from worker.core.errors import (
    DeadlineExceeded,
    InvalidRequest,
    RequestRefused,
    SubmissionUnconfirmed,
    TaskFailed,
)

LOST = {"webhook": "lost"}


class Started:
    """A flow whose job is on its way: parked | a plain step."""

    def __init__(self, flow: Flow, job: Any, *, fails: bool) -> None:
        self.flow = flow
        self.job_id: str = job.id
        self.source: str = job.args[0] if job.args else ""
        self.errback = flow.errback(runs=int(fails))
        canvas = job | flow.note(runs=int(not fails))
        self.result: AsyncResult[Any] = canvas.apply_async(link_error=self.errback)

    def get(self) -> Any:
        return self.result.get(timeout=GET_SECONDS)

    def ends(self) -> None:
        self.flow.ends()
        # Operations without a webhook carry no job id: they are known by their clip.
        assert len(self.flow.accepted(self.source or self.job_id)) == 1


SLOW: dict[str, tuple[str, dict[str, Any], int | None]] = {
    # Polled, backed off or unconfirmed: each waits its seconds, so all are started together.
    "webhook lost": ("sonic.remaster", LOST, 1),
    "webhook forged": ("sonic.remaster", {"webhook": "forged"}, 1),
    "webhook late": ("sonic.remaster", {"webhook": "late", "late_seconds": 3}, 1),
    "two stems": ("sonic.stems_basic", {}, 1),
    "twelve stems": ("sonic.stems_full", {}, 1),
    "answer dropped": ("sonic.remaster", {"submit": "drop"}, 1),
    "answer 500": ("sonic.remaster", {"submit": "error_500"}, 1),
    "answer unreadable": ("sonic.remaster", {"submit": "unreadable"}, 1),
    "429 first": ("sonic.remaster", {"submit": "rate_limited"}, 1),
    "429 first, stems": ("sonic.stems_basic", {"submit": "rate_limited"}, 1),
    "429 first, with Retry-After": (
        "sonic.remaster",
        {"submit": "rate_limited", "retry_after_seconds": 3},
        1,
    ),
    "midi not ready": ("sonic.midi", {"not_ready_times": 2}, None),
    "partial": ("sonic.remaster", LOST | {"outcome": "partial"}, 1),
}
FAILING = {
    f"failure as {form}": LOST | {"outcome": "fail", "failure_form": form}
    for form in ("typed", "gateway_timeout", "clips")
}


@pytest.fixture(scope="module")
def slow(flows: Flows) -> dict[str, Started]:
    return start(flows, list(SLOW))


def start(flows: Flows, names: Sequence[str]) -> dict[str, Started]:
    """Start some of the slow ones, and all that fail."""
    started = {}
    for name, (operation, scenario, times) in ((name, SLOW[name]) for name in names):
        flow, source = flows.open(), clip()
        flow.system.simulator.rule(source, times=times, **scenario)
        job = flow.job(source, operation=operation)
        started[name] = Started(flow, job, fails=False)
    for name, scenario in FAILING.items():
        flow = flows.open()
        started[name] = Started(flow, flow.job(clip(), rule=scenario), fails=True)
    return started


@pytest.mark.parametrize("name", ["webhook lost", "webhook forged", "webhook late"])
def test_a_job_whose_webhook_does_not_come_settles_by_polling(
    slow: dict[str, Started], name: str
) -> None:
    started = slow[name]

    assert who(started.get()) == started.job_id

    started.ends()
    timeline = started.flow.record(started.job_id).timeline
    assert [e["why"] for e in timeline if e["what"] == "claim"] == ["poll"]


@pytest.mark.parametrize(("name", "stems"), [("two stems", 2), ("twelve stems", 12)])
def test_an_operation_that_takes_no_webhook_settles_by_polling(
    slow: dict[str, Started], name: str, stems: int
) -> None:
    started = slow[name]

    clips = started.get()["clips"]

    assert len({c["stem_type"] for c in clips}) == stems
    assert all(c["state"] == "succeeded" and c["audio_url"] for c in clips)
    started.ends()
    [task] = started.flow.accepted(started.source)
    assert ("webhook_url" in task["request"], task["deliveries"]) == (False, [])


@pytest.mark.parametrize("name", FAILING)
def test_a_failure_found_by_a_poll_is_the_providers_error(
    slow: dict[str, Started], name: str
) -> None:
    started = slow[name]

    with pytest.raises(TaskFailed) as raised:
        started.get()

    assert raised.value.refunded is (True if "gateway" in name else None)
    started.ends()
    assert started.flow.ran(started.errback) == ["TaskFailed"]
    assert started.flow.state(started.job_id) == "failed"
    assert started.result.state == "FAILURE"


def test_a_song_with_one_failed_clip_is_a_partial_success(slow: dict[str, Started]) -> None:
    result = slow["partial"].get()

    assert result["partial"] is True
    assert [c["state"] for c in result["clips"]] == ["succeeded", "failed"]
    slow["partial"].ends()


@pytest.mark.parametrize("name", ["answer dropped", "answer 500", "answer unreadable"])
def test_a_submit_whose_answer_is_lost_settles_by_its_webhook(
    slow: dict[str, Started], name: str
) -> None:
    started = slow[name]

    result = started.get()

    started.ends()
    [task] = started.flow.accepted(started.job_id)
    assert result["provider_task_id"] == task["provider_task_id"]
    turns = started.flow.turns(started.job_id)
    assert (turns.count("submit"), turns.count("doubt"), turns.count("accept")) == (1, 1, 0)


@pytest.mark.parametrize("name", ["429 first", "429 first, stems", "429 first, with Retry-After"])
def test_a_refusal_for_now_is_submitted_again_and_accepted_once(
    slow: dict[str, Started], name: str
) -> None:
    started = slow[name]

    assert who(started.get()) == started.job_id

    started.ends()
    record = started.flow.record(started.job_id)
    assert record.attempts == 2
    submits = [entry["at"] for entry in record.timeline if entry["what"] == "submit"]
    assert submits[1] - submits[0] >= (3 if "Retry" in name else 1)


def test_a_midi_file_that_is_not_ready_is_asked_for_again(slow: dict[str, Started]) -> None:
    started = slow["midi not ready"]

    result = started.get()

    assert result["data"]["midi_url"].endswith(".mid")
    assert [c["clip_id"] for c in result["clips"]] == [started.source]
    started.ends()
    record = started.flow.record(started.job_id)
    assert (record.attempts, record.polls) == (3, 0)
    assert started.flow.turns(started.job_id).count("postpone") == 2


REFUSED = {
    "moderation_403": RequestRefused,
}


@pytest.mark.parametrize("submit", REFUSED)
def test_a_refusal_for_good_fails_at_once_and_is_not_sent_again(flow: Flow, submit: str) -> None:
    job = flow.job(clip(), rule={"submit": submit})
    errback = flow.errback()

    result = (job | flow.note(runs=0)).apply_async(link_error=errback)
    with pytest.raises(REFUSED[submit]):
        result.get(timeout=GET_SECONDS)

    flow.ends()
    assert (flow.accepted(job.id), flow.record(job.id).attempts) == ([], 1)
    assert flow.ran(errback) == [REFUSED[submit].__name__]
    assert (result.state, flow.state(job.id)) == ("FAILURE", "failed")


@pytest.mark.parametrize("wrong", [{"mv": "chirp-v99"}, {"mv": "chirp-v5", "typo": 1}])
def test_a_wrong_request_fails_before_the_provider_hears_of_it(
    flow: Flow, wrong: dict[str, Any]
) -> None:
    job = flow.job(clip())
    job["kwargs"] = wrong
    submits = flow.system.simulator.books()["submits"]

    result = (job | flow.note(runs=0)).apply_async()
    with pytest.raises(InvalidRequest):
        result.get(timeout=GET_SECONDS)

    flow.ends()
    assert flow.system.simulator.books()["submits"] == submits
    assert (flow.state(job.id), flow.record(job.id).attempts) == ("failed", 0)


def test_a_submit_is_sent_again_when_the_provider_is_back(flow: Flow) -> None:
    port = take_port()
    url = f"http://127.0.0.1:{port}/api/v1"
    worker = flow.system.worker("offline", queues="offline", FERMATA_PROVIDER_URL=url)
    job = flow.job(clip(), queue="offline")
    try:
        result = (job | flow.note()).apply_async()
        wait_until(lambda: "postpone" in flow.turns(job.id) if flow.state(job.id) else False)
        command = ["-m", "simulator", "--port", str(port), "--latency", "0.1"]
        late = flow.system.run("late", *command, SIMULATOR_API_KEY="sk_simulated_0123456789")
        assert who(result.get(timeout=GET_SECONDS)) == job.id
    finally:
        stop(worker)
    stop(late)
    flow.ends()
    assert flow.accepted(job.id) == []
    record = flow.record(job.id)
    assert (record.state, flow.turns(job.id).count("accept")) == ("succeeded", 1)
    assert "cannot reach" in next(e["why"] for e in record.timeline if e["what"] == "postpone")


# The impatient system: its deadline, grace period and HTTP timeout are short.


@pytest.mark.parametrize("submit", ["drop", "error_500"])
def test_answer_and_webhook_both_lost_is_unconfirmed_and_never_sent_again(
    impatient_flow: Flow, submit: str
) -> None:
    flow = impatient_flow
    job, errback = flow.job(clip(), rule=LOST | {"submit": submit}), flow.errback()

    result = (job | flow.note(runs=0)).apply_async(link_error=errback)
    with pytest.raises(SubmissionUnconfirmed, match="not sent again"):
        result.get(timeout=GET_SECONDS)

    flow.ends()
    flow.paid_once()
    assert result.state == "FAILURE"
    assert flow.ran(errback) == ["SubmissionUnconfirmed"]
    assert (flow.state(job.id), flow.record(job.id).attempts) == ("failed", 1)


def test_a_webhook_after_the_job_was_given_up_changes_nothing(impatient_flow: Flow) -> None:
    flow = impatient_flow
    rule = {"submit": "drop", "webhook": "late", "latency_seconds": 0.1, "late_seconds": 1.5}
    job = flow.job(clip(), rule=rule)
    result = (job | flow.note(runs=0)).apply_async()

    with pytest.raises(SubmissionUnconfirmed):
        result.get(timeout=GET_SECONDS)

    flow.ends()
    wait_until(lambda: flow.accepted(job.id)[0]["deliveries"], what="the late webhook came")
    [delivery] = flow.accepted(job.id)[0]["deliveries"]
    assert (delivery["http_status"], flow.state(job.id)) == (200, "failed")
    flow.ends()


def test_a_deadline_ends_the_flow_natively(impatient_flow: Flow) -> None:
    # Handling of gotcha 6: Step.EXPIRE (engine/sweep.py) resumes the job with a failing event.
    flow = impatient_flow
    job, tail, errback = flow.job(clip(), rule=HELD), flow.note(runs=0), flow.errback()

    result = (job | flow.note(runs=0) | tail).apply_async(link_error=errback)
    with pytest.raises(DeadlineExceeded, match="within 2 s"):
        result.get(timeout=GET_SECONDS)

    flow.ends()
    flow.paid_once()
    assert result.state == "FAILURE"
    assert AsyncResult(job.id, app=flow.system.app).state == "FAILURE"
    assert flow.ran(errback) == ["DeadlineExceeded"]
    assert flow.state(job.id) == "expired"


def test_a_deadline_in_a_chord_fails_its_body(impatient_flow: Flow) -> None:
    flow = impatient_flow
    body, errback = flow.note(runs=0), flow.errback()
    body.link_error(errback)

    result = flow.chord([flow.job(clip()), flow.job(clip(), rule=HELD)], body).apply_async()
    with pytest.raises(DeadlineExceeded):
        result.get(timeout=GET_SECONDS)

    flow.ends()
    flow.paid_once()
    assert flow.ran(errback) == ["ChordError"]
    assert sorted(str(flow.state(j)) for j in flow.jobs) == ["expired", "succeeded"]


def test_a_submit_slower_than_its_timeout_is_doubted_and_settles(impatient_flow: Flow) -> None:
    flow = impatient_flow
    rule = {"submit": "slow", "submit_delay_seconds": 3, "latency_seconds": 1.2}
    job = flow.job(clip(), rule=rule)

    result = (job | flow.note()).apply_async().get(timeout=GET_SECONDS)

    assert who(result) == job.id
    flow.ends()
    flow.paid_once()
    assert flow.turns(job.id).count("doubt") == 1
