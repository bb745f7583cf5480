"""A backend's own tasks after a job: none of our code, a queue of its own, and no queue named."""

import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from celery import Celery, chord, group
from celery.canvas import Signature

from tests.integration.conftest import Flows
from tests.integration.flow import GET_SECONDS, Flow, clip, ids, who
from tests.system import System
from worker.core.errors import TaskFailed


class Backend:
    """The flows of a backend: its application names no queue, and Fermata's jobs theirs."""

    def __init__(self, flow: Flow) -> None:
        self.flow = flow
        self.app = Celery(
            broker=flow.system.broker_url, backend=flow.system.redis_url, set_as_current=False
        )

    def note(self, *value: Any) -> Signature[Any]:
        return self._own("backend.note", *value)

    def told(self) -> Signature[Any]:
        return self._own("backend.told")

    def _own(self, task: str, *value: Any) -> Signature[Any]:
        key = f"{task}:{uuid.uuid4()}"
        self.flow.expected_runs[key] = 1
        return self.app.signature(task, (*value, key))

    def job(self, *source: Any, **options: Any) -> Signature[Any]:
        return Signature.from_dict(dict(self.flow.job(*source, **options)), app=self.app)

    def failing(self) -> Signature[Any]:
        return self.job(clip(), rule={"outcome": "fail"})

    def chord(self, header: Any, body: Any) -> Any:
        return chord(header, body, app=self.app)

    def group(self, *tasks: Any) -> Any:
        return group(tasks, app=self.app)


@pytest.fixture(scope="module", params=[False, True], ids=["Redis", "RabbitMQ"])
def system(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[System]:
    folder = tmp_path_factory.mktemp("follow-ups")
    with System(folder, rabbitmq=request.param) as system:
        urls: dict[str, Any] = {"BROKER_URL": system.broker_url, "RESULT_BACKEND": system.redis_url}
        system.worker()
        system.worker("backend", app="tests.backend", queues="celery", **urls)
        yield system


@pytest.fixture(scope="module")
def flows(system: System) -> Iterator[Flows]:
    flows = Flows(system)
    yield flows
    flows.close()


@pytest.fixture
def backend(flow: Flow) -> Iterator[Backend]:
    backend = Backend(flow)
    yield backend
    results: Any = backend.app.backend
    results.result_consumer.cancel_for = lambda _: None
    backend.app.close()


def in_a_chain(backend: Backend) -> tuple[Any, Any]:
    first, second = backend.job(clip()), backend.job()
    return first | second | backend.note() | backend.note(), second.id


def between_two_jobs(backend: Backend) -> tuple[Any, Any]:
    first, second = backend.job(clip()), backend.job()
    return first | backend.note() | second, second.id


def as_a_group(backend: Backend) -> tuple[Any, Any]:
    job = backend.job(clip())
    return job | backend.group(backend.note(), backend.note()), [job.id, job.id]


def as_the_body_of_a_chord(backend: Backend) -> tuple[Any, Any]:
    jobs = [backend.job(clip()), backend.job(clip())]
    return backend.chord(jobs, backend.note()), ids(jobs)


def in_the_header_of_a_chord(backend: Backend) -> tuple[Any, Any]:
    job = backend.job(clip())
    header = backend.group(backend.note(), backend.note())
    return job | header | backend.note(), [job.id, job.id]


SHAPES = [
    in_a_chain, between_two_jobs, as_a_group, as_the_body_of_a_chord, in_the_header_of_a_chord,
]  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.__name__)
def test_a_backends_own_task_reaches_its_own_worker(
    backend: Backend, shape: Callable[[Backend], tuple[Any, Any]]
) -> None:
    canvas, expected = shape(backend)

    result = canvas.apply_async().get(timeout=GET_SECONDS)

    assert who(result) == expected
    backend.flow.ends()
    backend.flow.paid_once()


def test_so_does_a_link(backend: Backend) -> None:
    job = backend.job(clip())

    job.apply_async(link=backend.note()).get(timeout=GET_SECONDS)

    backend.flow.ends()


def of_a_job(backend: Backend, job: Any, errback: Any) -> Any:
    return job.apply_async(link_error=errback)


def of_a_chain(backend: Backend, job: Any, errback: Any) -> Any:
    never = backend.app.signature("backend.note", ("never",))
    return (job | never).on_error(errback).apply_async()


def of_the_body_of_a_chord(backend: Backend, job: Any, errback: Any) -> Any:
    never = backend.app.signature("backend.note", ("never",)).on_error(errback)
    return backend.chord([job, backend.job(clip())], never).apply_async()


@pytest.mark.parametrize(
    "shape", [of_a_job, of_a_chain, of_the_body_of_a_chord], ids=lambda shape: shape.__name__
)
def test_so_does_an_errback(backend: Backend, shape: Callable[..., Any]) -> None:
    job, errback = backend.failing(), backend.told()

    result = shape(backend, job, errback)

    with pytest.raises(TaskFailed):
        result.get(timeout=GET_SECONDS)
    backend.flow.ends()
    told = backend.flow.ran(errback)
    assert told in ([job.id], [result.id])


def test_so_does_what_a_task_of_fermatas_is_replaced_with(backend: Backend) -> None:
    song = backend.flow.song()
    own = backend.note()
    backend.flow.expected_runs[own.args[-1]] = 2  # a song has two clips
    each = backend.app.signature("fermata.flows.for_each_clip", (own,), queue="fermata")

    (song | each).apply_async()

    backend.flow.ends()
