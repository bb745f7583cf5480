"""A FastAPI backend, beside a receiver on port 8000:

FERMATA_BROKER_URL=redis://… uvicorn --port 8080 --app-dir examples fastapi_app:app
"""

import json
import os
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import Body, FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse, StreamingResponse

from fermata_client import Fermata, Unavailable, UnknownJob, WrongCall

app = FastAPI()
fermata = Fermata(os.environ["FERMATA_BROKER_URL"])


@app.post("/songs", status_code=202)
def create(wanted: Annotated[Any, Body()]) -> dict[str, str]:
    # What a caller may choose; a job_id, a tenant or a priority is the backend's to decide.
    match wanted:
        case {"gpt_description_prompt": str(prompt)}:
            job = fermata.enqueue(
                "sonic.create_music", custom_mode=False, gpt_description_prompt=prompt
            )
            return {"id": job.id}
    raise HTTPException(400, "gpt_description_prompt is missing")


@app.get("/songs/{song_id}")
def show(song_id: str) -> JSONResponse:
    status = fermata.job(song_id).status()
    # Unknown until a worker begins it, if another process has sent it.
    return JSONResponse(status.to_json(), 404 if status.state == "unknown" else 200)


@app.get("/songs/{song_id}/updates")
async def updates(song_id: str) -> StreamingResponse:
    job = fermata.job(song_id)

    async def stream() -> AsyncIterator[str]:
        try:
            async for update in job.aupdates(timeout=300):
                yield f"event: {update.event}\ndata: {json.dumps(update.status.to_json())}\n\n"
        except UnknownJob as error:
            yield f"event: unknown\ndata: {json.dumps({'error': str(error)})}\n\n"

    return StreamingResponse(stream(), media_type="text/event-stream")


@app.delete("/songs/{song_id}")
def cancel(song_id: str) -> dict[str, bool]:
    return {"cancelled": fermata.job(song_id).cancel()}


@app.exception_handler(WrongCall)
def wrong(_: Request, error: WrongCall) -> JSONResponse:
    return JSONResponse({"error": str(error)}, 400)


@app.exception_handler(Unavailable)
def away(_: Request, error: Unavailable) -> JSONResponse:
    return JSONResponse({"error": "try again"}, 503)
