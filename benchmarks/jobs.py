"""The jobs that are measured, parked and resumed by the code that a worker runs."""

import base64
import json
import random
import time
import uuid
from collections.abc import Sequence
from typing import Any, Final

from celery.canvas import Signature

from benchmarks.house import House
from tests.job import Job, pressed
from tests.system import SIGNING_KEY
from worker.core.contract import OURS_HEADER, QUEUE, task_name
from worker.core.job import kept
from worker.core.job.lanes import Lane, Limits
from worker.core.job.models import Event, JobId, Parked, Source
from worker.core.job.timing import Policy
from worker.core.providers import chosen
from worker.core.providers.aimusic.operations import find
from worker.core.wire import Answer, Request
from worker.engine.attempts import Attempt, Attempts
from worker.engine.submit import Callbacks, Submissions
from worker.store.gate import Gate

OPERATION: Final = find("sonic.remaster")
REQUEST: Final = {"continue_clip_id": str(uuid.uuid4()), "mv": "chirp-v5"}


def remaster(house: House, *source: str, **options: Any) -> Job:
    """One job; without a source it takes the result of the step before it."""
    options.setdefault("task_id", str(uuid.uuid4()))
    name, wanted = task_name(OPERATION.name), {"mv": REQUEST["mv"]}
    return Job(name, source, wanted, app=house.producer, queue=QUEUE, **options)


def completed() -> str:
    """A ``song.completed`` of two clips (provider-api.md §5.5), about 4 KB."""
    body = {"code": 200, "message": "success", "event": "song.completed", "platform": "suno"}
    return json.dumps(body | {"task_id": str(uuid.uuid4()), "data": [_clip(), _clip()]})


def _clip() -> dict[str, Any]:
    clip_id = str(uuid.uuid4())
    return {
        "clip_id": clip_id,
        "state": "succeeded",
        "title": "Nights at the harbour",
        "tags": "dream pop, female vocals, slow, warm analogue synthesizers",
        "lyrics": "[Verse]\nThe lamps along the water hum a line I used to know\n" * 20,
        "image_url": f"https://cdn.example.test/image_{clip_id}.jpeg",
        "audio_url": f"https://cdn.example.test/{clip_id}.mp3",
        "video_url": None,
        "created_at": "2026-11-22T08:26:40.000Z",
        "gpt_description_prompt": None,
        "duration": "104.88",
        "negative_tags": None,
        "style_weight": None,
        "weirdness_constraint": None,
        "mv": "chirp-v5",
    }


def messages(signatures: Sequence[Signature[Any]]) -> list[str]:
    """Write what Celery would put into its queue, so that a whole backlog can appear at once."""
    return [_queued(pressed(each)) for each in signatures]


def _queued(parked: Parked) -> str:
    """Write a message as kombu has it in a list of Redis."""
    wire, body = kept.unpack(parked.message)
    of_its_queue = {"body_encoding": "base64", "delivery_tag": str(uuid.uuid4())}
    properties = wire["properties"] | of_its_queue
    return json.dumps(wire | {"body": base64.b64encode(body).decode(), "properties": properties})


class _Accepting:
    """The way to the provider, with nothing at its end."""

    def send(self, request: Request) -> Answer:
        body = {"message": "success", "task_id": str(uuid.uuid4())}
        return Answer(200, {}, json.dumps(body).encode())


def park(house: House, count: int) -> list[JobId]:
    """Park jobs as a worker's submit leg does, without a worker: press, begin, announce, submit."""
    gate, policy = Gate(house.redis, Limits(), held_seconds=60), Policy()
    attempts = Attempts(
        records=house.system.records,
        readings=house.system.readings,
        gate=gate,
        policy=policy,
        clock=time.time,
        jitter=random.random,
    )
    jobs = Submissions(
        attempts=attempts,
        records=house.system.records,
        provider=chosen(),
        transport=_Accepting(),
        gate=gate,
        callbacks=Callbacks(house.system.receiver_url, SIGNING_KEY),
        policy=policy,
        clock=time.time,
    )
    job_ids = [JobId(str(uuid.uuid4())) for _ in range(count)]
    headers = {OURS_HEADER: 0}
    wanted = [remaster(house, str(uuid.uuid4()), task_id=j, headers=headers) for j in job_ids]
    for job_id, parked in zip(job_ids, map(pressed, wanted), strict=True):
        attempt = Attempt(job_id, OPERATION, uuid.uuid4().hex)
        attempts.begin(attempt, REQUEST, parked, Lane())
        attempts.announce(attempt)
        jobs.submit(attempt, REQUEST)
    house.require("waiting", job_ids)
    return job_ids


def claim(house: House, job_ids: Sequence[str]) -> None:
    """Claim parked jobs for a webhook each, and so make them ready to be resumed."""
    for job_id in job_ids:
        event = Event(Source.WEBHOOK, completed(), delivery_id="benchmark")
        house.system.records.claim(JobId(job_id), event, now=time.time())
