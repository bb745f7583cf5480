"""What nobody knows of: a submission whose answer was lost, and what the operator chose then."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.integration.conftest import IMPATIENT, Flows
from tests.integration.flow import GET_SECONDS, Flow, clip, who
from tests.system import System
from worker.core.errors import SubmissionUnconfirmed

NOTHING_COMES_BACK = {"submit": "drop", "webhook": "lost"}


@pytest.fixture(scope="module")
def daring(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flows]:
    """The flows of a system whose operator would rather pay twice than not at all."""
    folder = tmp_path_factory.mktemp("daring")
    chosen = IMPATIENT | {"FERMATA_ON_UNCONFIRMED": "resubmit", "FERMATA_DEADLINE_SECONDS": "60"}
    with System(folder, **chosen) as system:
        system.worker(app="tests.canvas_app")
        flows = Flows(system)
        yield flows
        flows.close()


def submits(flow: Flow, job_id: str) -> list[float]:
    """When the job was submitted, by its timeline."""
    return [e["at"] for e in flow.record(job_id).timeline if e["what"] == "submit"]


def direct(flow: Flow, rule: dict[str, Any], *, times: int | None = None) -> Any:
    """A paid call whose answer is its result: no webhook, nothing to poll, not repeatable."""
    job = flow.job(operation="lyrics.generate")
    job.kwargs["description"] = about = f"a song about {clip()}"
    flow.system.simulator.rule(about, times=times, **rule)
    return job, about


def test_an_unconfirmed_job_is_submitted_again_after_its_grace_period(daring: Flows) -> None:
    flow, source = daring.open(), clip()
    flow.system.simulator.rule(source, times=1, **NOTHING_COMES_BACK)
    job = flow.job(source)

    result = (job | flow.note()).apply_async().get(timeout=GET_SECONDS)

    assert who(result) == job.id
    flow.ends()
    first, second = submits(flow, job.id)
    assert second - first >= float(IMPATIENT["FERMATA_UNCONFIRMED_GRACE_SECONDS"])
    assert len(flow.accepted(job.id)) == flow.record(job.id).attempts == 2


def test_a_provider_that_stays_silent_is_paid_three_times_at_most(daring: Flows) -> None:
    flow = daring.open()
    job = flow.job(clip(), rule=NOTHING_COMES_BACK)

    result = (job | flow.note(runs=0)).apply_async(link_error=flow.errback())

    with pytest.raises(SubmissionUnconfirmed):
        result.get(timeout=GET_SECONDS)
    flow.ends()
    record = flow.record(job.id)
    assert (len(flow.accepted(job.id)), record.attempts, record.resubmissions) == (3, 3, 2)


def test_a_direct_call_whose_answer_is_lost_fails_at_once_and_is_not_sent_again(
    impatient_flow: Flow,
) -> None:
    flow = impatient_flow
    job, about = direct(flow, {"submit": "drop"})

    result = (job | flow.note(runs=0)).apply_async(link_error=flow.errback())

    with pytest.raises(SubmissionUnconfirmed, match="not sent again"):
        result.get(timeout=GET_SECONDS)
    flow.ends()
    assert (len(flow.accepted(about)), flow.record(job.id).attempts) == (1, 1)
    assert "doubt" not in flow.turns(job.id)


def test_a_direct_call_is_sent_again_where_the_operator_chose_so(daring: Flows) -> None:
    flow = daring.open()
    job, about = direct(flow, {"submit": "drop"}, times=1)

    result = (job | flow.note()).apply_async().get(timeout=GET_SECONDS)

    assert who(result) == job.id
    flow.ends()
    assert len(flow.accepted(about)) == flow.record(job.id).attempts == 2


def test_a_direct_call_is_sent_three_times_at_most(daring: Flows) -> None:
    flow = daring.open()
    job, about = direct(flow, {"submit": "drop"})

    result = job.apply_async(link_error=flow.errback())

    with pytest.raises(SubmissionUnconfirmed):
        result.get(timeout=GET_SECONDS + 10)
    flow.ends()
    assert len(flow.accepted(about)) == flow.record(job.id).attempts == 3
