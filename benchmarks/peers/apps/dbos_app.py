"""The workflow on DBOS, and the route by which a backend starts it.

An async workflow that waits holds no thread, and the database notifies it of its message. It runs
in the web application's own process, as DBOS documents it, with DBOS's own sizes of pools.
"""

import contextlib
import json
import os
from collections.abc import AsyncIterator
from typing import Any, Final

from dbos import DBOS, DBOSConfig, SetWorkflowID
from fastapi import FastAPI

from benchmarks.peers.apps.provider import submit

DAY_SECONDS: Final = 24 * 60 * 60

config: DBOSConfig = {
    "name": "benchmark",
    "system_database_url": os.environ["BENCHMARK_DATABASE_URL"],
    "log_level": "WARNING",
}
DBOS(config=config)


@DBOS.workflow()
async def song(webhook_id: str) -> list[Any]:
    """Submit a song, wait for its webhook, and return what came."""
    await DBOS.run_step_async(None, submit, webhook_id)
    body: str = await DBOS.recv_async(timeout_seconds=DAY_SECONDS)
    clips: list[Any] = json.loads(body)["data"]
    return clips


@contextlib.asynccontextmanager
async def launched(_: FastAPI) -> AsyncIterator[None]:
    DBOS.launch()
    yield
    DBOS.destroy()


app = FastAPI(lifespan=launched)


@app.post("/jobs/{job_id}")
async def start(job_id: str) -> None:
    with SetWorkflowID(job_id):
        await DBOS.start_workflow_async(song, job_id)
