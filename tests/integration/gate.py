"""The gate over a real Valkey, with a clock that a test moves; and checks of its books."""

import itertools
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from worker.core import keys
from worker.core.job.lanes import Lane, Limits, Priority
from worker.core.job.models import Event, JobId, JSONObject, Source
from worker.core.job.states import JobState, Turn
from worker.core.providers.aimusic.operations import find
from worker.store.gate import Gate
from worker.store.readings import Readings
from worker.store.records import Records

START = 1_763_800_000.0
AT_THE_PROVIDER = {"admitted", "submitting", "unconfirmed", "waiting"}
COST = 10
"""The credits of a remaster: every job here is one."""
REMASTER = find("sonic.remaster")


def lane(tenant: str = "acme", priority: str = "interactive", *, slow: bool = False) -> Lane:
    return Lane(Priority(priority), tenant, slow)


def batch(tenant: str = "acme", *, slow: bool = False) -> Lane:
    return lane(tenant, "batch", slow=slow)


class Door:
    """Jobs before one gate. Each is named by its lane and the order in which it came."""

    def __init__(self, redis: Any, **limits: Any) -> None:
        self.redis = redis
        self.records, self.readings = Records(redis), Readings(redis)
        self.now = START
        self.limits = Limits(**limits)
        self._numbers = itertools.count()

    def change(self, **limits: Any) -> None:
        self.limits = replace(self.limits, **limits)

    @property
    def gate(self) -> Gate:
        return Gate(self.redis, self.limits, held_seconds=1000)

    def begin(self, where: Lane, job_id: str = "", leg: str = "leg") -> str:
        """Run a submit leg up to the gate; returns the job's id."""
        job_id = job_id or self._name(where)
        self.admit(where, job_id, leg)
        return job_id

    def admit(self, where: Lane, job_id: str, leg: str) -> JobState | None:
        return self.records.begin(
            JobId(job_id),
            self.gate.bid(REMASTER, where, now=self.now, expires_at=None),
            now=self.now,
            due_at=self.now + 100,
            deadline_at=self.now + 600,
            fields=_fields(),
            leg=leg,
        )

    def record(self, where: Lane) -> str:
        """Record a job of a batch, which never had a message."""
        job_id, until = self._name(where), self.now + 1000
        fields = _fields() | {"lane": str(where), "cost": COST * 1000, "deadline_at": until}
        self.turn(job_id, Turn.HOLD, due_at=until, fields=fields)
        return job_id

    def _name(self, where: Lane) -> str:
        self.now += 0.001
        return f"{where}:{next(self._numbers):04}"

    def turn(self, job_id: str, turn: Turn, **options: Any) -> bool:
        given: dict[str, Any] = {"due_at": self.now, "leg": ""} | options
        return self.records.turn(JobId(job_id), turn, now=self.now, **given)

    def accept(self, job_id: str) -> None:
        assert self.turn(job_id, Turn.ACCEPT, leg="leg")

    def claim(self, job_id: str) -> bool:
        event = Event(Source.WEBHOOK, body="{}")
        return self.records.claim(JobId(job_id), event, now=self.now)

    def release(self) -> list[str]:
        return list(self.gate.release(now=self.now, stale_at=self.now + 30).job_ids)

    def hand_out(self) -> list[str]:
        """Release, and let a worker begin each job that was admitted."""
        admitted = self.release()
        for job_id in admitted:
            self.begin(lane_of(job_id), job_id)
        return admitted

    def serve(self, most: int = 1000) -> list[str]:
        """Release, submit and end jobs until nobody passes; returns them in their order."""
        served: list[str] = []
        while len(served) < most and (admitted := self.hand_out()):
            for job_id in admitted:
                self.accept(job_id)
                assert self.claim(job_id)
            served += admitted
        return served

    def state(self, job_id: str) -> JobState | None:
        return self.readings.state(JobId(job_id))

    def states(self) -> dict[str, str]:
        found = self.redis.zrange(keys.JOBS, 0, -1)
        return {job_id: self.redis.hget(keys.job(job_id), "state") for job_id in found}

    def flight(self) -> Mapping[str, float]:
        return dict(self.redis.zrange(keys.FLIGHT, 0, -1, withscores=True))

    def number(self, field: str) -> int:
        return int(self.redis.hget(keys.GATE, field) or 0)

    def balances(self) -> None:
        """Assert what must always hold for the gate's books."""
        states, flight = self.states(), self.flight()
        assert set(flight) == {j for j, state in states.items() if state in AT_THE_PROVIDER}
        assert self.number("reserved") == sum(flight.values())
        for on_their_way in self.redis.keys(f"{keys.GATE}:admitted:*"):
            assert {states[j] for j in self.redis.zrange(on_their_way, 0, -1)} == {"admitted"}
        for job_id in (j for j, state in states.items() if state == "held"):
            assert self.in_lane(job_id) or self.is_aside(job_id)
            assert self.redis.zscore(keys.DUE, job_id) is not None

    def in_lane(self, job_id: str) -> bool:
        """Say whether a job waits in its lane."""
        where = lane_of(job_id)
        if self.redis.zscore(f"{keys.HELD}{where}", job_id) is None:
            return False
        name, _, tenant = str(where).partition(":")
        assert self.redis.zscore(keys.LANES + name, tenant) is not None
        return True

    def is_aside(self, job_id: str) -> bool:
        """Say whether a job waits for the end of a pause."""
        aside = (f"{keys.HELD}paused:{name}" for name in self.redis.smembers(keys.ASIDE))
        return any(self.redis.zscore(each, job_id) is not None for each in aside)


def lane_of(job_id: str) -> Lane:
    name, tenant, _ = job_id.split(":")
    priority, _, slow = name.partition(".")
    return lane(tenant, priority, slow=bool(slow))


def _fields() -> JSONObject:
    return {"operation": REMASTER.name, "parked": "a message"}
