"""A Flask backend: ``FERMATA_BROKER_URL=redis://… flask --app examples/flask_app.py run``."""

import json
import os
from collections.abc import Iterator
from typing import Any

from flask import Flask, Response, request

from fermata_client import Fermata, Unavailable, UnknownJob, WrongCall

app = Flask(__name__)
fermata = Fermata(os.environ["FERMATA_BROKER_URL"])


@app.post("/songs")
def create() -> tuple[dict[str, Any], int]:
    # What a caller may choose; a job_id, a tenant or a priority is the backend's to decide.
    match request.get_json():
        case {"gpt_description_prompt": str(prompt)}:
            job = fermata.enqueue(
                "sonic.create_music", custom_mode=False, gpt_description_prompt=prompt
            )
            return {"id": job.id}, 202
    return {"error": "gpt_description_prompt is missing"}, 400


@app.get("/songs/<song_id>")
def show(song_id: str) -> tuple[dict[str, Any], int]:
    status = fermata.job(song_id).status()
    # Unknown until a worker begins it, if another process has sent it.
    return status.to_json(), 404 if status.state == "unknown" else 200


@app.get("/songs/<song_id>/updates")
def updates(song_id: str) -> Response:
    job = fermata.job(song_id)

    def stream() -> Iterator[str]:
        try:
            for update in job.updates(timeout=300):
                yield f"event: {update.event}\ndata: {json.dumps(update.status.to_json())}\n\n"
        except UnknownJob as error:
            yield f"event: unknown\ndata: {json.dumps({'error': str(error)})}\n\n"

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
