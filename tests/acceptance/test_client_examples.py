"""The example backends, each as the process that its first line starts, driven over HTTP."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.ports import take_port
from tests.system import ROOT, System, stop, wait_until
from worker.core.job.models import JobId

EXAMPLES = ROOT / "examples"
WANTED = {"gpt_description_prompt": "a calm piano piece"}
COMMANDS = {
    "flask": ("-m", "flask", "--app", f"{EXAMPLES}/flask_app.py", "run", "--port", "{port}"),
    "django": (f"{EXAMPLES}/django_app.py", "127.0.0.1:{port}"),
    "fastapi": ("-m", "uvicorn", "--app-dir", f"{EXAMPLES}", "fastapi_app:app", "--port", "{port}"),
}


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    with System(tmp_path_factory.mktemp("examples")) as system:
        system.worker()
        yield system


@pytest.fixture(scope="module", params=COMMANDS)
def backend(system: System, request: pytest.FixtureRequest) -> Iterator[str]:
    port = str(take_port())
    command = [part.format(port=port) for part in COMMANDS[request.param]]
    process = system.run(request.param, *command)
    url = f"http://127.0.0.1:{port}/songs"
    wait_until(lambda: answers(url), what=f"{request.param} answers")
    yield url
    stop(process)


def answers(url: str) -> bool:
    try:
        return requests.get(f"{url}/unknown", timeout=5).status_code == 404
    except requests.ConnectionError:
        return False


def created(backend: str, **wanted: Any) -> str:
    answer = requests.post(backend, json=WANTED | wanted, timeout=10)
    assert answer.status_code == 202, answer.text
    song_id: str = answer.json()["id"]
    return song_id


def events(backend: str, song_id: str) -> list[tuple[str, dict[str, Any]]]:
    answer = requests.get(f"{backend}/{song_id}/updates", timeout=60)
    assert answer.headers["Content-Type"].startswith("text/event-stream")
    found = []
    for block in answer.text.strip().split("\n\n"):
        event, data = (line.partition(": ")[2] for line in block.splitlines())
        found.append((event, json.loads(data)))
    return found


def test_a_song_that_nobody_knows_is_unknown_and_not_pending(backend: str) -> None:
    answer = requests.get(f"{backend}/nobody", timeout=10)
    assert (answer.status_code, answer.json()["state"]) == (404, "unknown")


def test_a_song_is_enqueued_followed_and_read(system: System, backend: str) -> None:
    song_id = created(backend)
    *_, (event, status) = events(backend, song_id)
    assert (event, status["state"]) == ("settled", "succeeded")
    assert requests.get(f"{backend}/{song_id}", timeout=10).json() == status
    assert status["result"]["clips"][0]["audio_url"]
    assert len(system.simulator.accepted(song_id)) == 1


def test_a_wrong_request_is_told_by_its_field(backend: str) -> None:
    *_, (_, status) = events(backend, created(backend, gpt_description_prompt=""))
    assert status["error"]["type"] == "InvalidRequest"
    assert "gpt_description_prompt" in status["error"]["details"]["fields"]


def test_a_song_is_cancelled(system: System, backend: str) -> None:
    prompt = f"a song that never ends {Path(backend).parent.name}"
    system.simulator.rule(prompt, webhook="lost", latency_seconds=600)
    song_id = created(backend, gpt_description_prompt=prompt)
    wait_until(lambda: system.state(song_id) == "waiting")
    assert requests.delete(f"{backend}/{song_id}", timeout=10).json() == {"cancelled": True}
    *_, (event, status) = events(backend, song_id)
    assert (event, status["state"]) == ("settled", "cancelled")
    assert status["error"]["type"] == "JobCancelled"


@pytest.mark.parametrize("updates", ["", "/updates"])
def test_what_cannot_be_an_id_is_refused(backend: str, updates: str) -> None:
    answer = requests.get(f"{backend}/no id{updates}", timeout=10)
    assert (answer.status_code, "job id" in answer.json()["error"]) == (400, True)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\xff",
        b"[1]",
        b"null",
        b'{"custom_mode": true}',
        b'{"operation": "x"}',
        b'{"gpt_description_prompt": 1}',
        b'{"title": "\\ud800"}',
        b'{"title": NaN}',
    ],
)
def test_a_body_that_makes_no_sense_is_the_callers_mistake(backend: str, body: bytes) -> None:
    headers = {"Content-Type": "application/json"}
    answer = requests.post(backend, data=body, headers=headers, timeout=10)
    assert answer.status_code in {400, 422}, answer.text


def test_a_caller_chooses_neither_the_job_nor_its_lane(system: System, backend: str) -> None:
    chosen = {"job_id": "mine", "idempotency_key": "mine", "tenant": "mine", "priority": "batch"}
    song_id = created(backend, **chosen)
    *_, (_, status) = events(backend, song_id)
    assert (song_id != "mine", status["state"]) == (True, "succeeded")
    assert system.readings.read(JobId(song_id)).lane == "interactive:default"


def test_the_examples_are_started_as_their_first_line_says() -> None:
    assert "flask --app examples/flask_app.py run" in (EXAMPLES / "flask_app.py").read_text()
    assert "uvicorn --port 8080 --app-dir examples fastapi_app:app" in (
        (EXAMPLES / "fastapi_app.py").read_text()
    )
    assert f"python {Path('examples/django_app.py')}" in (EXAMPLES / "django_app.py").read_text()
