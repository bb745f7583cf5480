"""A store with jobs in every state, put there by the scripts, for tests of what people look at."""

import json
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

from redis import Redis

from tests.system import SIGNING_KEY
from worker.batch import BatchRow, BatchRows, Ledger, Phase
from worker.batch.timetable import Journal
from worker.core import keys
from worker.core.contract import QUEUE, task_name
from worker.core.job import kept
from worker.core.job.canvas import Step
from worker.core.job.lanes import Lane, Limits, Priority
from worker.core.job.models import Event, JobId, Kind, Source
from worker.core.job.states import JobState, Turn
from worker.core.providers import chosen
from worker.core.providers.aimusic.operations import find
from worker.core.signing import derive_secret
from worker.store.gate import Gate
from worker.store.quarantine import Quarantine
from worker.store.records import Records

DAY: Final = 86400

CLIP: Final = "26c9c592-0566-46cf-bb71-91ac1deaa7b5"


class Store:
    """Takes jobs through their turns, as the engine would."""

    def __init__(self, redis: "Redis") -> None:
        self.redis = redis
        self.records = Records(redis)
        self.quarantine = Quarantine(redis)
        self.gate = Gate(redis, Limits(), 1000)

    def enqueue(self, job_id: str, operation: str, *, at: float, **fields: str) -> JobId:
        """Record a job that stands in its queue, with its message."""
        job = JobId(job_id)
        recorded = {"operation": operation, "parked": _message(job_id, operation, {}), **fields}
        assert self.records.turn(job, Turn.ENQUEUE, now=at, due_at=at + DAY, fields=recorded)
        return job

    def hold(self, job_id: str, operation: str, *, at: float, tenant: str = "default") -> JobId:
        """Hold a job before the gate."""
        job = self.enqueue(job_id, operation, at=at)
        lane = {"operation": operation, "lane": str(Lane(Priority.BATCH, tenant)), "cost": 0}
        assert self.records.turn(
            job, Turn.HOLD, now=at + 0.1, due_at=at + DAY, why="50 of 50 in flight", fields=lane
        )
        return job

    def submit(
        self,
        job_id: str,
        operation: str = "sonic.wav",
        *,
        at: float,
        tenant: str = "default",
        parameters: Mapping[str, Any] | None = None,
        **fields: Any,
    ) -> JobId:
        """Begin the submit leg of a job."""
        job = JobId(job_id)
        bid = self.gate.bid(
            find(operation), Lane(Priority.INTERACTIVE, tenant), now=at, expires_at=None
        )
        begun = self.records.begin(
            job,
            bid,
            now=at,
            due_at=at + 100,
            deadline_at=at + 3600,
            fields={
                "operation": operation,
                "parked": _message(job_id, operation, parameters or {}),
                **fields,
            },
            leg="leg-1",
        )
        assert begun is not None
        return job

    def accept(self, job: JobId, *, at: float) -> JobId:
        task = {"provider_task_id": f"task-{job}"[:40]}
        assert self.records.turn(job, Turn.ACCEPT, now=at, due_at=at + 60, leg="leg-1", fields=task)
        return job

    def doubt(self, job: JobId, *, at: float) -> JobId:
        assert self.records.turn(
            job, Turn.DOUBT, now=at, due_at=at + 900, leg="leg-1", why="the answer was lost"
        )
        return job

    def end(
        self,
        job: JobId,
        *,
        at: float,
        turn: Turn = Turn.SUCCEED,
        source: Source = Source.WEBHOOK,
        result: Mapping[str, Any] | None = None,
        error: Mapping[str, Any] | None = None,
    ) -> JobId:
        """Claim a job with an event, and settle it."""
        assert self.records.claim(job, Event(source, body="{}", delivery_id="d"), now=at)
        operation = self.redis.hget(keys.job(job), "operation")
        ending = {"error": error} if error else {"result": result or _result(job, str(operation))}
        assert self.records.turn(
            job, turn, now=at + 0.2, due_at=None, fields={"operation": operation, **ending},
            retain_seconds=DAY,
        )  # fmt: skip
        return job

    def fail(self, job: JobId, *, at: float, message: str = "the provider failed") -> JobId:
        return self.end(
            job, at=at, turn=Turn.FAIL, error={"type": "TaskFailed", "message": message}
        )

    def settle(
        self, job_id: str, operation: str = "sonic.wav", *, at: float, **given: Any
    ) -> JobId:
        """Take a job through its whole life, which lasts 40 s."""
        return self.end(
            self.accept(self.submit(job_id, operation, at=at, **given), at=at + 1), at=at + 40
        )

    def flow(self, first: str, steps: Sequence[Step], *, at: float) -> JobId:
        """Settle a job that knows what follows it."""
        job = self.accept(self.submit(first, "sonic.remaster", at=at), at=at + 1)
        following = {"steps": [[s.job_id, s.operation, s.after, s.joins] for s in steps]}
        self.redis.hset(keys.job(job), "following", json.dumps(following))
        return self.end(job, at=at + 60)

    def quarantined(
        self, job_id: str, body: bytes, *, at: float, why: str = "no job", signed: bool = False
    ) -> str:
        headers = {"X-Webhook-Id": "d-1", "Content-Type": "application/json"}
        if signed:
            secret = derive_secret(SIGNING_KEY, JobId(job_id))
            headers |= chosen().scheme.headers(secret, str(int(at)), body, delivery_id="d-1")
        return self.quarantine.keep(Kind.ORPHAN, JobId(job_id), headers, body, why, now=at)

    def batch(self, batch_id: str, jobs: int, *, at: float) -> None:
        """Open a batch, submit its jobs, and settle most of them."""
        ledger = Ledger(self.redis, retain_seconds=DAY)
        price = find("sonic.wav").credits * jobs
        ledger.open(batch_id, now=at, rows=jobs, expected_jobs=jobs, expected_credits=price)
        names = [JobId(f"{batch_id}-{number}") for number in range(jobs)]
        rows = [
            BatchRow(n, line, "sonic.wav", None, (Step(n, "sonic.wav"),))
            for line, n in enumerate(names)
        ]
        booked = BatchRows(self.redis, retain_seconds=DAY)
        booked.announce(batch_id, rows)
        booked.book(batch_id, rows)
        for number, name in enumerate(names):
            self.enqueue(name, "sonic.wav", at=at, batch=batch_id)
            job = self.accept(self.submit(name, at=at + 1), at=at + 2)
            if number % 10 == 0:
                self.fail(job, at=at + 30)
            elif number % 4:
                self.end(job, at=at + 30 + number * 3)
        ledger.enter(batch_id, Phase.SUBMITTED, only_from=Phase.SUBMITTING)


def _message(job_id: str, operation: str, parameters: Mapping[str, Any]) -> str:
    """Write a job's message as a producer publishes it."""
    head = {
        "content-type": "application/json",
        "content-encoding": "utf-8",
        "headers": {
            "id": job_id, "task": task_name(operation), "root_id": job_id, "parent_id": None,
        },
        "properties": {
            "correlation_id": job_id,
            "delivery_mode": 2,
            "delivery_info": {"exchange": "", "routing_key": QUEUE},
            "priority": 0,
        },
    }  # fmt: skip
    follow_ups = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
    body = [[CLIP], dict(parameters), follow_ups]
    return kept.pack(json.dumps(head), json.dumps(body).encode())


def _result(job_id: str, operation: str) -> dict[str, Any]:
    clips = [
        {
            "clip_id": f"clip-{number}",
            "title": f"Night train, take {number}",
            "state": "succeeded",
            "duration_seconds": 143.2 + number,
            "audio_url": f"https://cdn.aimusicapi.ai/{job_id}-{number}.mp3?token=hush",
        }
        for number in (1, 2)
    ]
    return {"job_id": job_id, "operation": operation, "clips": clips, "data": {}, "partial": False}


def everything(redis: "Redis") -> Store:
    """Fill a store with something for each screen."""
    store, now = Store(redis), time.time()
    song = {
        "mv": "chirp-v5",
        "title": "Night train",
        "prompt": "[Verse]\nThe last carriage\nhums a fifth",
        "upload_url": "https://example.com/a.wav?X-Signature=hush",
    }
    for number in range(180):
        at = now - 3500 + number * 19
        given: dict[str, Any] = {"tenant": ("default", "acme", "blue-note")[number % 3]}
        job = store.submit(f"song-{number:03}", "sonic.create_music", at=at, **given)
        store.accept(job, at=at + 1)
        took = 35 + number * 37 % 90
        if number % 17 == 0:
            store.fail(job, at=at + took, message="The lyrics were refused by moderation.")
        elif at + took < now:
            store.end(job, at=at + took, source=Source.POLL if number % 6 == 0 else Source.WEBHOOK)
    for number in range(5):
        store.accept(
            store.submit(
                f"wait-{number}",
                "sonic.stems_full",
                at=now - 70 - number,
                parameters=song,
                tenant="acme",
            ),
            at=now - 68,
        )
    store.doubt(store.submit("doubt-1", "sonic.cover", at=now - 200), at=now - 170)
    store.submit("submit-1", "sonic.extend", at=now - 1)
    store.enqueue("queued-1", "sonic.midi", at=now - 4)
    steps = [
        Step(JobId("flow-stems"), "sonic.stems_full", JobId("flow-1")),
        Step(JobId("flow-wav"), "sonic.wav", JobId("flow-1")),
        Step(JobId("flow-midi"), "sonic.midi", JobId("flow-wav")),
        Step(JobId("flow-lyrics"), "sonic.lyrics_timeline", JobId("flow-1")),
        Step(JobId("flow-store"), "archive.store", JobId("flow-lyrics"), joins=True),
    ]
    store.flow("flow-1", steps, at=now - 120)
    store.settle("flow-wav", at=now - 60, after="flow-1", first="flow-1")
    store.accept(
        store.submit("flow-stems", "sonic.stems_full", at=now - 58, after="flow-1", first="flow-1"),
        at=now - 57,
    )
    store.fail(
        store.accept(
            store.submit(
                "flow-lyrics", "sonic.lyrics_timeline", at=now - 58, after="flow-1", first="flow-1"
            ),
            at=now - 57,
        ),
        at=now - 20,
        message="no lyrics in this clip",
    )
    many = [Step(JobId(f"wide-{n}"), "sonic.wav", JobId("wide")) for n in range(200)]
    store.flow("wide", many, at=now - 2900)
    for number in range(180):
        store.settle(f"wide-{number}", at=now - 2800 + number * 13, after="wide", first="wide")
    store.batch("album-7", 60, at=now - 240)
    for days, outcome in ((2, "submitted 60 rows"), (1, "skipped: nightly-2 has not ended")):
        journal = Journal(redis, lambda at=now - days * DAY: at)  # type: ignore[misc]
        journal.note("nightly", f"nightly-{days}", outcome)
    store.quarantined(
        "song-lost",
        b'{"task_id": "t-9", "event": "song.completed", "data": [{"clip_id": "c-9"}]}',
        at=now - 900,
        why="there is no job song-lost: past its retention, or its record was lost",
    )
    for number in range(12):
        store.hold(
            f"held-{number}",
            "sonic.remaster",
            at=now - 300 - number,
            tenant=("acme", "blue-note")[number % 2],
        )
    for number in range(12):
        store.records.note(
            JobId(f"song-{number + 100}"), now=now, what="song.streaming",
            why=f"webhook 7d0127ba-8249-4a88-8f3a-{number:012}", sources=JobState,
            receipt="progress",
        )  # fmt: skip
    redis.zadd(
        keys.WORKERS,
        {"worker-1@studio": now - 1, "worker-2@studio": now - 2, "worker-9@attic": now - 4000},
    )
    store.gate.learn_balance(4946, spent_before=0)
    return store
