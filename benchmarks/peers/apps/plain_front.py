"""The webhooks of plain Celery: each enqueues a second task, as a backend would without Fermata."""

import os

from celery import Celery

from benchmarks.peers.apps.webhooks import front
from worker.core.contract import QUEUE

# Without a result backend it subscribes to no result: the view waits for none.
_tasks = Celery(broker=os.environ["FERMATA_BROKER_URL"], set_as_current=False)


def finish(job_id: str, body: str) -> None:
    _tasks.send_task("benchmark.finish", [body], task_id=f"finish-{job_id}", queue=QUEUE)


app = front(finish)
