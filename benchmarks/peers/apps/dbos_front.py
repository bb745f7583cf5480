"""The webhooks of DBOS's jobs: each is sent to the workflow that waits for it."""

import os
from typing import Final

from dbos import DBOSClient

from benchmarks.peers.apps.webhooks import front

THREADS: Final = 8

_client = DBOSClient(
    system_database_url=os.environ["BENCHMARK_DATABASE_URL"], system_database_pool_size=THREADS
)

app = front(_client.send)
