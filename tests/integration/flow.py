"""One flow of a test: it composes jobs and plain steps by name, and tells what became of each."""

import json
import time
import uuid
from collections.abc import Mapping
from typing import Any

import requests
from celery import chord, group
from celery.canvas import Signature
from celery.exceptions import DuplicateNodenameWarning
from celery.result import AsyncResult
from redis import Redis

from tests.integration import tongue
from tests.job import Job
from tests.system import SIGNING_KEY, System, wait_until
from worker.core import signing
from worker.core.job import kept
from worker.core.job.models import Entry, JobId, JobRecord
from worker.core.job.states import TERMINAL
from worker.store.quarantine import Quarantine

GET_SECONDS = 60
SETTLED = frozenset(TERMINAL)
QUICK: dict[str, Any] = {"latency_seconds": 0.1}
HELD: dict[str, Any] = {"webhook": "lost", "latency_seconds": 600}
"""A scenario: the provider says nothing for as long as any test lasts."""


class Flow:
    """A flow that chooses the ids of its jobs, so that a test can set scenarios before they run."""

    def __init__(self, system: System, redis: "Redis") -> None:
        self.system = system
        self.redis = redis
        self.jobs: list[str] = []
        self.expected_runs: dict[str, int] = {}
        self.ended = False

    def job(
        self, *source: Any, operation: str = "sonic.remaster", rule: Any = None, **options: Any
    ) -> Job:
        """A job that parks; without a source it takes the result of the step before it."""
        job_id = options.setdefault("task_id", str(uuid.uuid4()))
        self.jobs.append(job_id)
        self.system.simulator.rule(job_id, **(QUICK | (rule or {})))
        kwargs = {"mv": "chirp-v5"} if operation == "sonic.remaster" else {}
        task = f"fermata.{operation}"
        wanted = {"queue": "fermata"} | options
        return Job(task, source, kwargs, app=self.system.app, **wanted)

    def song(self, **options: Any) -> Job:
        """A job that needs no source at all."""
        self.jobs.append(options.setdefault("task_id", str(uuid.uuid4())))
        self.system.simulator.rule(self.jobs[-1], **QUICK)
        wanted = {"custom_mode": False, "gpt_description_prompt": "a calm piano piece"}
        task, app = "fermata.sonic.create_music", self.system.app
        return Job(task, (), wanted, app=app, queue="fermata", **options)

    def note(self, *value: Any, runs: int = 1, **options: Any) -> Signature[Any]:
        """A plain step that passes its input on; ``runs`` is how often it must run."""
        return self._plain("test.note", value, runs, options)

    def note_at_last(self) -> Signature[Any]:
        """A plain step that retries once."""
        return self._plain("test.note_at_last", (), 2, {})

    def errback(self, *, runs: int = 1) -> Signature[Any]:
        return self._plain("test.noted_error", (), runs, {})

    def _plain(self, task: str, value: Any, runs: int, options: Any) -> Signature[Any]:
        key = f"{task.removeprefix('test.')}:{uuid.uuid4()}"
        self.expected_runs[key] = runs
        args = (*value, key)
        return self.system.app.signature(task, args, {}, **({"queue": "fermata"} | options))

    def group(self, *tasks: Any) -> Any:
        return group(tasks, app=self.system.app)

    def chord(self, header: Any, body: Any) -> Any:
        return chord(header, body, app=self.system.app)

    def runs(self) -> dict[str, int]:
        """How often each plain step has run so far."""
        return {key: self.redis.llen(f"test:{key}") for key in self.expected_runs}

    def ran(self, step: Signature[Any]) -> list[str]:
        """The line that a step wrote each time it ran: for an errback, the type of its error."""
        return [str(each) for each in self.redis.lrange(f"test:{step.args[-1]}", 0, -1)]

    def ends(self) -> None:
        """Wait until every job has settled and every step has run; then each ran as it must."""
        for job_id in self.jobs:
            wait_until(lambda j=job_id: self.state(j) in SETTLED, what=f"{job_id} is settled")
        expected = self.expected_runs
        wait_until(
            lambda: all(n >= expected[key] for key, n in self.runs().items()),
            what=f"every step has run: {self.runs()} of {expected}",
        )
        runs = self.runs()
        assert runs == expected, f"ran {runs}, not {expected}"
        self.ended = True

    def paid_once(self, *job_ids: str) -> None:
        """Assert by the simulator's own books that it accepted each of these jobs exactly once."""
        accepted = {j: len(self.accepted(j)) for j in job_ids or self.jobs}
        assert accepted == dict.fromkeys(accepted, 1), f"accepted: {accepted}"

    def accepted(self, match: str) -> list[dict[str, Any]]:
        return self.system.simulator.accepted(match)

    def delivered(self, job_id: str, *events: str) -> None:
        """Wait until the simulator has noted these deliveries of a job, each answered with 200.

        It notes a delivery when it has the answer: that may be after the job's end.
        """

        def noted() -> list[tuple[str, int]]:
            [task] = self.accepted(job_id)
            return sorted((each["event"], each["http_status"]) for each in task["deliveries"])

        expected = sorted((event, 200) for event in events)
        wait_until(lambda: noted() == expected, what=f"{job_id} was delivered: {expected}")

    def state(self, job_id: str) -> str | None:
        return self.system.state(job_id)

    def record(self, job_id: str) -> JobRecord:
        return self.system.readings.read(JobId(job_id))

    def turns(self, job_id: str) -> list[str]:
        return [entry["what"] for entry in self.record(job_id).timeline]

    def quiet(self) -> None:
        """Wait until the worker has nothing left to do, so that second copies have run too."""
        wait_until(lambda: not self.system.backlog()[0], what="every message was consumed")
        wait_until(lambda: not active(self.system), what="no slot is in use")

    def waits(self, job_id: str, *, seconds: float = 20) -> None:
        parked = f"{job_id} is parked"
        wait_until(lambda: self.state(job_id) == "waiting", seconds=seconds, what=parked)

    def hold(self, *source: Any, **options: Any) -> Job:
        """A job that stays parked until the test itself delivers."""
        return self.job(*(source or (clip(),)), rule=HELD, **options)

    def parked_message(self, job_id: str) -> dict[str, Any]:
        """Return the message that will resume a job, its body decoded."""
        message, body = kept.unpack(self.system.readings.message(JobId(job_id)) or "{}")
        return message | {"body": json.loads(body)}

    def deliver(self, job_id: str, content: Any, **options: Any) -> requests.Response:
        return deliver(self.system, job_id, content, **options)

    def quarantined(self, job_id: str) -> list[bytes]:
        """The bodies that were kept of a job's deliveries."""
        return [each.body for each in self.entries(job_id)]

    def entries(self, job_id: str) -> list[Entry]:
        """The entries of a job in the quarantine."""
        return [each for each in Quarantine(self.redis).entries() if each.job_id == job_id]


def active(system: System, name: str = "worker") -> list[str]:
    """The ids of the tasks that hold a slot of a worker."""
    node = f"{name}@test"
    inspect = system.app.control.inspect([node], timeout=5)

    def ask() -> Any:
        try:
            return inspect.active()
        except DuplicateNodenameWarning:
            # On RabbitMQ, a worker in the place of a killed one has been seen to answer twice.
            return None

    # A worker says that it is ready before it receives broadcasts.
    replies = wait_until(ask, seconds=GET_SECONDS, what=f"{node} answers")
    return [task["id"] for task in replies[node]]


def clip() -> str:
    """An id that no other test uses; any UUID is a song to the simulator."""
    return str(uuid.uuid4())


def outcome(result: "AsyncResult[Any]") -> Any:
    """Return a result that may have come while its server was away.

    ``get`` alone would wait for a message that was published when nobody was subscribed.
    """
    wait_until(result.ready, seconds=GET_SECONDS, what=f"the result of {result.id}")
    return result.get(timeout=GET_SECONDS)


def who(result: Any) -> Any:
    """Reduce a result to the ids of the jobs it comes from."""
    return [who(each) for each in result] if isinstance(result, list) else result["job_id"]


def ids(jobs: Any) -> Any:
    """Reduce signatures to their ids, lists kept."""
    return [ids(each) for each in jobs] if isinstance(jobs, list) else jobs.id


def completed(**fields: Any) -> dict[str, Any]:
    """A ``song.completed`` (provider-api.md §5.5)."""
    song = {"clip_id": clip(), "state": "succeeded", "title": "Delivered", "duration": "7.5"}
    body = {"code": 200, "message": "success", "event": "song.completed", "platform": "suno"}
    return body | {"task_id": "delivered", "data": [song]} | fields


def streaming() -> dict[str, Any]:
    return completed(
        event="song.streaming",
        data=[{"clip_id": clip(), "state": "running", "audio_url": "https://example.test/a"}],
    )


def failed() -> dict[str, Any]:
    return {
        "type": "failed",
        "message": "Generation failed",
        "refund_processed": True,
        "task_id": "delivered",
        "platform": "suno",
        "event": "song.failed",
    }


def raw(content: Any) -> bytes:
    """Write a body as the provider sends it; bytes are sent as they are."""
    if isinstance(content, bytes):
        return content
    return json.dumps(tongue.current.word(content)).encode()


def signed(
    job_id: str, body: bytes, *, secret: str = "", age_seconds: float = 0, delivery_id: str = ""
) -> dict[str, str]:
    """Sign as the provider does, with the job's own secret unless told otherwise."""
    timestamp = str(int(time.time() - age_seconds))
    secret = secret or signing.derive_secret(SIGNING_KEY, job_id)
    return {
        "Content-Type": "application/json",
        **tongue.current.scheme.headers(
            secret, timestamp, body, delivery_id=delivery_id or str(uuid.uuid4())
        ),
    }


def deliver(
    system: System,
    job_id: str,
    content: Any,
    *,
    method: str = "POST",
    headers: Mapping[str, str | bytes] | None = None,
    timeout: float = GET_SECONDS,
    **signature: Any,
) -> requests.Response:
    """Call the receiver as the provider would."""
    body = raw(content)
    return requests.request(
        method,
        system.receiver_url + tongue.current.door + job_id,
        data=body,
        headers=signed(job_id, body, **signature) if headers is None else headers,
        timeout=timeout,
    )
