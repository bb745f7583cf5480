"""The submit of a job, the same for each peer: one POST to the stub, as Fermata's leg makes it."""

import os
from typing import Any

import requests

_session = requests.Session()
_session.headers["Connection"] = "close"


def submit(webhook_id: str) -> str:
    """Submit a song whose webhook is to come under an id; returns the provider's own id."""
    body = {"mv": "chirp-v5", "webhook_url": f"http://127.0.0.1/webhooks/aimusic/{webhook_id}"}
    url = f"{os.environ['FERMATA_PROVIDER_URL']}/suno/remaster"
    answer: dict[str, Any] = _session.post(url, json=body, timeout=10).json()
    return str(answer["task_id"])
