"""archive.store as a follow-up in native canvas, from the simulator's files to a folder."""

import hashlib
import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from celery import chain, chord, group

from tests import launcher
from tests.system import System, wait_until
from worker.core.batch.flows import find_flow, parse_branch
from worker.core.contract import QUEUE, SLOW_QUEUE, task_name
from worker.core.errors import ArchiveFailed, InvalidRequest
from worker.messages.flow import enqueue

GET_SECONDS = 40


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    with System(tmp_path_factory.mktemp("archive")) as system:
        system.worker("quick", app="tests.canvas_app")
        system.worker("slow", queues=SLOW_QUEUE, pool="threads", concurrency=4)
        yield system


def step(system: System, operation: str, *source: Any, **options: Any) -> Any:
    parameters = {
        "sonic.create_music": {"custom_mode": False, "gpt_description_prompt": "a waltz"},
        "sonic.remaster": {"mv": "chirp-v5"},
    }.get(operation, {})
    return system.app.signature(
        task_name(operation), source, parameters, **({"queue": QUEUE} | options)
    )


def store(system: System, *source: Any, queue: str = SLOW_QUEUE, **options: Any) -> Any:
    return step(system, "archive.store", *source, queue=queue, **options)


def is_stored(stored: dict[str, Any], count: int) -> None:
    """Every file is there, and is what the manifest says."""
    manifest = Path(urlsplit(stored["manifest"]).path)
    entries = json.loads(manifest.read_text())["files"]
    assert len(entries) == len(stored["files"]) == count
    for name, entry in entries.items():
        content = (manifest.parent.parent / name).read_bytes()
        assert len(content) == entry["bytes"]
        assert hashlib.sha256(content).hexdigest() == entry["sha256"]


def test_a_song_is_stored_and_the_chain_goes_on(everything: System) -> None:
    key = str(uuid.uuid4())
    note = everything.app.signature("test.note", (key,), queue=QUEUE)
    flow = chain(step(everything, "sonic.create_music"), store(everything), note)
    stored = flow.apply_async().get(timeout=GET_SECONDS)
    is_stored(stored, 4)
    folder = everything.folder / ".fermata" / "archive" / stored["job_id"]
    assert stored["manifest"] == f"file://{folder}/manifest.json"
    assert {path.suffix for path in folder.iterdir()} == {".wav", ".svg", ".json"}
    assert "file_archived" in everything.log("slow")
    assert "file_archived" not in everything.log("quick")


@pytest.mark.parametrize(
    "operation", ["sonic.stems_full", "sonic.wav", "sonic.midi", "sonic.download"]
)
def test_what_is_made_of_a_clip_is_stored(everything: System, operation: str) -> None:
    flow = step(everything, operation, str(uuid.uuid4())) | store(everything)
    stored = flow.apply_async().get(timeout=GET_SECONDS)
    assert stored["files"]
    is_stored(stored, len(stored["files"]))


def test_what_a_request_has_archived_at_its_end_is_stored(everything: System) -> None:
    songs = find_flow("sonic.create_music")
    then = [parse_branch("archive.store"), parse_branch("sonic.wav+archive.store")]
    waltz = {"custom_mode": False, "gpt_description_prompt": "a waltz"}
    enqueued = enqueue(everything.app, songs.plan(waltz, branches=then))
    assert [each.operation for each in enqueued.steps] == ["sonic.create_music", "sonic.wav"]
    folder = everything.folder / ".fermata" / "archive"
    for job in enqueued.steps:
        manifest = folder / job.job_id / "manifest.json"
        wait_until(manifest.exists, what=f"the files of {job.operation} are there")


def test_the_results_of_a_chord_are_all_stored(everything: System) -> None:
    header = [step(everything, each, str(uuid.uuid4())) for each in ("sonic.wav", "sonic.midi")]
    both = chord(group(header, app=everything.app), store(everything), app=everything.app)
    wav, midi = both.apply_async().get(timeout=GET_SECONDS)
    is_stored(wav, 1)
    is_stored(midi, 1)


def test_it_runs_where_it_is_sent_and_twice_changes_nothing(everything: System) -> None:
    made = step(everything, "sonic.wav", str(uuid.uuid4())).apply_async().get(timeout=GET_SECONDS)
    first = store(everything, made).apply_async().get(timeout=GET_SECONDS)
    path = Path(urlsplit(first["files"][0]["url"]).path)
    before = path.stat()
    again = store(everything, made, queue=QUEUE).apply_async().get(timeout=GET_SECONDS)
    assert again == first
    assert path.stat() == before


def test_a_link_that_is_refused_fails_the_chain_and_says_which(everything: System) -> None:
    made = step(everything, "sonic.wav", str(uuid.uuid4())).apply_async().get(timeout=GET_SECONDS)
    inner = {"clip_id": "inner", "state": "succeeded", "audio_url": "http://169.254.169.254/a.mp3"}
    hostile = made | {"clips": [inner]}
    with pytest.raises(ArchiveFailed, match="refused") as raised:
        store(everything, hostile).apply_async().get(timeout=GET_SECONDS)
    (missing,) = raised.value.details["missing"]
    assert missing["source"] == "169.254.169.254/a.mp3"
    folder = everything.folder / ".fermata" / "archive" / made["job_id"]
    assert len(json.loads((folder / "manifest.json").read_text())["files"]) == 1


def late(system: System) -> dict[str, Any]:
    """A result whose file the simulator does not have."""
    url = f"{system.simulator.url}/media/{uuid.uuid4()}-nothing.wav"
    clips = [{"clip_id": "c", "state": "succeeded", "audio_url": url}]
    return {"job_id": str(uuid.uuid4()), "clips": clips}


def test_a_link_that_is_late_is_asked_for_again_later(everything: System) -> None:
    sent = store(everything, late(everything)).apply_async()
    wait_until(lambda: sent.state == "RETRY", what="the task waits for its next run")
    sent.revoke()


def test_a_link_that_never_comes_fails_in_the_end(everything: System) -> None:
    eagerly = (  # which does not wait between two runs
        "import json, sys; from tasks.archive import store\n"
        "ended = store.apply(args=[json.loads(sys.argv[1])])\n"
        "print(json.dumps([ended.state, ended.result.to_json()]))"
    )
    ran = launcher.run(
        "-c", eagerly, json.dumps(late(everything)),
        environment=everything.environment, folder=everything.folder,
    )  # fmt: skip
    *warnings, last = ran.stdout.splitlines()
    state, error = json.loads(last)
    assert (state, error["type"]) == ("FAILURE", "ArchiveFailed")
    assert "HTTP 404" in error["message"]
    assert len([line for line in warnings if "file_not_archived" in line]) == 9


def test_what_is_no_result_is_refused(everything: System) -> None:
    with pytest.raises(InvalidRequest):
        store(everything, "a clip id").apply_async().get(timeout=GET_SECONDS)
