"""A follow-up that can never run fails by itself: the job before it succeeds, and all ends."""

import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from celery.canvas import Signature, chord
from kombu.exceptions import EncodeError

from tests.integration.conftest import Flows
from tests.integration.flow import GET_SECONDS, Flow, clip, who
from tests.job import Job
from tests.system import System, wait_until
from worker.core.errors import InvalidRequest, ProviderError

Follow = Callable[[Job, Signature[Any]], Any]


@pytest.fixture(scope="module", params=["Redis", "RabbitMQ"])
def system(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[System]:
    folder = tmp_path_factory.mktemp("follow-ups")
    with System(folder, rabbitmq=request.param == "RabbitMQ") as system:
        system.worker(app="tests.own_app")
        yield system


@pytest.fixture(scope="module")
def flows(system: System) -> Iterator[Flows]:
    flows = Flows(system)
    yield flows
    flows.close()


def linked(job: Job, step: Signature[Any]) -> Any:
    job.link(step)
    return job


FOLLOWS: dict[str, Follow] = {
    "in a chain": lambda job, step: job | step,
    "as a link": linked,
}


def named(flow: Flow, task: str, *args: Any, **kwargs: Any) -> Signature[Any]:
    """A step by its name alone, as a backend without our code writes it."""
    step = flow.system.app.signature(task, args, kwargs, queue="fermata")
    return step.set(task_id=str(uuid.uuid4()))


def fails(flow: Flow, step: Signature[Any], error: type[Exception]) -> None:
    result = flow.system.app.AsyncResult(step.options["task_id"])
    with pytest.raises(error):
        result.get(timeout=GET_SECONDS)


def succeeds(flow: Flow, job: Job) -> None:
    result = flow.system.app.AsyncResult(job.id)
    assert who(result.get(timeout=GET_SECONDS)) == job.id
    wait_until(lambda: flow.state(job.id) == "succeeded", what="it is settled")


@pytest.mark.parametrize("follow", FOLLOWS)
@pytest.mark.parametrize(
    ("task", "given", "error"),
    [
        ("fermata.sonic.wav", {"formatt": "x"}, InvalidRequest),
        ("test.note", {"nope": 1}, TypeError),
    ],
    ids=["an operation", "a plain step"],
)
def test_a_parameter_that_there_is_not_fails_the_step_that_names_it(
    flow: Flow, follow: str, task: str, given: dict[str, Any], error: type[Exception]
) -> None:
    job, step = flow.job(clip()), named(flow, task, **given)
    noted = flow.errback()
    step.link_error(noted)
    FOLLOWS[follow](job, step).apply_async()
    succeeds(flow, job)
    fails(flow, step, error)
    flow.ends()
    flow.paid_once()
    assert flow.ran(noted) == [error.__name__]


def test_a_branch_that_cannot_run_leaves_the_others_alone(flow: Flow) -> None:
    job, bad, good = flow.job(clip()), named(flow, "fermata.sonic.wav", formatt="x"), flow.note()
    result = (job | flow.group(bad, good)).apply_async()
    succeeds(flow, job)
    fails(flow, bad, InvalidRequest)
    assert who(result.results[1].get(timeout=GET_SECONDS)) == job.id
    flow.ends()
    flow.paid_once()


@pytest.mark.parametrize("option", ["serializer", "compression"])
@pytest.mark.parametrize("follow", FOLLOWS)
def test_a_message_that_cannot_be_built_fails_its_step(
    flow: Flow, follow: str, option: str
) -> None:
    step, last = flow.note(runs=0, task_id=str(uuid.uuid4())), flow.note(runs=0)
    noted = flow.errback()
    step.options[option] = "unheard-of"
    step.link_error(noted)
    job = flow.job(clip())
    canvas = FOLLOWS[follow](job, step)
    result = (canvas | last).apply_async() if follow == "in a chain" else canvas.apply_async()
    succeeds(flow, job)
    fails(flow, step, Exception)
    if follow == "in a chain":
        with pytest.raises(Exception, match="unheard-of"):
            result.get(timeout=GET_SECONDS, propagate=True)
    flow.ends()
    assert len(flow.ran(noted)) == 1


OPTIONS: dict[str, dict[str, Any]] = {
    "expires": {"expires": "never"},
    "countdown": {"countdown": "5"},
    "eta": {"eta": "tomorrow"},
    "queue": {"queue": 5},
    "stamp": {"stamped_headers": ["tenant"]},
    "headers": {"headers": "none"},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("follow", FOLLOWS)
def test_an_option_that_celery_refuses_fails_the_step_that_has_it(
    flow: Flow, follow: str, options: dict[str, Any]
) -> None:
    step, noted = named(flow, "test.note", "never"), flow.errback()
    step.options.update(options)
    step.link_error(noted)
    job = flow.job(clip())
    FOLLOWS[follow](job, step).apply_async()
    succeeds(flow, job)
    fails(flow, step, Exception)
    flow.ends()
    flow.paid_once()
    assert len(flow.ran(noted)) == 1


@pytest.mark.parametrize("task", ["own.based", "own.typed"])
@pytest.mark.parametrize("follow", FOLLOWS)
def test_so_do_wrong_arguments_of_a_task_whose_base_has_celery_check_them(
    flow: Flow, follow: str, task: str
) -> None:
    step, noted = named(flow, task, nope=1), flow.errback()
    step.link_error(noted)
    job = flow.job(clip())
    FOLLOWS[follow](job, step).apply_async()
    succeeds(flow, job)
    fails(flow, step, TypeError)
    flow.ends()
    flow.paid_once()
    assert flow.ran(noted) == ["TypeError"]


def test_what_an_errback_itself_cannot_publish_is_its_own_error(flow: Flow) -> None:
    job = flow.job(clip(), rule={"submit": "copyright_400"})
    sends = flow._plain("own.sends_wrongly", (), 2, {})
    job.link_error(sends)
    job.apply_async()
    flow.ends()
    assert flow.ran(sends) == ["TypeError", "SerializerNotInstalled"]


def test_a_part_of_a_chord_that_returns_what_cannot_be_stored_fails_the_chord_once(
    flow: Flow,
) -> None:
    job, body, noted = flow.job(clip()), flow.note(runs=0), flow.errback()
    part = flow._plain("own.unspeakable", (), 1, {"task_id": str(uuid.uuid4())})
    body.link_error(noted)
    result = chord([job, part], body, app=flow.system.app).apply_async()
    with pytest.raises(EncodeError):
        result.get(timeout=GET_SECONDS)
    succeeds(flow, job)
    fails(flow, part, EncodeError)
    flow.ends()
    assert flow.ran(noted) == ["ChordError"]


def test_an_errback_that_cannot_be_called_harms_neither_the_other_nor_the_job(flow: Flow) -> None:
    job = flow.job(clip(), rule={"submit": "copyright_400"})
    good, bad = flow.errback(), named(flow, "test.noted_error", "key", nope=1)
    unknown = named(flow, "fermata.sonic.wav", formatt="x")
    for each in (bad, unknown, good):
        job.link_error(each)
    result = job.apply_async()
    with pytest.raises(ProviderError):
        result.get(timeout=GET_SECONDS)
    flow.ends()
    assert flow.state(job.id) == "failed"
    assert len(flow.ran(good)) == 1
