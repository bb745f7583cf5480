"""A Flask backend: ``FERMATA_BROKER_URL=redis://… flask --app examples/flask_app.py run``."""

import json
import os
from collections.abc import Iterator
from typing import Any

from flask import Flask, Response, request

from fermata_client import Fermata, Unavailable, WrongCall

app = Flask(__name__)
fermata = Fermata(os.environ["FERMATA_BROKER_URL"])


@app.post("/songs")
def create() -> tuple[dict[str, Any], int]:
    wanted = request.get_json()
    job = fermata.enqueue("sonic.create_music", custom_mode=False, **wanted)
    return {"id": job.id}, 202


@app.get("/songs/<song_id>")
def show(song_id: str) -> dict[str, Any]:
    return fermata.job(song_id).status().to_json()


@app.get("/songs/<song_id>/updates")
def updates(song_id: str) -> Response:
    def stream() -> Iterator[str]:
        for update in fermata.job(song_id).updates(timeout=300):
            yield f"event: {update.event}\ndata: {json.dumps(update.status.to_json())}\n\n"

    return Response(stream(), mimetype="text/event-stream")


@app.delete("/songs/<song_id>")
def cancel(song_id: str) -> dict[str, bool]:
    return {"cancelled": fermata.job(song_id).cancel()}


@app.errorhandler(WrongCall)
def wrong(error: WrongCall) -> tuple[dict[str, str], int]:
    return {"error": str(error)}, 400


@app.errorhandler(Unavailable)
def away(error: Unavailable) -> tuple[dict[str, str], int]:
    return {"error": "try again"}, 503
