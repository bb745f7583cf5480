"""A Django backend in one file, beside a receiver on port 8000:

FERMATA_BROKER_URL=redis://… python examples/django_app.py 8080
"""

import json
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any

from django.conf import settings
from django.core.exceptions import BadRequest
from django.core.management import execute_from_command_line
from django.http import HttpRequest, HttpResponseBase, JsonResponse, StreamingHttpResponse
from django.urls import path
from django.views.decorators.http import require_http_methods, require_POST

from fermata_client import Fermata, Unavailable, UnknownJob, WrongCall

if not settings.configured:
    settings.configure(
        ROOT_URLCONF=__name__, ALLOWED_HOSTS=["127.0.0.1"], MIDDLEWARE=["__main__.answers_errors"]
    )
fermata = Fermata(os.environ["FERMATA_BROKER_URL"])


class answers_errors:  # noqa: N801  (Django calls its middleware by name)
    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        return self._get_response(request)

    def process_exception(self, _: HttpRequest, error: Exception) -> JsonResponse | None:
        if isinstance(error, WrongCall):
            return JsonResponse({"error": str(error)}, status=400)
        if isinstance(error, Unavailable):
            return JsonResponse({"error": "try again"}, status=503)
        return None


@require_POST
def songs(request: HttpRequest) -> JsonResponse:
    # What a caller may choose; a job_id, a tenant or a priority is the backend's to decide.
    match read(request):
        case {"gpt_description_prompt": str(prompt)}:
            job = fermata.enqueue(
                "sonic.create_music", custom_mode=False, gpt_description_prompt=prompt
            )
            return JsonResponse({"id": job.id}, status=202)
    return JsonResponse({"error": "gpt_description_prompt is missing"}, status=400)


def read(request: HttpRequest) -> Any:
    try:
        return json.loads(request.body)
    except ValueError as error:
        raise BadRequest("the body is not JSON") from error


@require_http_methods(["GET", "DELETE"])
def song(request: HttpRequest, song_id: str) -> JsonResponse:
    job = fermata.job(song_id)
    if request.method == "DELETE":
        return JsonResponse({"cancelled": job.cancel()})
    status = job.status()  # unknown until a worker begins it, if another process has sent it
    return JsonResponse(status.to_json(), status=404 if status.state == "unknown" else 200)


def updates(_: HttpRequest, song_id: str) -> StreamingHttpResponse:
    job = fermata.job(song_id)

    def stream() -> Iterator[str]:
        try:
            for update in job.updates(timeout=300):
                yield f"event: {update.event}\ndata: {json.dumps(update.status.to_json())}\n\n"
        except UnknownJob as error:
            yield f"event: unknown\ndata: {json.dumps({'error': str(error)})}\n\n"

    return StreamingHttpResponse(stream(), content_type="text/event-stream")


urlpatterns = [
    path("songs", songs),
    path("songs/<str:song_id>", song),
    path("songs/<str:song_id>/updates", updates),
]

if __name__ == "__main__":
    execute_from_command_line([sys.argv[0], "runserver", "--noreload", *sys.argv[1:]])
