"""The ports of the engine in memory (``worker/core/ports.py``), for tests without a server.

The same tests run on these and on the ports in Redis: ``tests/integration/test_store.py``. Batches,
times to live and the length of a timeline are left out, because the engine does not ask about them.
The gate is open or closed; its rate, credits, shares and pauses are in its scripts alone
(``test_gate.py``), and so is the list of the latest deliveries (``test_receipts.py``).
"""

import json
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from worker.core.errors import UnknownJob
from worker.core.job.lanes import TRIPS_AFTER, Bid, Lane, Limits, Released, thousandths
from worker.core.job.models import (
    Event,
    Heard,
    JobId,
    JobRecord,
    JSONObject,
    Kind,
    Settlement,
    Shown,
    Source,
    Standing,
)
from worker.core.job.states import LIVE, LOST, TRANSITIONS, JobState, Turn
from worker.core.wire import Completed, Operation, Postponed, Refused, SubmitOutcome, Unknown
from worker.store.readings import parse


class Unavailable(Exception):
    """The state is away."""


@dataclass
class Memory:
    """The one state that the ports below share."""

    hashes: dict[JobId, dict[str, str]] = field(default_factory=dict)
    messages: dict[JobId, str] = field(default_factory=dict)
    timelines: dict[JobId, str] = field(default_factory=dict)
    due: dict[JobId, float] = field(default_factory=dict)
    index: dict[JobId, float] = field(default_factory=dict)
    held: list[JobId] = field(default_factory=list)
    failures: int = 0
    breaker: str = ""
    closed_at: float = 0
    probe_at: float = 0
    free_at: float = 0
    balance: tuple[float, int] | None = None
    _lock: threading.RLock = field(default_factory=threading.RLock)

    @contextmanager
    def step(self) -> Iterator[None]:
        """Let no other thread in between, as Redis runs a script in one step."""
        with self._lock:
            yield

    def state(self, job_id: JobId) -> JobState | None:
        state = self.hashes.get(job_id, {}).get("state")
        return JobState(state) if state else None

    def set(self, job_id: JobId, fields: Mapping[str, Any]) -> None:
        for name, value in fields.items():
            if name == "parked":
                self.messages[job_id] = value
            else:
                text = json.dumps(value) if isinstance(value, dict) else str(value)
                self.hashes.setdefault(job_id, {})[name] = text

    def drop(self, job_id: JobId, names: Iterable[str]) -> None:
        for name in names:
            self.hashes.get(job_id, {}).pop(name, None)
            if name == "parked":
                self.messages.pop(job_id, None)

    def count(self, job_id: JobId, counter: str) -> int:
        counted = int(self.hashes[job_id].get(counter, 0)) + 1
        self.set(job_id, {counter: counted})
        return counted

    def tell(self, job_id: JobId, now: float, what: str, why: str) -> None:
        if what:
            said = {"at": round(now, 3), "what": what} | ({"why": why} if why else {})
            self.timelines[job_id] = self.timelines.get(job_id, "") + json.dumps(said) + "\n"

    def begin(self, job_id: JobId, now: float) -> None:
        """Give a job its record."""
        self.set(job_id, {"created_at": now})
        self.index[job_id] = now

    def hold(self, job_id: JobId, now: float, until: float) -> None:
        """Hold a job before the gate; its deadline stands still meanwhile."""
        job = self.hashes[job_id]
        if "attempts" in job:
            self.set(job_id, {"time_left": float(job["deadline_at"]) - now})
        until = float(job.setdefault("held_until", str(until)))
        self.set(job_id, {"state": JobState.HELD, "deadline_at": until})
        self.due[job_id] = until
        self.held.append(job_id)

    def go_on(self, job_id: JobId, now: float) -> None:
        """Set the deadline of a job that was held anew, from the time that was left."""
        left = self.hashes[job_id].pop("time_left", None)
        if left:
            self.set(job_id, {"deadline_at": now + float(left)})

    def shuts(self, now: float) -> str:
        """Say why no job passes the gate now; empty if it is open, or lets a probe through."""
        return self.breaker if now < self.probe_at else ""

    def pass_gate(self, now: float, limits: Limits) -> None:
        if self.breaker:
            self.probe_at = now + limits.probe_seconds

    def open_gate(self, job_id: JobId, now: float) -> None:
        begun_at = float(self.hashes.get(job_id, {}).get("begun_at", now))
        if self.closed_at <= begun_at:
            self.breaker, self.closed_at, self.probe_at = "", 0, 0


class Records:
    """Changes records."""

    unavailable: Final = Unavailable

    def __init__(self, memory: Memory) -> None:
        self._memory = memory

    def turn(
        self,
        job_id: JobId,
        turn: Turn,
        *,
        now: float,
        due_at: float | None,
        why: str = "",
        fields: Mapping[str, Any] | None = None,
        drop: Sequence[str] = (),
        leg: str = "",
        count: str = "",
        retain_seconds: int | None = None,
    ) -> bool:
        sources, target = TRANSITIONS[turn]
        memory = self._memory
        with memory.step():
            state, owner = memory.state(job_id), memory.hashes.get(job_id, {}).get("leg")
            # As in transition.lua: a call that is sent again has won, and another leg's is refused.
            if leg and state is target and owner == leg:
                return True
            if leg and target is not JobState.SUBMITTING and owner != leg:
                return False
            if state not in sources:
                return False
            if state is None:
                memory.begin(job_id, now)
            memory.set(job_id, {"state": target, **({"leg": leg} if leg else {}), **(fields or {})})
            if count:
                memory.count(job_id, count)
            memory.drop(job_id, drop)
            memory.tell(job_id, now, turn, why)
            self._enter(job_id, target, now, due_at)
        return True

    def settle(
        self, settlements: Sequence[Settlement], *, now: float, retain_seconds: int
    ) -> list[bool | Exception]:
        return [
            self.turn(
                each.job_id, each.turn, now=now, due_at=None, why=each.why, fields=each.fields,
                drop=each.drop, retain_seconds=retain_seconds,
            )
            for each in settlements
        ]  # fmt: skip

    def _enter(self, job_id: JobId, target: JobState, now: float, due_at: float | None) -> None:
        """Do what a turn into this state changes besides the record: the due time, the gate."""
        memory = self._memory
        if target is JobState.WAITING:
            memory.go_on(job_id, now)
            memory.failures = 0
            memory.open_gate(job_id, now)
        if due_at is None:
            memory.due.pop(job_id, None)
        else:
            if target is JobState.HELD:
                memory.hold(job_id, now, due_at)
            waits = target in {JobState.QUEUED, JobState.WAITING, JobState.UNCONFIRMED}
            deadline = float(memory.hashes[job_id].get("deadline_at", "inf"))
            memory.due[job_id] = min(due_at, deadline) if waits else due_at

    def begin(
        self,
        job_id: JobId,
        bid: Bid,
        *,
        now: float,
        due_at: float,
        deadline_at: float,
        fields: Mapping[str, Any],
        leg: str,
        unseen: bool = False,
    ) -> JobState | None:
        memory = self._memory
        sources = TRANSITIONS[Turn.SUBMIT][0] - (frozenset() if "parked" in fields else {None})
        with memory.step():
            state = memory.state(job_id)
            if state is JobState.SUBMITTING and memory.hashes[job_id]["leg"] == leg:
                return state
            if state not in sources:
                return None
            job = memory.hashes.get(job_id, {})
            over = float(job.get("deadline_at", "inf")) <= now
            if unseen and (
                state is JobState.ADMITTED or over or {"attempts", "cancelled_by"} & {*job}
            ):
                return None
            if state is None:
                memory.begin(job_id, now)
            elif "parked" in job:
                fields = {name: value for name, value in fields.items() if name != "parked"}
            memory.set(job_id, {**fields, "lane": bid.lane, "cost": bid.cost})
            if state is not JobState.ADMITTED:
                why = memory.shuts(now) or (memory.held and "others wait before it")
                if why:
                    memory.tell(job_id, now, Turn.HOLD, str(why))
                    memory.hold(job_id, now, bid.held_until)
                    return JobState.HELD
                memory.pass_gate(now, bid.limits)
            memory.set(job_id, {"state": JobState.SUBMITTING, "leg": leg, "begun_at": now})
            memory.go_on(job_id, now)
            if memory.count(job_id, "attempts") == 1:
                memory.set(job_id, {"deadline_at": deadline_at})
            memory.due[job_id] = due_at
            memory.tell(job_id, now, Turn.SUBMIT, "")
        return JobState.SUBMITTING

    def note(
        self,
        job_id: JobId,
        *,
        now: float,
        what: str = "",
        why: str = "",
        sources: Iterable[JobState | None] = LIVE,
        due_at: float | None = None,
        fields: Mapping[str, Any] | None = None,
        count: str = "",
        receipt: str = "",
        retain_seconds: int | None = None,
    ) -> JobState | None:
        memory = self._memory
        with memory.step():
            state = memory.state(job_id)
            if state in frozenset(sources):
                memory.set(job_id, fields or {})
                if count:
                    memory.count(job_id, count)
                memory.tell(job_id, now, what, why)
                if due_at is not None:
                    memory.due[job_id] = due_at
        return state

    def drop_due(self, job_id: JobId) -> None:
        memory = self._memory
        with memory.step():
            if memory.state(job_id) not in LIVE:
                memory.due.pop(job_id, None)

    def claim(
        self,
        job_id: JobId,
        event: Event,
        *,
        now: float,
        leg: str = "",
        seen: JobState | None = None,
    ) -> bool:
        sources = TRANSITIONS[Turn.CLAIM][0] if seen is None else frozenset({seen})
        with self._memory.step():
            return self._win(job_id, event, sources, now, leg)

    def _win(
        self,
        job_id: JobId,
        event: Event,
        sources: frozenset[JobState | None],
        now: float,
        leg: str = "",
    ) -> bool:
        memory = self._memory
        state, job = memory.state(job_id), memory.hashes.get(job_id, {})
        mine = bool(leg) and job.get("leg") == leg
        if state is JobState.RESUMING and mine and job["event"] == event.dumps():
            return True
        if state not in sources or (leg and not mine) or job_id not in memory.messages:
            return False
        # As in claim.lua: an event of ours waits until the job's PARKED state is stored.
        ours = event.body is None and not mine
        if state is JobState.SUBMITTING and ours and "announced" not in job:
            return False
        memory.set(job_id, {"state": JobState.RESUMING, "event": event.dumps()})
        if event.source is Source.POLL:
            memory.count(job_id, "polls")
        memory.tell(job_id, now, Turn.CLAIM, _why(event))
        memory.due.pop(job_id, None)
        return True

    def hear(
        self,
        job_id: JobId,
        event: Event,
        *,
        now: float,
        digest: str,
        again_in: Iterable[JobState],
        again: str,
    ) -> Heard:
        memory = self._memory
        with memory.step():
            heard = memory.hashes.get(job_id, {}).get("heard")
            if heard == digest and memory.state(job_id) in frozenset(again_in):
                memory.tell(job_id, now, again, _why(event))
                return Heard.AGAIN
            if not self._win(job_id, event, TRANSITIONS[Turn.CLAIM][0], now):
                return Heard.NOT_WON
            memory.set(job_id, {"heard": digest})
        return Heard.WON

    def announce(self, job_id: JobId, leg: str, shown: Shown | None = None) -> Standing | None:
        memory = self._memory
        with memory.step():
            state = memory.state(job_id)
            if state is None:
                raise UnknownJob(f"the record of job {job_id} is gone")
            job = memory.hashes[job_id]
            if state is not JobState.SUBMITTING or job["leg"] != leg:
                return None
            memory.set(job_id, {"announced": leg})
            return Standing(state, cancelled_by=job.get("cancelled_by"))

    def take_from(self, job_id: JobId, leg: str) -> bool:
        memory = self._memory
        with memory.step():
            job = memory.hashes.get(job_id, {})
            submits = memory.state(job_id) is JobState.SUBMITTING and job["leg"] == leg
            if not submits or job.get("announced") == leg:
                return False
            memory.set(job_id, {"leg": ""})
        return True

    def keep_late(
        self,
        job_id: JobId,
        late: JSONObject,
        *,
        now: float,
        why: str,
        retain_seconds: int,
        sources: Iterable[JobState] = LOST,
    ) -> bool:
        memory = self._memory
        with memory.step():
            if memory.state(job_id) not in frozenset(sources):
                return False
            kept = json.loads(memory.hashes[job_id].get("late", "null"))
            if kept and (kept["final"] or not late["final"]):
                return False
            memory.set(job_id, {"late": late})
            memory.tell(job_id, now, "late", why)
        return True


class Readings:
    """Reads records."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory

    def standing(self, job_id: JobId) -> Standing:
        with self._memory.step():
            job = self._memory.hashes.get(job_id, {})
            return Standing(
                self._memory.state(job_id),
                int(job.get("attempts", 0)),
                cancelled_by=job.get("cancelled_by"),
                digest=job.get("digest"),
                deadline_at=float(job.get("deadline_at", "inf")),
                announced="announced" in job,
            )

    def state(self, job_id: JobId) -> JobState | None:
        with self._memory.step():
            return self._memory.state(job_id)

    def traceparent(self, job_id: JobId) -> str | None:
        with self._memory.step():
            return self._memory.hashes.get(job_id, {}).get("traceparent")

    def event(self, job_id: JobId) -> Event | None:
        with self._memory.step():
            event = self._memory.hashes.get(job_id, {}).get("event")
            return Event.loads(event) if event else None

    def read(self, job_id: JobId) -> JobRecord:
        memory = self._memory
        with memory.step():
            if memory.state(job_id) is None:
                raise UnknownJob(f"there is no record of job {job_id}")
            due_at, timeline = memory.due.get(job_id), memory.timelines.get(job_id)
            return parse(job_id, memory.hashes[job_id], timeline, due_at)


class Indexes:
    """The list of all jobs."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory

    def forget(self, *, recorded_before: float, ended_before: float) -> None:
        with self._memory.step():
            index = self._memory.index
            self._memory.index = {each: at for each, at in index.items() if at > recorded_before}


class Agenda:
    """Hands out what is due."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory

    def due(self, *, now: float, lease_until: float, limit: int) -> list[JobId]:
        memory = self._memory
        with memory.step():
            due = sorted((at, job_id) for job_id, at in memory.due.items() if at <= now)
            ending = [job_id for _, job_id in due if self._only_ends(job_id)]
            others = [job_id for _, job_id in due if job_id not in ending]
            leased = others[:limit] + ending[:limit]
            memory.due |= dict.fromkeys(leased, lease_until)
        return leased

    def _only_ends(self, job_id: JobId) -> bool:
        state, job = self._memory.state(job_id), self._memory.hashes.get(job_id, {})
        before_the_gate = state in {JobState.QUEUED, JobState.ADMITTED}
        return state is JobState.HELD or (before_the_gate and "cancelled_by" in job)

    def reserve_poll(self, *, spacing_seconds: float) -> float:
        memory, now = self._memory, time.time()
        with memory.step():
            at = max(memory.free_at, now)
            memory.free_at = at + spacing_seconds
        return at - now


class Gate:
    """Is open, or closed by the outcomes that it hears of."""

    def __init__(self, memory: Memory, limits: Limits | None = None, held: float = 1000) -> None:
        self._memory = memory
        self._held_seconds = held
        self.limits = limits or Limits()

    def bid(self, operation: Operation, lane: Lane, *, now: float, expires_at: float | None) -> Bid:
        held_until = min(expires_at or float("inf"), now + self._held_seconds)
        return Bid(lane, thousandths(operation.credits), held_until, self.limits)

    def hear(
        self, job_id: JobId, operation: Operation, outcome: SubmitOutcome, *, now: float
    ) -> bool:
        memory = self._memory
        with memory.step():
            match outcome:
                case Refused(error) if error.closes_gate:
                    return self._close(type(error).__name__, now)
                case Unknown() | Postponed(failed=True):
                    memory.failures += 1
                    return memory.failures >= TRIPS_AFTER and self._close("it fails", now)
                case Completed():
                    self.open(job_id, paid=operation.credits > 0, now=now)
                case Refused():
                    self.open(job_id, paid=False, now=now)
        return False

    def _close(self, reason: str, now: float) -> bool:
        memory = self._memory
        memory.probe_at = now + self.limits.probe_seconds
        if memory.breaker:
            return False
        memory.breaker, memory.closed_at = reason, now
        return True

    def open(self, job_id: JobId, *, paid: bool, now: float) -> None:
        memory = self._memory
        with memory.step():
            memory.failures = 0
            if paid or memory.breaker != "OutOfCredits":
                memory.open_gate(job_id, now)

    def release(self, *, now: float, stale_at: float) -> Released:
        memory, released = self._memory, list[JobId]()
        with memory.step():
            while memory.held and not memory.shuts(now):
                job_id = memory.held.pop(0)
                job = memory.hashes[job_id]
                if memory.state(job_id) is JobState.HELD and "cancelled_by" not in job:
                    memory.pass_gate(now, self.limits)
                    memory.set(job_id, {"state": JobState.ADMITTED})
                    memory.tell(job_id, now, Turn.ADMIT, "")
                    memory.due[job_id] = stale_at
                    released.append(job_id)
            return Released(released, memory.probe_at if memory.held else None)

    def may_ask_balance(self, every_seconds: float) -> bool:
        return True

    def spent(self) -> int:
        return 0

    def learn_balance(self, left: float, *, spent_before: int) -> None:
        self._memory.balance = (left, spent_before)


class Quarantine:
    """Keeps deliveries in a list, each once."""

    def __init__(self) -> None:
        self.kept: list[tuple[Kind, JobId, bytes]] = []
        self.headers: list[Mapping[str, str]] = []
        """Of each that is kept."""

    def keep(
        self,
        kind: Kind,
        job_id: JobId,
        headers: Mapping[str, str],
        body: bytes,
        why: str,
        *,
        now: float,
    ) -> str:
        delivery = (kind, job_id, body)
        if delivery not in self.kept:
            self.kept.append(delivery)
            self.headers.append(headers)
        return f"{self.kept.index(delivery)}-0"


def _why(event: Event) -> str:
    return f"{event.source} {event.delivery_id or ''}".strip()
