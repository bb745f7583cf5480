"""Kill points: the places in the product's code at which a death could do most harm.

A point is armed by a file in the folder of the system. The next process that passes the point
removes the file and kills itself; the removal is atomic, so that each file kills exactly once.
"""

import functools
import os
import signal
import threading
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from celery.backends.redis import RedisBackend
from urllib3.connection import HTTPConnection

from worker.app.accidents import PatientBackend
from worker.app.conductor import Legs
from worker.app.job_task import ProviderTask
from worker.messages.recording import Recorder
from worker.provider import HTTPTransport
from worker.store.records import Records

ARMED: Final = Path("armed")
"""A relative path: every process of a system runs in the system's folder."""


class Point(StrEnum):
    """The points at which a process kills itself."""

    RECORDED = "record, message"
    """The record of the next step is written, its message is not published."""
    BEGUN = "record, POST"
    POSTED = "POST, response"
    ANSWERED = "response, record"
    CLAIMED = "claimed, leased"
    LEASED = "leased, outcome"
    HANDED_ON = "next step published, result stored"
    FAILING = "failure, errbacks"
    CHORD = "result stored, chord told"
    BODY = "chord complete, body published"
    DOOMED = "chord failed, its body told"
    STORED = "outcome stored, settled"


def arm(folder: Path, point: Point, *, whole: bool) -> Path:
    """Arm a point for one process, or (``whole``) for its whole process group."""
    armed = folder / ARMED / (point.name + (".whole" if whole else ""))
    armed.parent.mkdir(exist_ok=True)
    armed.touch()
    return armed


def _pass(point: Point) -> None:
    for name, kill in ((point.name, os.kill), (f"{point.name}.whole", os.killpg)):
        try:
            (ARMED / name).unlink()
        except FileNotFoundError:
            continue
        kill(os.getpid() if kill is os.kill else os.getpgrp(), signal.SIGKILL)


def _around(
    owner: Any, name: str, *, before: Point | None = None, after: Point | None = None
) -> None:
    original: Callable[..., Any] = getattr(owner, name)

    @functools.wraps(original)
    def passing(*args: Any, **kwargs: Any) -> Any:
        if before:
            _pass(before)
        value = original(*args, **kwargs)
        if after:
            _pass(after)
        return value

    setattr(owner, name, passing)


def install() -> None:
    """Put the kill points into this process and its children."""
    _around(Recorder, "record", after=Point.RECORDED)
    _around_posts()
    _around(Records, "claim", after=Point.CLAIMED)
    _around(Legs, "run", before=Point.LEASED)
    _around(RedisBackend, "on_chord_part_return", before=Point.CHORD)
    _around(RedisBackend, "_chord_publish_claim_expires", after=Point.BODY)
    _around(RedisBackend, "chord_error_from_stack", before=Point.DOOMED)
    _around(ProviderTask, "_settle", before=Point.STORED)
    _around(PatientBackend, "mark_as_failure", before=Point.FAILING)
    _around(PatientBackend, "mark_as_done", before=Point.HANDED_ON)


def _around_posts() -> None:
    """Only requests that cost money are a kill point; polls go the same way."""
    posting = threading.local()
    send = HTTPTransport.send
    read = HTTPConnection.getresponse

    def send_or_die(self: HTTPTransport, request: Any) -> Any:
        if request.method != "POST":
            return send(self, request)
        _pass(Point.BEGUN)
        posting.now = True
        try:
            answer = send(self, request)
        finally:
            posting.now = False
        _pass(Point.ANSWERED)
        return answer

    def read_or_die(self: Any) -> Any:
        if getattr(posting, "now", False):
            _pass(Point.POSTED)
        return read(self)

    HTTPTransport.send = send_or_die  # type: ignore[method-assign]
    HTTPConnection.getresponse = read_or_die  # type: ignore[method-assign]
