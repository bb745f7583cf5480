"""What a webhook costs when nothing is done with it: ``gunicorn benchmarks.bare:app``."""

from flask import Flask, request
from flask.typing import ResponseReturnValue

app = Flask(__name__, static_folder=None)


@app.post("/webhooks/aimusic/<job_id>")
def receive(job_id: str) -> ResponseReturnValue:
    """Read the body and answer as the receiver does."""
    request.get_data(cache=False)
    return {"status": "resumed"}
