"""What legs leave behind is written together and in order; one that cannot be holds up no other."""

import json
import threading
import zlib
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest
from celery import Celery
from celery.app.task import Context
from celery.backends.redis import RedisBackend
from celery.states import SUCCESS

from tests.unit.lab import JOB, REMASTER, Lab
from worker.app import settler as settler_module
from worker.app.accidents import PatientBackend
from worker.app.settler import Ended, Result, Settler, in_hand, result_of
from worker.core.job.models import Event, JobId, Leased, Settlement, Source
from worker.core.job.states import JobState, Turn
from worker.store.connection import StoreUnavailable

EVENT = Event(Source.WEBHOOK, body="{}")


class Backend:
    """Celery's backend on Redis, as far as the settler goes."""

    expires = 60

    def __init__(self, book: list[Any]) -> None:
        self.client = self
        self._book = book
        self._waiting: list[str] = []
        self.refused: set[str] = set()
        self.is_away = False

    def pipeline(self, *, transaction: bool) -> Any:
        assert not transaction
        return self

    def __enter__(self) -> "Backend":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def set(self, key: str, text: str, *, ex: int) -> None:
        self._waiting.append(key)

    def publish(self, key: str, text: str) -> None:
        pass

    def ensure(self, write: Any, args: Any, *, max_retries: int) -> Any:
        return write(*args)

    def execute(self, *, raise_on_error: bool) -> list[Any]:
        assert not raise_on_error
        keys, self._waiting = self._waiting, []
        if self.is_away:
            raise ConnectionError("it is away")
        self._book.append(["result", *(each for each in keys if each not in self.refused)])
        replies = [ValueError("no") if each in self.refused else True for each in keys]
        return [reply for each in replies for reply in (each, 1)]


class Settlements:
    """Settles jobs in a book; those of ``refused`` only when the settler insists."""

    def __init__(self, book: list[Any]) -> None:
        self._book = book
        self.refused: set[str] = set()
        self.fault: Exception | None = None
        self.is_writing, self.may_write = threading.Event(), threading.Event()
        self.may_write.set()

    def try_to_settle(self, settlements: Sequence[Settlement]) -> Any:
        self.is_writing.set()
        self.may_write.wait(10)
        if self.fault:
            raise self.fault
        left = [each for each in settlements if each.job_id in self.refused]
        self._book.append(["settled", *(each.job_id for each in settlements if each not in left)])
        return left, ValueError("no") if left else None

    def settle(self, settlements: Sequence[Settlement]) -> None:
        self._book.append(["insisted", *(each.job_id for each in settlements)])


class Desk:
    """A settler, and all that it does, in order."""

    def __init__(self) -> None:
        self.book: list[Any] = []
        self.backend, self.settlements = Backend(self.book), Settlements(self.book)
        self.settler = Settler(
            self.settlements,  # type: ignore[arg-type]
            put_off=lambda job, error: self.book.append(["put off", job.job_id, str(error)]),
            done=self.done,
        )
        self.fault: Exception | None = None

    def settle(self, ended: Ended) -> None:
        """Do with a leg as a conductor's thread does."""
        if left := self.settler.settle(ended):
            self.settler.insist(left)

    def done(self, ended: Ended) -> None:
        if self.fault:
            raise self.fault
        self.book.append(["done", ended.job_id])

    def ended(self, name: str, *, stored: bool = False) -> Ended:
        job_id = JobId(name)
        settlement = Settlement(job_id, Turn.SUCCEED, "", {}, [], {})
        result = None if stored else Result(self.backend, name, "{}")
        return Ended(Leased(job_id, REMASTER, "", EVENT, 1), result, settlement)


@pytest.fixture
def desk() -> Desk:
    return Desk()


def test_what_ends_while_a_thread_writes_is_written_by_that_thread_in_one_go(desk: Desk) -> None:
    desk.settlements.may_write.clear()
    first = threading.Thread(target=desk.settle, args=(desk.ended("a"),))
    first.start()
    assert desk.settlements.is_writing.wait(10)
    for name in "bcd":
        desk.settle(desk.ended(name))  # returns at once
    assert desk.book == [["result", "a"]]
    desk.settlements.may_write.set()
    first.join(10)
    assert desk.book == [
        ["result", "a"], ["settled", "a"], ["done", "a"],
        ["result", "b", "c", "d"], ["settled", "b", "c", "d"], *(["done", each] for each in "bcd"),
    ]  # fmt: skip


def test_a_job_whose_result_celery_has_stored_is_only_settled(desk: Desk) -> None:
    desk.settle(desk.ended("a", stored=True))
    assert desk.book == [["settled", "a"], ["done", "a"]]


def together(desk: Desk, *names: str) -> None:
    """Let legs end while a thread writes, so that they are written together."""
    desk.settlements.may_write.clear()
    first = threading.Thread(target=desk.settle, args=(desk.ended("first"),))
    first.start()
    assert desk.settlements.is_writing.wait(10)
    for name in names:
        desk.settle(desk.ended(name))
    desk.settlements.may_write.set()
    first.join(10)
    del desk.book[:3]


def test_a_job_whose_result_is_refused_is_put_off_and_not_settled(desk: Desk) -> None:
    desk.backend.refused = {"b"}
    together(desk, "a", "b", "c")
    assert desk.book == [
        ["result", "a", "c"], ["put off", "b", "no"], ["done", "b"],
        ["settled", "a", "c"], ["done", "a"], ["done", "c"],
    ]  # fmt: skip


def test_if_no_result_can_be_stored_no_job_is_settled(desk: Desk) -> None:
    desk.backend.is_away = True
    desk.settle(desk.ended("a"))
    assert desk.book == [["put off", "a", "it is away"], ["done", "a"], ["settled"]]


def test_a_job_that_cannot_be_settled_now_is_insisted_on_when_others_can_write(desk: Desk) -> None:
    desk.settlements.refused = {"b"}
    together(desk, "a", "b", "c")
    settled = [["settled", "a", "c"], ["done", "a"], ["done", "c"]]
    assert desk.book == [["result", "a", "b", "c"], *settled, ["insisted", "b"], ["done", "b"]]


def test_an_error_that_nobody_expects_keeps_nobody_from_writing(desk: Desk) -> None:
    desk.settlements.fault = ZeroDivisionError()
    desk.settle(desk.ended("a"))
    desk.settlements.fault = None
    desk.settle(desk.ended("b"))
    done = [["done", "a"], ["result", "b"], ["settled", "b"], ["done", "b"]]
    assert desk.book == [["result", "a"], *done]


def test_a_monitor_that_cannot_be_told_keeps_nobody_from_writing(desk: Desk) -> None:
    desk.fault = ZeroDivisionError()
    desk.settle(desk.ended("a"))
    desk.fault = None
    desk.settle(desk.ended("b"))
    written = [["result", "b"], ["settled", "b"], ["done", "b"]]
    assert desk.book == [["result", "a"], ["settled", "a"], *written]


def test_a_result_is_what_celery_would_have_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    app = Celery(set_as_current=False, backend="redis://127.0.0.1:1")
    backend, stored = app.backend, {}
    monkeypatch.setattr(app, "now", lambda: SimpleNamespace(isoformat=lambda: "now"))
    monkeypatch.setattr(backend, "get", lambda key: None)
    monkeypatch.setattr(
        backend, "_set_with_state", lambda key, text, state: stored.update({key: text})
    )
    request = SimpleNamespace(
        id="job", children=[], group="g", parent_id="p", chord=None, ignore_result=False
    )
    result = {"clips": ["a"], "data": {}}
    backend.store_result("job", result, SUCCESS, request=request)

    ours = result_of(backend, "job", result, request)

    [(key, text)] = stored.items()
    assert (ours.key, json.loads(ours.text)) == (key, json.loads(text))


def test_a_log_that_cannot_be_written_keeps_nobody_from_writing(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settler_module, "log", Mock(exception=Mock(side_effect=ValueError)))
    desk.settlements.fault = ZeroDivisionError()
    desk.settle(desk.ended("a"))
    desk.settlements.fault, desk.fault = None, ZeroDivisionError()
    desk.settle(desk.ended("b"))
    desk.fault = None
    desk.settle(desk.ended("c"))
    assert desk.book[-3:] == [["result", "c"], ["settled", "c"], ["done", "c"]]


@pytest.mark.parametrize("stores", [True, False], ids=["stored", "not stored"])
def test_a_result_that_celery_would_not_store_is_not_left_to_be_stored(stores: bool) -> None:
    # The message says nothing, and ``task_ignore_result`` is set: only Celery's tracer knows.
    app = Celery(set_as_current=False, backend="redis://127.0.0.1:1")
    request = Context(id="job", ignore_result=None)
    ended = Desk().ended("job", stored=True)
    token = in_hand.set(ended)
    try:
        PatientBackend(app.backend).mark_as_done("job", {}, request, stores)
    finally:
        in_hand.reset(token)
    assert bool(ended.result) is stores


class Compressing(RedisBackend):
    """A user's own, which does more than Celery's with what it stores."""

    def set(self, key: Any, value: Any, **options: Any) -> Any:
        self.stored = [key, zlib.compress(value.encode())]


def test_a_result_for_a_backend_of_the_users_own_is_left_to_that_backend(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    app = Celery(set_as_current=False)
    backend = Compressing(app=app, url="redis://127.0.0.1:1")
    monkeypatch.setattr(backend, "get", lambda key: None)
    ended = Desk().ended("job", stored=True)
    token = in_hand.set(ended)
    try:
        PatientBackend(backend).mark_as_done("job", {}, Context(id="job"), True)
    finally:
        in_hand.reset(token)
    assert (ended.result, backend.stored[0]) == (None, b"celery-task-meta-job")


# -- the engine's part ------------------------------------------------------------------------


def test_a_job_that_its_records_refuse_is_left_and_the_others_are_settled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lab, other = Lab(), JobId("job-2")
    lab.bring(JobState.RESUMING)
    lab.bring(JobState.RESUMING, other)
    settle = lab.records.settle

    def refusing(settlements: Sequence[Settlement], **options: Any) -> list[bool | Exception]:
        answers = settle([each for each in settlements if each.job_id != JOB], **options)
        return [StoreUnavailable("full"), *answers]

    monkeypatch.setattr(lab.records, "settle", refusing)
    both = [lab.settlement({"clips": []}, job_id) for job_id in (JOB, other)]
    left, why = lab.settlements.try_to_settle(both)
    assert ([each.job_id for each in left], str(why)) == ([JOB], "full")
    assert (lab.state(), lab.state(other)) == (JobState.RESUMING, JobState.SUCCEEDED)

    monkeypatch.setattr(lab.records, "settle", settle)
    lab.settlements.settle(left)
    assert lab.state() is JobState.SUCCEEDED
