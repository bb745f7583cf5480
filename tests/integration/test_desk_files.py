"""Files of the archive over HTTP, and the song that they belong to."""

import base64
import hashlib
import io
import json
import time
import tracemalloc
import zipfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import pytest
from flask import Flask

from desk import places
from desk.parts import EXTENSION
from tests.integration import desk
from tests.integration.populated import Store
from worker.archive.targets import open_target
from worker.core import keys
from worker.core.archive import links
from worker.core.contract import SLOW_QUEUE
from worker.core.job.canvas import Step
from worker.core.job.models import JobId

SOUND: Final = b"ID3" + bytes(range(256)) * 1000
BEGAN: Final = datetime(2026, 11, 29, 12, tzinfo=UTC)
HOSTILE: Final = "\"><script>alert('1')</script>{{ 7*7 }}"
MOST_BYTES: Final = 60_000


@pytest.fixture(params=["folder", "memory"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an archive: of a folder, and of a file system that fsspec reaches."""
    return f"file://{tmp_path}/archive" if request.param == "folder" else f"memory://{tmp_path}"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "archive"


def build(valkey: Any, place: str) -> Flask:
    return desk.build(valkey.url, FERMATA_ARCHIVE_URL=place)


@pytest.fixture
def app(valkey: Any, redis: Any, place: str) -> Flask:
    return build(valkey, place)


@pytest.fixture
def local(valkey: Any, redis: Any, folder: Path) -> Flask:
    return build(valkey, f"file://{folder}")


@pytest.fixture
def store(redis: Any) -> Store:
    return Store(redis)


def get(client: Any, path: str, **headers: str) -> Any:
    """Download as a program does: the file is closed at the end."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return client.get(path, headers=named, buffered=True, follow_redirects=True)


def put(
    app: Flask,
    job_id: str,
    *files: tuple[str, str, bytes],
    kind: str = "audio",
    clip_id: str = "clip-1",
) -> list[str]:
    """Archive files of a job as ``archive.store`` does: name, source, content."""
    target = open_target(app.extensions[EXTENSION].settings.archive.url)
    manifest = links.new_manifest({"job_id": job_id}, BEGAN)
    for name, source, content in files:
        target.replace(f"{job_id}/{name}", content)
        manifest["files"][f"{job_id}/{name}"] = {
            "kind": kind, "clip_id": clip_id, "source": source, "bytes": len(content),
            "sha256": hashlib.sha256(content).hexdigest(), "content_type": "text/javascript",
            "at": BEGAN.isoformat(),
        }  # fmt: skip
    target.replace(f"{job_id}/manifest.json", json.dumps(manifest).encode())
    return [f"/api/v1/jobs/{job_id}/files/{job_id}/{name}" for name, _, _ in files]


def test_a_file_is_listed_and_downloaded_whole(app: Flask, store: Store) -> None:
    store.settle("job-1", at=time.time() - 90)
    (path,) = put(app, "job-1", ("clip-1-audio.mp3", "cdn.test/a.mp3", SOUND))
    client = desk.client(app, "reader")
    (listed,) = client.get("/api/v1/jobs/job-1/files").json["items"]
    assert (listed["name"], listed["bytes"]) == ("job-1/clip-1-audio.mp3", len(SOUND))
    answer = get(client, path)
    assert (answer.status_code, answer.data) == (200, SOUND)
    assert answer.headers["Content-Type"] == "audio/mpeg"
    assert answer.headers["Content-Length"] == str(len(SOUND))
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Content-Disposition"] == "attachment; filename=clip-1-audio.mp3"
    assert answer.headers["Accept-Ranges"] == "bytes"
    head = client.head(path, buffered=True)
    assert (head.status_code, head.data, head.headers["Content-Length"]) == (
        200, b"", str(len(SOUND)),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("asked", "part"),
    [("bytes=0-9", slice(0, 10)), ("bytes=200000-", slice(200_000, None)),
     ("bytes=-7", slice(-7, None)), ("bytes=70000-199999", slice(70_000, 200_000)),
     ("bytes=9-99999999", slice(9, None))],
)  # fmt: skip
def test_a_range_of_a_file_is_sent_alone(app: Flask, store: Store, asked: str, part: slice) -> None:
    store.settle("job-1", at=time.time() - 90)
    (path,) = put(app, "job-1", ("a.mp3", "cdn.test/a.mp3", SOUND))
    answer = get(desk.client(app, "reader"), path, Range=asked)
    assert (answer.status_code, answer.data) == (206, SOUND[part])
    start, stop, _ = part.indices(len(SOUND))
    assert answer.headers["Content-Range"] == f"bytes {start}-{stop - 1}/{len(SOUND)}"
    assert answer.headers["Content-Length"] == str(stop - start)


def test_a_range_that_is_not_there_is_refused_and_one_of_an_older_file_is_the_whole(
    app: Flask, store: Store
) -> None:
    store.settle("job-1", at=time.time() - 90)
    (path,) = put(app, "job-1", ("a.mp3", "cdn.test/a.mp3", SOUND))
    client = desk.client(app, "reader")
    refused = get(client, path, Range=f"bytes={len(SOUND)}-")
    assert refused.status_code == 416
    assert refused.headers["Content-Range"] == f"bytes */{len(SOUND)}"
    assert refused.json["status"] == 416
    etag = get(client, path).headers["ETag"]
    for given, status in ((etag, 206), ('"older"', 200)):
        ranged = get(client, path, Range="bytes=0-9", If_Range=given)
        assert ranged.status_code == status
    assert get(client, path, If_None_Match=etag).status_code == 304


def test_only_what_the_manifest_names_is_there(local: Flask, store: Store, folder: Path) -> None:
    for job_id in ("job-1", "job-2"):
        store.settle(job_id, at=time.time() - 90)
        put(local, job_id, ("a.mp3", "cdn.test/a.mp3", SOUND))
    (folder / "job-1/beside.mp3").write_bytes(SOUND)
    (folder.parent / "secret").write_text("hush")
    client = desk.client(local, "operator")
    for name in (
        "job-1/beside.mp3", "job-1/manifest.json", "job-2/a.mp3", "job-1/../job-2/a.mp3",
        "job-1/../job-1/a.mp3", "../secret", "..%2Fsecret", "%2e%2e/secret", "/etc/passwd",
        f"{folder}/job-1/a.mp3", "job-1%2F..%2F..%2Fsecret", "a.mp3", "job-1", "job-1/a.mp3%00",
        "..%5Csecret", ".",
    ):  # fmt: skip
        answer = get(client, f"/api/v1/jobs/job-1/files/{name}")
        assert answer.status_code in {404, 405}, name
        assert b"hush" not in answer.data
        assert SOUND not in answer.data
    assert get(client, "/api/v1/jobs/job-1/files/job-1/a.mp3").status_code == 200


def test_a_file_that_was_cut_or_became_a_link_is_not_there(
    local: Flask, store: Store, folder: Path
) -> None:
    store.settle("job-1", at=time.time() - 90)
    names = ("cut.mp3", "link.mp3", "gone.mp3", "whole.mp3")
    paths = put(local, "job-1", *((name, f"cdn.test/{name}", SOUND) for name in names))
    (folder / "job-1/cut.mp3").write_bytes(SOUND[:-1])
    (folder.parent / "elsewhere").write_bytes(SOUND)
    (folder / "job-1/link.mp3").unlink()
    (folder / "job-1/link.mp3").symlink_to(folder.parent / "elsewhere")
    (folder / "job-1/gone.mp3").unlink()
    client = desk.client(local, "reader")
    assert [get(client, path).status_code for path in paths] == [404, 404, 404, 200]
    zipped = get(client, "/api/v1/jobs/job-1/song.zip")
    assert zipfile.ZipFile(io.BytesIO(zipped.data)).namelist() == ["whole.mp3"]


def test_a_folder_of_a_job_that_leads_out_of_the_archive_is_refused(
    local: Flask, store: Store, folder: Path
) -> None:
    store.settle("job-1", at=time.time() - 90)
    (path,) = put(local, "job-1", ("a.mp3", "cdn.test/a.mp3", SOUND))
    (folder / "job-1").rename(folder.parent / "elsewhere")
    (folder / "job-1").symlink_to(folder.parent / "elsewhere")
    answer = get(desk.client(local, "reader"), path)
    assert (answer.status_code, answer.json["status"]) == (503, 503)
    assert "leads out of the archive" in answer.json["detail"]


def test_a_long_file_is_never_whole_in_memory(local: Flask, store: Store, folder: Path) -> None:
    store.settle("job-1", at=time.time() - 90)
    (path,) = put(local, "job-1", ("long.mp3", "cdn.test/a.mp3", SOUND))
    long = 300 * 1024**2
    manifest = json.loads((folder / "job-1/manifest.json").read_text())
    manifest["files"]["job-1/long.mp3"]["bytes"] = long
    (folder / "job-1/manifest.json").write_text(json.dumps(manifest))
    with (folder / "job-1/long.mp3").open("r+b") as file:
        file.truncate(long)
    client = desk.client(local, "reader")
    for asked in (path, "/api/v1/jobs/job-1/song.zip"):
        tracemalloc.start()
        answer = client.get(asked)
        sent = sum(map(len, answer.response))
        answer.close()
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert sent >= long
        assert most < 8 * 1024**2, asked


STEM: Final = (("stem-3.mp3", "cdn.test/stem.mp3", SOUND),)
OF_STEM: Final = {"kind": "Stem 3", "clip_id": "stem-3"}


def song_of(store: Store, **clip: Any) -> JobId:
    """Settle a song of two takes, its stems and its notes; returns the id of the song's job."""
    now = time.time()
    steps = [Step(JobId("stems"), "sonic.stems_full", JobId("song")),
             Step(JobId("midi"), "sonic.midi", JobId("stems"))]  # fmt: skip
    job = store.flow("song", steps, at=now - 300)
    for job_id, operation, after, result in (
        ("stems", "sonic.stems_full", "song", {"clips": [
            {"clip_id": f"stem-{n}", "state": "succeeded", "stem_type": f"Stem {n}",
             "audio_url": f"https://cdn.test/stem.mp3?n={n}", **clip} for n in range(12)]}),
        ("midi", "sonic.midi", "stems", {"clips": [], "data": {"instruments": [
            {"name": HOSTILE, "notes": [{"start": 0, "end": 1, "pitch": 60}]}]}}),
    ):  # fmt: skip
        made = store.submit(job_id, operation, at=now - 200, after=after, first="song")
        store.end(store.accept(made, at=now - 199), at=now - 100, result=result)
    return job


def test_the_song_of_any_job_of_a_flow_is_the_same(app: Flask, store: Store) -> None:
    song_of(store, title=HOSTILE)
    (path,) = put(app, "stems", *STEM, **OF_STEM)
    client = desk.client(app, "reader")
    told = [client.get(f"/api/v1/jobs/{job}/song").json for job in ("song", "stems", "midi")]
    assert told[0] == told[1] == told[2]
    assert [each["name"] for each in told[0]["takes"]] == ["Take 1", "Take 2"]
    assert [each["stored"] for each in told[0]["stems"]] == [None, None, None, path, *[None] * 8]
    assert told[0]["instruments"][0]["notes"] == [
        {"start": 0, "end": 1, "pitch": 60, "velocity": 1}
    ]
    assert get(client, told[0]["stems"][3]["stored"]).data == SOUND


def test_a_song_plays_from_the_archive_and_else_from_the_provider(app: Flask, store: Store) -> None:
    song_of(store, title=HOSTILE)
    (path,) = put(app, "stems", *STEM, **OF_STEM)
    answer = desk.client(app, "reader").get("/jobs/midi/song")
    assert answer.text.count("<audio controls") == 14
    assert f'src="{path}"' in answer.text
    assert 'src="https://cdn.test/stem.mp3?n=4"' in answer.text
    assert "They end some day" in answer.text
    assert "1 file of the archive" in answer.text
    assert "alert('1')" not in answer.text
    assert len(answer.data) < MOST_BYTES


@pytest.mark.parametrize("length", [60, 0])
def test_a_song_with_all_that_a_stranger_can_put_in_it_is_a_small_page(
    app: Flask, store: Store, length: int
) -> None:
    job = store.submit("job-1", "sonic.stems_full", at=time.time() - 90)
    clips = [
        {"clip_id": f"c-{n}", "state": "succeeded", "title": HOSTILE * 99,
         "audio_url": f"https://cdn.test/{n}.mp3", "lyrics": "la " * 9_999}
        for n in range(60)
    ]  # fmt: skip
    words = [{"word": "la" * 40, "start_s": n, "end_s": n + 1} for n in range(9999)]
    instruments = [
        {"name": HOSTILE * 9, "notes": [{"start": 0, "end": 1, "pitch": 60}]} for _ in range(9999)
    ]
    data = {"alignment": words, "instruments": instruments}
    store.end(
        store.accept(job, at=time.time() - 89),
        at=time.time(),
        result={"clips": clips[:length], "data": data},
    )
    answer = desk.client(app, "reader").get("/jobs/job-1/song")
    assert answer.status_code == 200
    assert len(answer.data) < MOST_BYTES


def test_where_there_is_nothing_to_hear_or_the_archive_cannot_be_read_the_page_says_so(
    valkey: Any, store: Store
) -> None:
    store.submit("job-1", at=time.time())
    song_of(store)
    client = desk.client(build(valkey, "s3://nowhere/at-all"), "reader")
    assert "There is nothing to hear" in client.get("/jobs/job-1/song").text
    page = client.get("/jobs/song/song").text
    assert "The archive cannot be read" in page
    assert page.count("<audio controls") == 14
    assert client.get("/api/v1/jobs/song/files").status_code == 500


def test_an_archive_on_a_server_that_is_away_is_not_redis(valkey: Any, store: Store) -> None:
    song_of(store)
    client = desk.client(build(valkey, "ftp://127.0.0.1:1/songs"), "reader")
    page = client.get("/jobs/song/song").text
    assert "The archive cannot be read" in page
    assert page.count("<audio controls") == 14
    answer = client.get("/api/v1/jobs/song/files")
    assert (answer.status_code, "the archive" in answer.json["detail"]) == (503, True)


def test_downloads_that_nobody_reads_leave_threads_for_others(app: Flask, store: Store) -> None:
    song_of(store)
    (path,) = put(app, "stems", *STEM, **OF_STEM)
    client = desk.client(app, "reader")
    paths = [path, "/api/v1/jobs/song/song.zip"] * (places.MOST_OF_ONE // 2)
    opened = [client.get(each, buffered=False) for each in paths]
    assert {each.status_code for each in opened} == {200}
    refused = client.get(path)
    assert (refused.status_code, refused.headers["Retry-After"]) == (429, "10")
    assert client.get("/jobs/song/song").status_code == 200
    assert get(desk.client(app, "operator"), path).status_code == 200
    for each in opened:
        each.close()
    # Each of these gives its place back, whatever it is answered.
    for given in ({"Range": "bytes=0-9"}, {"Range": "bytes=999999-"}, {"If-None-Match": "*"}):
        for _ in range(places.MOST_OF_ONE + 1):
            assert get(client, path, **given).status_code in {206, 304, 416}
            assert client.head(path, buffered=True).status_code == 200


def wav_of(store: Store, url: str = "https://cdn.test/wav-1.wav?key=hush") -> JobId:
    """Settle a job that made a file without a clip of its own."""
    job = store.accept(store.submit("wav", at=time.time() - 60), at=time.time() - 59)
    clips = [{"clip_id": "clip-1", "state": "succeeded"}]
    result = {"clips": clips, "data": {"wav_url": url}}
    return store.end(job, at=time.time() - 9, result=result)


def test_a_job_links_to_its_files_and_tells_when_they_are_archived(
    local: Flask, store: Store, valkey: Any
) -> None:
    wav_of(store)
    client = desk.client(local, "enqueuer")
    page = client.get("/jobs/wav").text
    assert 'href="https://cdn.test/wav-1.wav?key=hush"' in page
    assert 'href="/jobs/wav/song"' in page
    assert "data-every" not in page
    behind = client.post("/jobs/wav/archive").location
    page = client.get(behind).text
    assert "a worker stores the files of this job" in page
    assert 'data-every="3"' in page  # it looks until they are there
    (path,) = put(local, "wav", ("clip-1-wav.wav", "cdn.test/wav-1.wav", SOUND), kind="wav")
    page = client.get(behind).text
    assert f'href="{path}"' in page
    assert "the archive has all files of this job" in page
    for absent in ('action="/jobs/wav/archive"', "data-every", "key=hush"):
        assert absent not in page
    far = desk.client(build(valkey, "s3://nowhere/at-all"), "enqueuer").get("/jobs/wav").text
    assert 'action="/jobs/wav/archive"' in far  # nobody waits for another machine


def test_no_link_of_a_result_leads_to_a_script(local: Flask, store: Store) -> None:
    wav_of(store, "javascript:alert(1)")
    page = desk.client(local, "reader").get("/jobs/wav").text
    assert 'href="javascript' not in page


def test_all_of_a_song_is_one_zip(app: Flask, store: Store) -> None:
    song_of(store)
    client = desk.client(app, "reader")
    missing = get(client, "/api/v1/jobs/song/song.zip")
    assert (missing.status_code, missing.json["status"]) == (404, 404)
    result = json.loads(store.redis.hget(keys.job("song"), "result") or "")
    result["clips"][0]["title"] = "Nuit / été"
    store.redis.hset(keys.job("song"), "result", json.dumps(result))
    put(app, "song", ("clip-1-audio.mp3", "cdn.aimusicapi.ai/song-1.mp3", SOUND),
        ("older.mp3", "cdn.test/older.mp3", SOUND))  # fmt: skip
    put(app, "stems", *STEM, **OF_STEM)
    answer = get(client, "/api/v1/jobs/midi/song.zip")
    assert answer.headers["Content-Type"] == "application/zip"
    said = answer.headers["Content-Disposition"]
    plain, star = 'attachment; filename="Nuit _ ete.zip"', "UTF-8''Nuit%20_%20%C3%A9t%C3%A9.zip"
    assert said == f"{plain}; filename*={star}"
    with zipfile.ZipFile(io.BytesIO(answer.data)) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == ["Take 1 audio.mp3", "older.mp3", "Stem 3.mp3"]
        assert archive.read("Take 1 audio.mp3") == archive.read("Stem 3.mp3") == SOUND


def test_what_a_result_links_to_is_archived_on_demand(app: Flask, store: Store, redis: Any) -> None:
    song_of(store)
    store.submit("waits", "sonic.wav", at=time.time())
    client = desk.client(app, "enqueuer")
    for _ in range(2):
        answer = client.post("/api/v1/jobs/stems/archive")
        assert (answer.status_code, answer.json) == (202, {"job_id": "stems"})
        assert answer.headers["Location"] == "/api/v1/jobs/stems/files"
    message = json.loads(redis.lindex(SLOW_QUEUE, 0))
    assert message["headers"]["task"] == "fermata.archive.store"
    (sent,), _, _ = json.loads(base64.b64decode(message["body"]))
    assert (sent["job_id"], len(sent["clips"])) == ("stems", 12)
    assert redis.llen(SLOW_QUEUE) == 2
    refused = client.post("/api/v1/jobs/waits/archive")
    assert (refused.status_code, refused.json["status"]) == (409, 409)
    page = client.get("/jobs/stems").text
    assert 'action="/jobs/stems/archive"' in page
    for name, path in (("reader", "/jobs/stems"), ("enqueuer", "/jobs/waits")):
        assert "/archive" not in desk.client(app, name).get(path).text
    assert "A worker stores the files now" in get_after(client.post("/jobs/stems/archive"), client)


def sent_to_the_archive(redis: Any) -> list[str]:
    """Take the messages for the archive, and name the jobs whose files they are to store."""
    bodies = [json.loads(each)["body"] for each in redis.lrange(SLOW_QUEUE, 0, -1)]
    redis.delete(SLOW_QUEUE)
    return sorted(json.loads(base64.b64decode(each))[0][0]["job_id"] for each in bodies)


def test_a_whole_song_is_archived_on_demand(app: Flask, store: Store, redis: Any) -> None:
    song_of(store)
    store.submit("waits", "sonic.wav", at=time.time())
    client = desk.client(app, "enqueuer")
    for asked_of in ("song", "midi", "midi"):  # from any job of it, as often as one likes
        answer = client.post(f"/api/v1/jobs/{asked_of}/song/archive")
        assert (answer.status_code, answer.json) == (202, {"jobs": ["song", "stems"]})
        assert answer.headers["Location"] == f"/api/v1/jobs/{asked_of}/song"
        assert sent_to_the_archive(redis) == ["song", "stems"]
    page = client.get("/jobs/midi/song").text
    assert 'action="/jobs/midi/song/archive"' in page
    reads = desk.client(app, "reader").get("/jobs/midi/song").text
    assert "/archive" not in reads
    assert "whole song" not in reads  # nor a word of a button that is not there
    assert "data-archiving" not in page
    behind = get_after(client.post("/jobs/midi/song/archive"), client)
    assert "the files of 2 jobs now" in behind
    assert 'data-archiving="/jobs/midi/song"' in behind
    assert "load the page again" in behind  # without a script
    refused = client.post("/api/v1/jobs/waits/song/archive")
    assert (refused.status_code, refused.json["status"]) == (409, 409)
    assert "Nothing to archive" in get_after(client.post("/jobs/waits/song/archive"), client)


def test_what_the_archive_has_of_a_song_is_not_sent_there_again(
    app: Flask, store: Store, redis: Any
) -> None:
    song_of(store)
    result = store.redis.hget(keys.job("song"), "result")
    one = json.loads(result or "")["clips"][:1]
    store.redis.hset(keys.job("song"), "result", json.dumps({"clips": one}))
    put(app, "song", ("clip-1.mp3", "cdn.aimusicapi.ai/song-1.mp3", SOUND))
    client = desk.client(app, "enqueuer")
    assert client.post("/api/v1/jobs/song/song/archive").json == {"jobs": ["stems"]}
    store.redis.hdel(keys.job("stems"), "result")
    assert "The archive has all" in get_after(client.post("/jobs/song/song/archive"), client)
    assert 'action="/jobs/song/song/archive"' not in client.get("/jobs/song/song").text
    assert sent_to_the_archive(redis) == ["stems"]


def get_after(answer: Any, client: Any) -> str:
    assert answer.status_code == 302
    page: str = client.get(answer.location).text
    return page


def test_jobs_that_made_something_to_hear_can_be_played_from_the_list(
    app: Flask, store: Store
) -> None:
    now = time.time()
    store.settle("song", "sonic.create_music", at=now - 90)
    store.settle("wav", "sonic.wav", at=now - 90)
    store.fail(store.accept(store.submit("lost", "sonic.remaster", at=now - 90), at=now), at=now)
    page = desk.client(app, "reader").get("/jobs").text
    assert 'href="/jobs/song/song"' in page
    assert page.count('class="play"') == 1
    assert 'href="/jobs/song/song"' in desk.client(app, "reader").get("/jobs/song").text
