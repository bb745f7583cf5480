"""What a backend would write without Fermata: ``gunicorn benchmarks.front:app``.

A view that checks a webhook's signature as the receiver does, and enqueues a plain task for it.
"""

import os
from datetime import UTC, datetime, timedelta
from typing import Final

from celery import Celery
from flask import Flask, request
from flask.typing import ResponseReturnValue

from worker.core import signing
from worker.core.contract import QUEUE
from worker.core.providers.aimusic.signing import SCHEME

KEYS: Final = os.environ["FERMATA_SIGNING_KEYS"].split(",")
TOLERANCE: Final = timedelta(minutes=5)

app = Flask(__name__, static_folder=None)
# Without a result backend it subscribes to no result: the view waits for none.
tasks = Celery(broker=os.environ["FERMATA_BROKER_URL"], set_as_current=False)


@app.post("/webhooks/aimusic/<job_id>")
def receive(job_id: str) -> ResponseReturnValue:
    """Check the signature, enqueue a task under the id in the path, and answer."""
    raw = request.get_data(cache=False)
    secrets = signing.derive_secrets(KEYS, job_id)
    now = datetime.now(UTC)
    SCHEME.verify(dict(request.headers), raw, secrets=secrets, now=now, tolerance=TOLERANCE)
    tasks.send_task("benchmark.noop", task_id=job_id, queue=QUEUE)
    return {"status": "resumed"}
