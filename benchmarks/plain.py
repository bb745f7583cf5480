"""A worker with plain Celery tasks beside the provider tasks: ``celery -A benchmarks.plain``.

One worker runs both, so that both are measured under the same settings, pool and connections.
"""

import json
import time
from typing import Any

from benchmarks.peers.apps import provider
from worker.app import app


@app.task(name="benchmark.noop", shared=False)
def noop() -> None:
    """Do nothing."""


@app.task(name="benchmark.collect", shared=False)
def collect(results: object) -> None:
    """End a chord."""


@app.task(name="benchmark.submit", shared=False)
def submit(webhook_id: str) -> str:
    """Submit a song, and end."""
    return provider.submit(webhook_id)


@app.task(name="benchmark.finish", shared=False)
def finish(body: str) -> list[Any]:
    """Return what a webhook brought."""
    clips: list[Any] = json.loads(body)["data"]
    return clips


@app.task(name="benchmark.first", shared=False)
def first(published_at: float) -> tuple[float, float]:
    """Say when this step was published, and when it ended."""
    return published_at, time.monotonic()


@app.task(name="benchmark.second", shared=False)
def second(before: tuple[float, float]) -> tuple[float, float]:
    """Return the seconds since the first step was published, and since it ended."""
    now = time.monotonic()
    return now - before[0], now - before[1]
