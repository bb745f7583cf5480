"""Authentic deliveries, as the text of their HTTP requests."""

import time
import uuid
from collections.abc import Sequence

from benchmarks.jobs import completed
from tests.system import SIGNING_KEY
from worker.core import signing
from worker.core.providers.aimusic.signing import SCHEME


def delivery(job_id: str) -> str:
    """Word one ``song.completed``, signed now with the job's own secret (provider-api.md §5)."""
    body, timestamp, delivery_id = completed(), str(int(time.time())), str(uuid.uuid4())
    secret = signing.derive_secret(SIGNING_KEY, job_id)
    headers = {
        "Host": "127.0.0.1",
        "User-Agent": "benchmark",
        "Accept": "*/*",
        "Content-Type": "application/json",
        "Content-Length": str(len(body)),
        "X-Webhook-Event": "song.completed",
        "Idempotency-Key": delivery_id,
        SCHEME.id_header: delivery_id,
        SCHEME.timestamp_header: timestamp,
        SCHEME.signature_header: SCHEME.sign(secret, timestamp, body.encode()),
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"POST /webhooks/aimusic/{job_id} HTTP/1.1\r\n{lines}\r\n{body}"


def deliveries(job_ids: Sequence[str]) -> list[str]:
    return [delivery(job_id) for job_id in job_ids]
