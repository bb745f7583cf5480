"""The Flask view in front of each peer: it checks signatures as the receiver does, and hands on."""

import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final

from flask import Flask, request
from flask.typing import ResponseReturnValue

from worker.core import signing
from worker.core.providers.aimusic.signing import SCHEME

KEYS: Final = os.environ["FERMATA_SIGNING_KEYS"].split(",")
TOLERANCE: Final = timedelta(minutes=5)


def front(hand_on: Callable[[str, str], object]) -> Flask:
    """Create an app that hands on the id and the body of each webhook that is authentic."""
    app = Flask(__name__, static_folder=None)

    @app.post("/webhooks/aimusic/<webhook_id>")
    def receive(webhook_id: str) -> ResponseReturnValue:
        raw = request.get_data(cache=False)
        secrets = signing.derive_secrets(KEYS, webhook_id)
        now = datetime.now(UTC)
        SCHEME.verify(dict(request.headers), raw, secrets=secrets, now=now, tolerance=TOLERANCE)
        hand_on(webhook_id, raw.decode())
        return {"status": "resumed"}

    return app
