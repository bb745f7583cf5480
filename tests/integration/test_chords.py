"""A chord whose body cannot be published when its last task ends (worker/app/accidents.py)."""

import uuid
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery
from celery.app.task import Context
from celery.app.trace import trace_task
from celery.exceptions import Reject
from kombu.exceptions import OperationalError

from worker.app.accidents import ChordBackend, PatientBackend, StepBackend
from worker.app.plain_task import Step
from worker.core.job.timing import Policy
from worker.store.embedded import EmbeddedValkey
from worker.store.plain_steps import PlainSteps

pytestmark = pytest.mark.filterwarnings("ignore:Call to deprecated setex")  # celery's

BODY = "body"


class Chord:
    """A chord of two tasks, the first of which has ended."""

    def __init__(self, app: Celery, *, backend: type[ChordBackend]) -> None:
        self.app, self.backend = app, backend(app.backend)
        self.body = app.signature("test.body", task_id=str(uuid.uuid4()), queue=BODY)
        self.group, self.last = str(uuid.uuid4()), str(uuid.uuid4())
        self.backend.set_chord_size(self.group, 2)
        first = self.request(str(uuid.uuid4()), index=0)
        self.backend.mark_as_done(first.id, "first", first)

    def request(self, task_id: str, *, index: int, **options: Any) -> Context:
        group = {"id": task_id, "group": self.group, "group_index": index, "chord": self.body}
        return Context(group | options)

    def ends(self) -> None:
        self.backend.mark_as_done(self.last, "last", self.request(self.last, index=1))

    def published(self) -> int:
        with self.app.connection_for_read() as connection:
            channel: Any = connection.default_channel
            return int(channel._size(BODY))

    def claims(self) -> list[bytes]:
        return [self.backend.client.get(key) for key in self.backend.client.keys("*.c")]


@pytest.fixture
def app(
    valkey: EmbeddedValkey, redis: Any, monkeypatch: pytest.MonkeyPatch
) -> Iterator["Celery[Step]"]:
    policy = SimpleNamespace(policy=Policy(submit_timeout_seconds=30))
    parts = SimpleNamespace(plain_steps=PlainSteps(redis), settings=policy)
    monkeypatch.setattr("worker.app.plain_task.worker_process.parts", lambda: parts)
    app = Celery(
        "chords", broker=valkey.url, backend=valkey.url, task_cls=Step, set_as_current=False
    )
    # A result unsubscribes when it is collected; the server may be gone by then.
    backend: Any = app.backend
    backend.result_consumer.cancel_for = lambda _: None
    yield app
    app.close()


def declare_step(app: Celery, ran: list[str]) -> Any:
    @app.task(name="test.step", shared=False)
    def step() -> None:
        ran.append("again")

    return step


@pytest.fixture
def away(app: Celery, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """The broker is away, until this is undone."""

    def refuse(*_: Any, **__: Any) -> None:
        raise OperationalError("the broker is away")

    monkeypatch.setattr(app.amqp, "_retry_publish", refuse)
    return monkeypatch


def test_a_job_that_runs_again_publishes_the_body_that_it_could_not(
    app: Celery, away: pytest.MonkeyPatch
) -> None:
    chord = Chord(app, backend=PatientBackend)
    with pytest.raises(OperationalError):
        chord.ends()
    assert (chord.published(), chord.claims()) == (0, [])

    away.undo()
    chord.ends()
    chord.ends()

    assert (chord.published(), chord.claims()) == (1, [b"done"])


def test_so_does_a_plain_step_that_comes_again_and_its_function_does_not_run(
    app: Celery, away: pytest.MonkeyPatch
) -> None:
    ran: list[str] = []
    step = declare_step(app, ran)
    chord = Chord(app, backend=StepBackend)
    with pytest.raises(Reject) as rejected:
        chord.ends()
    assert (rejected.value.args[1], chord.published()) == (True, 0)

    away.undo()
    redelivered = {"delivery_info": {"redelivered": True}}
    request = chord.request(chord.last, index=1, **redelivered)
    trace_task(step, chord.last, (), {}, vars(request), app=app)

    assert (chord.published(), ran) == (1, [])


def test_a_step_that_comes_again_without_a_result_runs(app: Celery) -> None:
    ran: list[str] = []
    step = declare_step(app, ran)
    chord = Chord(app, backend=StepBackend)

    redelivered = {"delivery_info": {"redelivered": True}}
    request = chord.request(chord.last, index=1, **redelivered)
    trace_task(step, chord.last, (), {}, vars(request), app=app)

    assert (chord.published(), ran) == (1, ["again"])


def test_a_step_waits_while_a_dead_worker_holds_its_chord(
    app: Celery, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr("worker.app.accidents.time.sleep", pauses.append)
    chord = Chord(app, backend=StepBackend)
    claim = chord.backend.get_key_for_group(chord.group, ".c")
    chord.backend.client.set(claim, "a dead worker's")

    with pytest.raises(Reject) as rejected:
        chord.ends()

    assert (rejected.value.args[1], len(pauses)) == (True, 1)
    chord.backend.client.delete(claim)
    chord.ends()
    assert chord.published() == 1
