"""The webhooks of Restate's jobs: each resolves the awakeable for which its workflow waits."""

import os
from typing import Final

from benchmarks.peers.apps.http import post
from benchmarks.peers.apps.webhooks import front

INGRESS: Final = os.environ["BENCHMARK_INGRESS_URL"]


def resolve(awakeable_id: str, body: str) -> None:
    post(f"{INGRESS}/restate/awakeables/{awakeable_id}/resolve", body)


app = front(resolve)
