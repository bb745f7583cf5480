"""What happens now, as server-sent events: the turns of the jobs that a visitor may see.

Each open stream reads the one stream of turns that the scripts append to. An event bears the id of
its turn, so a browser that comes back says in ``Last-Event-ID`` what it heard last, and misses
nothing, whichever process answers it. A heartbeat shows both sides that the connection lives.
"""

import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Final

import structlog
from flask import Response, json, request
from werkzeug.exceptions import ServiceUnavailable, TooManyRequests

from desk.doors import visitor
from desk.parts import STOPPING, desk
from worker.core.job.models import JobId, JobRecord
from worker.core.job.states import LIVE, TERMINAL, JobState
from worker.core.overview import Turned
from worker.core.wording import told
from worker.store.connection import StoreUnavailable
from worker.store.readings import Readings
from worker.store.turns import Turns

log = structlog.get_logger()

MEDIA_TYPE: Final = "text/event-stream"
HEARTBEAT_SECONDS: Final = 3
MOST_AT_ONCE: Final = 100
"""So many streams are open in one process at most: each holds one of its threads."""
MOST_OF_ONE: Final = 20
"""So many of them may be of one visitor."""

_HEARTBEAT: Final = ": still here\n\n"
_TURN_ID: Final = re.compile(r"[0-9]{1,16}-[0-9]{1,16}")

_Heard = Iterator[Turned | None]
"""Turns, and None every few seconds."""


class _Places:
    """The streams that are open, by visitor."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: Counter[str] = Counter()

    def take(self, name: str) -> None:
        """Take a place for a visitor.

        Raises ServiceUnavailable if all are taken, TooManyRequests if the visitor has enough.
        """
        with self._lock:
            if self._open[name] >= MOST_OF_ONE:
                raise TooManyRequests(f"You have {MOST_OF_ONE} live streams open.", retry_after=10)
            if self._open.total() >= MOST_AT_ONCE:
                raise ServiceUnavailable("Too many live streams are open here.", retry_after=10)
            self._open[name] += 1

    def give_back(self, name: str) -> None:
        with self._lock:
            self._open[name] -= 1


_places: Final = _Places()


def of_all() -> Response:
    """Stream the turns of all jobs that the visitor may see, until they hang up."""
    after = _last_heard() or desk().turns.now()
    return _answer(_all(_listen(after), visitor().sees), after)


def of_job(record: JobRecord, *, at_turn: str) -> Response:
    """Stream the turns of one job, from its state now until it has ended.

    Args:
        at_turn: the moment before the record was read, as an id of a turn.
    """
    last_heard = _last_heard()
    after = last_heard or at_turn
    events = _one(record, _listen(after), desk().readings, resumed=last_heard is not None)
    return _answer(events, after)


def _last_heard() -> str | None:
    given = request.headers.get("Last-Event-ID", "")
    return given if _TURN_ID.fullmatch(given) else None


def _listen(after: str) -> _Heard:
    turns, timeout = desk().turns, desk().settings.redis_timeout_seconds
    return _turns(turns, after, wait_seconds=min(HEARTBEAT_SECONDS, timeout / 2))


def _turns(turns: Turns, after: str, *, wait_seconds: float) -> _Heard:
    beat_at = time.monotonic()
    while not STOPPING.is_set():
        for turned in turns.listen(after=after, wait_seconds=wait_seconds):
            yield turned
            after = turned.turn_id
        # Also while much happens: it may all be of jobs that this stream is not about.
        if time.monotonic() - beat_at >= wait_seconds:
            yield None
            beat_at = time.monotonic()


def _all(heard: _Heard, sees: Callable[[str], bool]) -> Iterator[str]:
    for turned in heard:
        if turned is None:
            yield _HEARTBEAT
        elif sees(turned.tenant):
            yield _event(turned.job_id, turned.state, turned.operation, turned.turn_id)


def _one(record: JobRecord, heard: _Heard, readings: Readings, *, resumed: bool) -> Iterator[str]:
    """Yield the events of one job; whoever has resumed knows its state unless it has ended."""
    job_id, operation = record.job_id, record.operation
    if not resumed or record.state in TERMINAL:
        yield _event(job_id, record.state, operation)
    if record.state in TERMINAL:
        return
    for turned in heard:
        if turned is None:
            yield _HEARTBEAT
            # The stream of turns is bounded, so it may have lost the end of this job.
            state = readings.state(job_id)
            if state in LIVE:
                continue
            if state:
                yield _event(job_id, state, operation)
            return
        if turned.job_id == job_id:
            yield _event(job_id, turned.state, operation, turned.turn_id)
            if turned.state in TERMINAL:
                return


def _event(job_id: JobId, state: JobState, operation: str, turn_id: str = "") -> str:
    data = json.dumps({"job_id": job_id, "operation": operation, "state": state})
    return (f"id: {turn_id}\n" if turn_id else "") + f"event: turn\ndata: {data}\n\n"


def _answer(events: Iterator[str], after: str) -> Response:
    name = visitor().name
    _places.take(name)
    response = Response(_until_away(events, after), content_type=MEDIA_TYPE)
    response.headers["X-Accel-Buffering"] = "no"  # nginx would keep events until it has 4 KB
    response.call_on_close(lambda: _places.give_back(name))
    return response


def _until_away(events: Iterator[str], after: str) -> Iterator[str]:
    # A browser that has heard of nothing yet shall know what to resume from.
    yield f"retry: 2000\nid: {after}\n\n"
    try:
        yield from events
    except StoreUnavailable as error:
        # The answer has begun, so it cannot become a 503: it ends, and the browser asks again.
        log.error("state_unavailable", error=told(error))
