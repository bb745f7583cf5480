"""What a publish does beside the message, and where a message goes that names no queue."""

import functools
from collections.abc import Iterator
from typing import Any, cast

import pytest
from celery import Celery
from celery.signals import after_task_publish, before_task_publish
from kombu import Exchange, Queue

from worker.core.errors import InvalidRequest
from worker.messages.recording import RecordingAMQP

JOB = "fermata.sonic.remaster"
MONITOR = "monitor"


class Book:
    """A recorder: it keeps what it is given, and says what it is told to."""

    def __init__(self) -> None:
        self.wires: list[dict[str, Any]] = []
        self.publish: bool | InvalidRequest = True

    def record(self, operation: Any, wire: dict[str, Any]) -> bool:
        self.wires.append(wire)
        if isinstance(self.publish, InvalidRequest):
            raise self.publish
        return self.publish


def note() -> None:
    """A task of the application itself."""


@pytest.fixture
def book() -> Book:
    return Book()


@pytest.fixture
def app(book: Book) -> Iterator[Celery]:
    recorder = cast(Any, lambda: book)
    amqp: Any = functools.partial(
        RecordingAMQP, recorder=recorder, follow_up_queue=lambda: "celery"
    )
    app = Celery(
        "recording", broker="memory://", amqp=amqp, set_as_current=False, changes={
            "task_default_queue": "fermata", "task_send_sent_event": True,
            "result_backend": "disabled",
        },
    )  # fmt: skip
    with app, app.connection_for_write() as connection:
        # What a monitor hears stands here, until the test looks.
        channel: Any = connection.default_channel
        Queue(MONITOR, Exchange("celeryev", "topic"), "#").declare(channel=channel)
        channel.queue_purge(MONITOR)
        yield app


def found(app: Celery, queue: str) -> list[Any]:
    """Take all that stands in a queue."""
    with app.connection_for_read() as connection:
        channel: Any = connection.default_channel
        return list(iter(lambda: channel.basic_get(queue, no_ack=True), None))


def sent(app: Celery) -> list[tuple[str, str]]:
    """What a monitor has heard: the type of each event, and its task's id."""
    return [(event.payload["type"], event.payload["uuid"]) for event in found(app, MONITOR)]


def test_a_job_is_recorded_by_its_message_and_told_when_that_is_published(
    app: Celery, book: Book
) -> None:
    app.send_task(JOB, task_id="job-1")

    assert [wire["headers"]["id"] for wire in book.wires] == ["job-1"]
    assert [message.headers["id"] for message in found(app, "fermata")] == ["job-1"]
    assert sent(app) == [("task-sent", "job-1")]


def test_nothing_is_published_or_told_of_a_job_that_waits(app: Celery, book: Book) -> None:
    book.publish = False

    app.send_task(JOB, task_id="job-1")

    assert (len(book.wires), found(app, "fermata"), sent(app)) == (1, [], [])


def test_nor_of_one_that_could_not_be_recorded(app: Celery, book: Book) -> None:
    book.publish = InvalidRequest("No.")

    with pytest.raises(InvalidRequest):
        app.send_task(JOB, task_id="job-1")

    assert (found(app, "fermata"), sent(app)) == ([], [])


@pytest.mark.parametrize("signal", [before_task_publish, after_task_publish], ids=lambda s: s.name)
def test_what_a_user_does_when_a_task_is_published_is_done_once(app: Celery, signal: Any) -> None:
    done: list[str] = []

    def publish_beside(headers: dict[str, Any], **_: Any) -> None:
        done.append(headers["id"])
        if headers["task"] == JOB:
            app.send_task("audit.note", task_id="beside", queue="audit")

    signal.connect(publish_beside, weak=False)
    try:
        app.send_task(JOB, task_id="job-1")
    finally:
        signal.disconnect(publish_beside)

    assert done == ["job-1", "beside"]
    assert [message.headers["id"] for message in found(app, "fermata")] == ["job-1"]
    found(app, "audit")


# -- where a message goes ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "options", "queue"),
    [
        ("backend.note", {}, "celery"),
        ("backend.note", {"queue": None}, "celery"),
        ("backend.note", {"queue": "mail"}, "mail"),
        ("reports.daily", {}, "reports"),
        ("reports.daily", {"queue": "mail"}, "mail"),
        ("here.note", {}, "fermata"),
        (JOB, {}, "fermata"),
        ("fermata.sonic.of_a_newer_version", {}, "fermata"),
        ("celery.chord_unlock", {}, "fermata"),
    ],
)
def test_a_task_that_names_no_queue_goes_where_it_can_be_run(
    app: Celery, name: str, options: dict[str, Any], queue: str
) -> None:
    app.conf.task_routes = {"reports.*": {"queue": "reports"}}
    app.task(name="here.note", shared=False)(note)
    app.finalize()

    app.send_task(name, task_id="the task", **options)

    assert [message.headers["id"] for message in found(app, queue)] == ["the task"]


def test_a_route_that_is_set_later_is_followed_too(app: Celery) -> None:
    app.send_task("reports.daily")
    app.conf.update(task_routes={"reports.*": {"queue": "reports"}})

    app.send_task("reports.daily", task_id="later")

    assert len(found(app, "celery")) == 1
    assert [message.headers["id"] for message in found(app, "reports")] == ["later"]


def test_a_worker_does_not_consume_what_it_only_publishes_to(app: Celery) -> None:
    app.send_task("backend.note")

    assert list(app.amqp.queues.consume_from) == ["fermata"]
    found(app, "celery")
