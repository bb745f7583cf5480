"""The simulator's own books: the tasks it accepted, their cost, and its deliveries."""

from __future__ import annotations

import heapq
import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

from .limits import Flight
from .operations import Operation
from .replies import JSON, Refused
from .scenarios import Outcome, Scenario, Webhook


class State(StrEnum):
    """How far a provider task has come."""

    PENDING = "pending"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Clip:
    """A song, or one stem of the song `source`; `stem` is one of `instruments.STEMS`."""

    clip_id: str
    title: str
    source: str
    made_at: float
    lyrics: str  # empty: instrumental
    stem: str = ""


@dataclass(slots=True)
class ProviderTask:
    """One accepted request. Times are Unix times in seconds."""

    provider_task_id: str
    operation: Operation
    request: Mapping[str, object]
    scenario: Scenario
    base_url: str
    price: float
    sources: tuple[Clip, ...]
    clips: tuple[Clip, ...]
    accepted_at: float
    done_at: float
    polls: int = 0
    deliveries: list[JSON] = field(default_factory=list)

    @property
    def failed(self) -> bool:
        at_once = self.operation.answers_at_once(self.request)
        return self.scenario.outcome is Outcome.FAIL and not at_once

    def state(self, now: float) -> State:
        """Say how far the task is. It can be heard, as a stream, in the second half of its time."""
        if now >= self.done_at:
            return State.FAILED if self.failed else State.SUCCEEDED
        halfway = (self.accepted_at + self.done_at) / 2
        return State.RUNNING if now >= halfway else State.PENDING


class Books:
    """Tasks, clips, credits and counters, for many threads."""

    def __init__(
        self, balance: float, out_of_credits_status: int, in_flight: int | None = None
    ) -> None:
        self.tasks: dict[str, ProviderTask] = {}
        self.clips: dict[str, Clip] = {}
        self._balance = balance
        self._refunds: list[tuple[float, float]] = []  # a heap of (when, how much)
        self._out_of_credits_status = out_of_credits_status
        self._waits: dict[tuple[str, str], int] = {}
        self._bought: set[tuple[str, str]] = set()
        self._flight = Flight(in_flight)
        self._counters: Counter[str] = Counter()
        self._refused: Counter[str] = Counter()
        self._lock = threading.Lock()

    def accept(self, task: ProviderTask) -> None:
        """Book a task and take its price.

        Raises `Refused`: 402 or 403 if the balance is too low, 429 if too many are under way.
        """
        waited_for = not task.operation.answers_at_once(task.request)
        with self._lock:
            if waited_for:
                self._flight.require_room(task.accepted_at)
            self._settle_refunds(task.accepted_at)
            item = (task.operation.name, task.sources[0].clip_id) if task.sources else None
            if task.operation.free_again and item in self._bought:
                task.price = 0
            if task.price > self._balance:
                raise Refused(self._out_of_credits_status, "Credits not enough.")
            self._balance -= task.price
            if waited_for:
                self._flight.take_off(task.done_at)
            if task.failed:
                heapq.heappush(self._refunds, (task.done_at, task.price))
            self.tasks[task.provider_task_id] = task
            self.clips.update((clip.clip_id, clip) for clip in task.clips)
            self._bought |= {item} if item else set()

    def balance(self, now: float) -> float:
        with self._lock:
            self._settle_refunds(now)
            return self._balance

    def set_balance(self, balance: float) -> None:
        with self._lock:
            self._balance = balance

    def _settle_refunds(self, now: float) -> None:
        while self._refunds and self._refunds[0][0] <= now:
            self._balance += heapq.heappop(self._refunds)[1]

    def keep(self, clip: Clip) -> None:
        """Add a clip that no task made, or replace one, as to make it older."""
        with self._lock:
            self.clips[clip.clip_id] = clip

    def is_ready(self, name: str, clip_id: str, not_ready_times: int) -> bool:
        """Count down the times an answer is not ready; the first request sets how many."""
        with self._lock:
            left = self._waits.get((name, clip_id), not_ready_times)
            self._waits[name, clip_id] = max(0, left - 1)
            return left == 0

    def count(self, what: Literal["submits", "polls"]) -> None:
        with self._lock:
            self._counters[what] += 1

    def count_refused(self, status: int) -> None:
        with self._lock:
            self._refused[str(status)] += 1

    def record_delivery(self, task: ProviderTask, entry: JSON) -> None:
        with self._lock:
            task.deliveries.append(entry)

    def report(self, now: float, match: str = "") -> JSON:
        """Show the counters, and the tasks whose request, clips or id hold the text `match`."""
        with self._lock:
            self._settle_refunds(now)
            tasks = [_show(task, now) for task in self.tasks.values() if _matches(task, match)]
            return {
                "tasks": tasks,
                "submits": self._counters["submits"],
                "refused": dict(self._refused),
                "polls": self._counters["polls"],
                "credits": self._balance,
                "peak_in_flight": self._flight.peak,
            }


def due(accepted_at: float, scenario: Scenario) -> float:
    """Say when a task is done: at once, if its webhook comes before the submit's answer."""
    early = scenario.webhook is Webhook.EARLY
    return accepted_at if early else accepted_at + scenario.latency_seconds


def _matches(task: ProviderTask, match: str) -> bool:
    texts: list[object] = [task.provider_task_id, *(clip.clip_id for clip in task.clips)]
    return any(match in str(text) for text in [*texts, *task.request.values()])


def _show(task: ProviderTask, now: float) -> JSON:
    return {
        "provider_task_id": task.provider_task_id,
        "path": task.operation.path,
        "task_type": task.operation.name,
        "request": {k: v for k, v in task.request.items() if k != "webhook_secret"},
        "price": task.price,
        "accepted_at": task.accepted_at,
        "done_at": task.done_at if now >= task.done_at else None,
        "state": task.state(now),
        "clip_ids": [clip.clip_id for clip in task.clips],
        "deliveries": list(task.deliveries),
    }
