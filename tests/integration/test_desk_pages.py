"""The screens of the desk on a real Valkey: empty, full, hostile, and for each kind of visitor."""

import base64
import html
import io
import json
import re
import time
import uuid
import zlib
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from desk.pages.job import MOST_LISTED
from desk.parts import EXTENSION
from tests.integration import desk, populated
from tests.integration.populated import CLIP, Store
from tests.unit import recorded
from worker.batch import Ledger, matching
from worker.batch.manifest import Format, read
from worker.core import amounts, keys
from worker.core.batch import Row, row_id
from worker.core.contract import QUEUE
from worker.core.job.canvas import Step
from worker.core.job.models import JobId, Source
from worker.core.job.states import JobState, Turn
from worker.core.overview import Filter
from worker.core.providers import chosen
from worker.messages.watch import MOST_STEPS
from worker.store import connection
from worker.store.lists import MOST_LOOKED_AT, Lists
from worker.store.readings import Readings

SCREENS = ("/", "/jobs", "/batches", "/manifest", "/retry?state=failed",
           "/deliveries", "/gate", "/schedules", "/try",
           "/try/sonic.create_music", "/try/flows.master_pack", "/search?q=none",
           "/cancel?state=held", "/jobs?state=failed&operation=sonic.wav&batch=b")  # fmt: skip
OF_ALL_TENANTS = ("/gate", "/schedules")
HOSTILE = "\"><script>alert('1')</script><img src=x onerror=alert(1)>{{ 7*7 }}\x1b[2J"
MOST_BYTES = 60_000


@pytest.fixture(scope="module")
def app(valkey: Any) -> Flask:
    limits = {"FERMATA_SUBMITS_PER_SECOND": "2", "FERMATA_IN_FLIGHT": "50"}
    return desk.build(valkey.url, **limits)


@pytest.fixture
def operator(app: Flask, redis: Any) -> Any:
    return desk.client(app, "operator")


@pytest.fixture
def store(redis: Any) -> Store:
    return Store(redis)


def text(answer: Any) -> str:
    assert answer.status_code == 200, answer.text
    return re.sub(r"\s+", " ", answer.text)


def test_every_screen_is_there_before_the_first_job(operator: FlaskClient) -> None:
    for path in SCREENS:
        assert "<h1" in text(operator.get(path)), path
    assert "There are no jobs yet" in text(operator.get("/jobs"))
    assert "The gate is open: 0 of 50 at the provider, 2 a second." in text(operator.get("/"))


def test_every_screen_of_a_full_store_is_small(operator: FlaskClient, redis: Any) -> None:
    populated.everything(redis)
    more = ("/jobs/song-001", "/jobs/flow-1/flow", "/jobs/wide/flow", "/batches/album-7",
            "/batches/album-7/retry")  # fmt: skip
    for path in (*SCREENS, *more):
        answer = operator.get(path)
        assert answer.status_code == 200
        assert len(answer.data) <= MOST_BYTES, path


def test_now_counts_by_state_and_links_to_the_jobs(operator: FlaskClient, store: Store) -> None:
    now = time.time()
    store.accept(store.submit("job-1", at=now - 130), at=now - 129)
    page = text(operator.get("/"))
    assert 'href="/jobs?state=waiting"><span class="count">1</span>' in page
    assert re.search(r"oldest <time[^>]*>2 min</time>", page)
    assert "No worker has given a sign of life for 60 s, and 1 job waits." in page
    store.redis.zadd(keys.WORKERS, {"w@host": time.time()})
    assert "No worker" not in text(operator.get("/"))


def test_now_warns_when_webhooks_stop_coming(operator: FlaskClient, store: Store) -> None:
    now = time.time()
    for number in range(10):
        source = Source.WEBHOOK if number < 5 else Source.POLL
        job = store.submit(f"job-{number}", "sonic.remaster", at=now - 90)
        store.accept(job, at=now - 89)
        assert "path to the receiver" not in text(operator.get("/"))
        store.end(job, at=now - 30, source=source)
    page = text(operator.get("/"))
    assert "settled by a webhook, only 50 % were: look at the path to the receiver." in page
    assert "of the jobs that take a webhook, <strong>50 %</strong> by webhook" in page
    assert re.search(r"half within about \d+ s.*95 % within about \d+ s", page)
    assert "Credits spent in the last hour" in page


def test_jobs_are_filtered_by_the_url_and_paged_by_a_cursor(
    operator: FlaskClient, store: Store
) -> None:
    now = time.time()
    for number in range(30):
        store.settle(f"job-{number:02}", at=now - 1000 + number, tenant="acme")
    store.fail(store.accept(store.submit("broken", at=now - 50), at=now - 49), at=now - 40)
    first = text(operator.get("/jobs?state=succeeded"))
    assert "30 jobs, the newest first" in first
    found = re.search(r'rel="next" href="([^"]+)"', first)
    assert found
    second = text(operator.get(found[1].replace("&amp;", "&")))
    shown = re.findall(r'id="j-(job-\d+)"', first + second)
    assert shown == [f"job-{number:02}" for number in reversed(range(30))]
    assert 'rel="next"' not in second
    failed = text(operator.get("/jobs?error=TaskFailed"))
    assert re.findall(r'id="j-([^"]+)"', failed) == ["broken"]
    later = time.strftime("%Y-%m-%dT%H:%M", time.gmtime(now + 120))
    assert "No jobs match" in text(operator.get(f"/jobs?since={later}"))


@pytest.mark.parametrize(
    "query",
    [
        "state=none",
        "since=yesterday",
        "cursor=x",
        "until=9999999",
        "since=0001-01-01T00:00%2B23:00",
        "until=9999-12-31T23:59-23:00",
    ],
)
def test_a_filter_that_cannot_be_read_is_explained(operator: FlaskClient, query: str) -> None:
    for path in ("/jobs", "/cancel", "/retry"):
        answer = operator.get(f"{path}?operation=sonic.wav&{query}")
        if path == "/jobs" or not query.startswith("cursor"):  # these two have no pages
            assert answer.status_code == 400
            assert "Not understood" in answer.text


def test_search_finds_a_job_by_any_of_its_ids(operator: FlaskClient, store: Store) -> None:
    now = time.time()
    store.accept(store.submit("job-with-a-name", at=now, clip_id="clip-7"), at=now)
    assert operator.get("/search?q=job-with-a-name").location == "/jobs/job-with-a-name"
    for asked in ("task-job-with-a-name", "clip-7", "job-with"):
        assert "j-job-with-a-name" in text(operator.get("/search", query_string={"q": asked}))
    missing = text(operator.get("/search?q=nothing"))
    assert "Nothing found" in missing
    assert "among the newest 2,000 jobs" in missing


def test_a_job_is_shown_whole_and_without_secrets(operator: FlaskClient, store: Store) -> None:
    now = time.time()
    asked = {"title": "Night train", "upload_url": "https://host/a.wav?X-Signature=hush"}
    job = store.submit("job-1", at=now - 60, parameters=asked, tenant="acme")
    store.accept(job, at=now - 59)
    page = text(operator.get("/jobs/job-1"))
    for told in ("Night train", populated.CLIP, "at the provider", "acme", "task-job-1"):
        assert told in page
    assert "hush" not in page
    assert "https://host/a.wav?…" in page
    assert 'action="/jobs/job-1/cancel"' in page
    assert 'action="/jobs/job-1/poll"' in page
    store.end(job, at=now)
    page = text(operator.get("/jobs/job-1"))
    assert '<audio controls preload="none" src="https://cdn.aimusicapi.ai/job-1-1.mp3' in page
    assert "/cancel" not in page


def test_a_hostile_result_stays_text(operator: FlaskClient, store: Store) -> None:
    clip = {
        "clip_id": HOSTILE,
        "title": HOSTILE,
        "state": HOSTILE,
        "audio_url": "javascript:alert(1)",
        "image_url": "data:text/html,<script>",
        "video_url": f"https://host/{HOSTILE}",
        "duration_seconds": HOSTILE,
    }
    now = time.time()
    job = store.accept(store.submit("job-1", at=now - 9, parameters={HOSTILE: HOSTILE}), at=now - 8)
    result = {"clips": [clip, HOSTILE, None], "data": {HOSTILE: [HOSTILE]}, "partial": True}
    store.end(job, at=now - 1, result=result)
    broken = store.accept(store.submit("job-2", at=now - 9, batch=HOSTILE), at=now - 8)
    store.fail(broken, at=now - 1, message=HOSTILE)
    entry = store.quarantined("lost", HOSTILE.encode() + b"\xff\x00", at=now, why=HOSTILE)
    store.batch("b<i>", 3, at=now - 60)
    for path in ("/jobs/job-1", "/jobs/job-2", f"/deliveries/{entry}", "/deliveries", "/jobs",
                 "/batches", "/batches/b%3Ci%3E", "/jobs/job-1/flow"):  # fmt: skip
        page = text(operator.get(path))
        assert "<script>" not in page, path
        assert "<img src=x" not in page, path
        assert "<i>" not in page, path
        assert "javascript:" not in page, path
        assert "{{" not in page or "{{ 7*7 }}" in page, path
    assert "&lt;script&gt;" in text(operator.get("/jobs/job-1"))
    for path in ("/search", "/jobs"):
        shown = operator.get(path, query_string={"q": HOSTILE, "batch": HOSTILE, "error": HOSTILE})
        assert "<script>" not in text(shown)


def test_half_a_surrogate_pair_is_shown_and_not_stumbled_over(
    operator: FlaskClient, store: Store
) -> None:
    """JSON may hold one, and UTF-8 cannot."""
    now, half = time.time(), "night \ud83d train"
    store.batch("songs", 2, at=now - 60)
    clip = {"clip_id": "c", "state": "succeeded", "title": half, "audio_url": f"https://h/{half}"}
    job = store.accept(store.submit("job-1", at=now - 9), at=now - 8)
    store.end(job, at=now - 1, result={"clips": [clip], "data": {half: half}})
    store.fail(store.accept(store.submit("job-2", at=now - 9), at=now - 8), at=now, message=half)
    for path in ("/jobs/job-1", "/jobs/job-1/song", "/jobs/job-2"):
        assert "night ? train" in text(operator.get(path)), path


def test_what_came_late_is_shown(operator: FlaskClient, store: Store) -> None:
    now = time.time()
    job = store.accept(store.submit("job-1", "sonic.remaster", at=now - 99), at=now - 98)
    store.fail(job, at=now - 50)
    song = {"clip_id": "c-late", "state": "succeeded", "audio_url": "https://host/late.mp3"}
    body = json.dumps({"code": 200, "data": [song], "task_id": "t"})
    store.redis.hset(keys.job(job), "late", json.dumps({"at": now, "body": body, "final": True}))
    page = text(operator.get("/jobs/job-1"))
    assert "Came late" in page
    assert "https://host/late.mp3" in page


def test_a_flow_is_drawn_and_each_job_of_it_is_a_link(operator: FlaskClient, store: Store) -> None:
    now = time.time()
    steps = [Step(JobId("wav"), "sonic.wav", JobId("top")),
             Step(JobId("midi"), "sonic.midi", JobId("wav"))]  # fmt: skip
    store.flow("top", steps, at=now - 200)
    store.accept(store.submit("wav", at=now - 100, after="top", first="top"), at=now - 99)
    page = text(operator.get("/jobs/wav/flow"))
    assert '<a href="/jobs/top"><g class="node s-succeeded"' in page
    assert "s-waiting here" in page
    assert "to-come" in page
    assert "Dashed: still to come." in page
    store.settle("alone", at=now - 90)
    assert "Dashed" not in text(operator.get("/jobs/alone/flow"))
    assert 'href="/jobs/midi"' not in page
    assert "3 jobs: see the drawing" in text(operator.get("/jobs/wav"))


def test_an_archive_at_the_end_of_a_flow_is_not_said_to_come_for_ever(
    operator: FlaskClient, store: Store
) -> None:
    steps = [Step(JobId("wav"), "sonic.wav", JobId("top")),
             Step(JobId("keep"), "archive.store", JobId("wav"))]  # fmt: skip
    store.flow("top", steps, at=time.time())
    store.settle("wav", at=time.time(), after="top", first="top")
    page = text(operator.get("/jobs/wav/flow"))
    assert "2 jobs." in page
    assert "still to come" not in page
    assert "s-no-record" in page
    assert "to-come" not in page  # and it is not dashed
    assert "as <code>archive.store</code>, leaves no record" in page
    assert "2 jobs: see the drawing" in text(operator.get("/jobs/wav"))


def test_a_flow_of_hundreds_lists_first_what_has_not_succeeded(
    operator: FlaskClient, store: Store
) -> None:
    now, jobs = time.time(), [str(uuid.uuid4()) for _ in range(MOST_STEPS - 1)]
    store.flow("top", [Step(JobId(job), "sonic.wav", JobId("top")) for job in jobs], at=now)
    for job in jobs[:-1]:
        store.settle(job, at=now, after="top", first="top")
    store.fail(store.submit(jobs[-1], at=now, after="top", first="top"), at=now)
    answer = operator.get("/jobs/top/flow")
    assert f"As a list, {MOST_LISTED} of {MOST_STEPS}: first what" in text(answer)
    assert len(answer.data) < 60_000
    assert f'href="/jobs/{jobs[-1]}"' in text(answer)


@pytest.mark.parametrize("screen", ["", "/flow", "/song"])
def test_of_a_wide_flow_only_what_is_shown_is_read(
    operator: FlaskClient, store: Store, screen: str
) -> None:
    now = time.time()
    store.flow("top", [Step(JobId(f"w-{n}"), "sonic.wav", JobId("top")) for n in range(30)], at=now)
    for number in range(30):
        store.settle(f"w-{number}", at=now, after="top", first="top")
    store.redis.config_resetstat()
    operator.get(f"/jobs/w-7{screen}")
    calls = {n: stat["calls"] for n, stat in store.redis.info("commandstats").items()}
    assert calls["cmdstat_hgetall"] == 1  # the job in question, and none of those around it


def test_a_list_says_how_far_it_has_looked_and_looks_further(
    operator: FlaskClient, store: Store
) -> None:
    now = time.time()
    store.settle("old", at=now - 900, batch="spring")
    gone = {f"gone-{number}": now - number / 10 for number in range(MOST_LOOKED_AT)}
    store.redis.zadd(keys.JOBS, gone)
    page = text(operator.get("/jobs?batch=spring"))
    assert f"None of the {MOST_LOOKED_AT:,} jobs that were looked at matches." in page
    further = re.search(r'href="([^"]+)">Look further</a>', page)
    assert further
    page = text(operator.get(html.unescape(further[1])))
    assert 'href="/jobs/old"' in page
    assert "Look further" not in page
    store.settle("new", at=now + 900, batch="spring")
    page = text(operator.get("/jobs?batch=spring"))
    assert f"Of {MOST_LOOKED_AT:,} jobs that were looked at, 1 matched." in page


def test_all_that_match_are_cancelled_and_nothing_else(
    operator: FlaskClient, store: Store, redis: Any
) -> None:
    now = time.time()
    for number in range(60):
        job = store.submit(f"job-{number}", at=now - 60, tenant="acme" if number % 2 else "default")
        store.accept(job, at=now - 59)
    store.settle("done", at=now - 100, tenant="acme")
    page = text(operator.get("/cancel?tenant=acme"))
    assert "Cancel 30 jobs?" in page
    assert re.search(r"<dt>until</dt><dd>[0-9-]{10} [0-9:]{8} UTC</dd>", page)
    action = re.search(r'action="(/cancel\?[^"]+)"', page)
    assert action
    # Recorded after the number was shown: it is not among those that were confirmed.
    store.accept(store.submit("later", at=time.time() + 5, tenant="acme"), at=time.time() + 6)
    answer = operator.post(action[1].replace("&amp;", "&"))
    assert answer.status_code == 302
    page = text(operator.get(answer.location))
    assert "Ending now: 30 jobs." in page
    assert re.search(r'href="/jobs\?[^"]*state=cancelled[^"]*">See those', page)
    lists = Lists(redis)
    ending = [row.job_id for row in lists.select(Filter(state=JobState.RESUMING))]
    assert len(ending) == 30
    assert "later" not in ending
    timeline = Readings(redis).read(JobId("job-1")).timeline
    assert "cancel" in str(timeline)


def goes_on(page: str) -> dict[str, str]:
    """Read the fields of the form for the next slice."""
    form = re.search(r'<form method="post" class="goes-on[^>]*>(.*?)</form>', page, re.DOTALL)
    assert form, page
    fields = re.findall(r'name="([^"]*)" value="([^"]*)"', form[1])
    return {html.unescape(name): html.unescape(value) for name, value in fields}


def test_what_takes_longer_than_a_request_may_goes_on_until_none_is_left(
    operator: FlaskClient, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(matching, "SLICE_SECONDS", 0)
    now = time.time()
    for number in range(3):
        store.accept(store.submit(f"job-{number}", at=now - 60), at=now - 59)
    path = "/cancel?state=waiting"
    page = text(operator.post(path))
    assert "2 jobs left" in page
    # Nothing is kept here: another desk goes on where this one was ended.
    page = text(operator.post(path, data=goes_on(page)))
    assert "Ending now: 2 jobs." in page
    assert "1 job left" in page
    done = operator.post(path, data=goes_on(page))
    assert "Ending now: 3 jobs." in text(operator.get(done.location))


def test_what_follows_a_retry_is_priced_too(operator: FlaskClient, store: Store) -> None:
    asked = {
        "operation": "sonic.remaster",
        "parameters": {"continue_clip_id": CLIP, "mv": "chirp-v5"},
        "then": ["sonic.stems_full", "sonic.wav+archive.store"],
    }
    made: Any = operator.post("/api/v1/jobs", json=asked).json
    store.fail(JobId(made["job_id"]), at=time.time())
    page = text(operator.get("/retry?operation=sonic.remaster"))
    price = {name: row.credits for name, row in chosen().operations.items()}
    assert f"Run 1 job again, for {amounts.count(price['sonic.remaster'], 'credit')}?" in page
    more = price["sonic.stems_full"] + price["sonic.wav"]
    assert f"What follows it costs {amounts.count(more, 'credit')} more, once it has" in page


def test_all_that_failed_is_priced_and_run_again(operator: FlaskClient, store: Store) -> None:
    now, wav = time.time(), chosen().operations["sonic.wav"].credits
    for number in range(5):
        kind = "SubmissionUnconfirmed" if number == 4 else "TaskFailed"
        job = store.accept(store.submit(f"job-{number}", at=now - 60), at=now - 59)
        store.end(job, at=now - 9, turn=Turn.FAIL, error={"type": kind, "message": "no"})
    store.redis.delete(keys.message(JobId("job-0")))
    assert 'href="/retry?state=failed"' in text(operator.get("/jobs?state=failed"))
    assert "/retry" not in text(operator.get("/jobs?state=waiting"))
    page = text(operator.get("/retry?operation=sonic.wav"))
    assert f"Run 3 jobs again, for {amounts.count(3 * wav, 'credit')}?" in page
    assert "Also 1 job, for" in page
    assert re.search(r"its message is not on record</td><td class=\"n\">1<", page)
    action = re.search(r'action="(/retry\?[^"]+)"', page)
    assert action
    path = html.unescape(action[1])
    assert "until=" in path
    page = text(operator.get(operator.post(path).location))
    assert "Running again: 3 jobs." in page
    assert "1 job not: the provider may have charged for it" in page
    page = text(operator.get(operator.post(path, data={"even_if_paid": "yes"}).location))
    assert "Running again: 1 job." in page
    rows = [row.job_id for row in Lists(store.redis).select(Filter(state=JobState.QUEUED))]
    assert len(rows) == 4


def test_what_a_cancelled_batch_refuses_is_not_priced(
    operator: FlaskClient, store: Store, redis: Any
) -> None:
    store.batch("album", 20, at=time.time() - 100)
    Ledger(redis, retain_seconds=9).cancel("album")
    page = text(operator.get("/retry?batch=album"))
    assert "Run 0 jobs again?" in page
    assert "its batch was cancelled: retry the batch" in page
    # The batch as a whole goes on.
    assert "Run 2 jobs again, for 2 credits?" in text(operator.get("/batches/album/retry"))


def test_what_is_priced_in_part_is_said_to_be(
    operator: FlaskClient, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        store.fail(store.accept(store.submit(f"job-{number}", at=1e9), at=1e9), at=1e9 + number)
    monkeypatch.setattr(matching, "MOST_PRICED", 1)
    page = text(operator.get("/retry?operation=sonic.wav"))
    assert "<h1>Run 1 job again, for 1 credit, and more?</h1>" in page
    assert "Besides these, 2 jobs may match." in page
    store.redis.delete(keys.message(JobId("job-2")))
    assert "<h1>Run all that match again?</h1>" in text(operator.get("/retry?operation=sonic.wav"))


MANIFEST = "operation,description\nlyrics.generate,the sea\nlyrics.generate,the wind\n"


def test_a_manifest_is_checked_mended_and_submitted_once(operator: FlaskClient) -> None:
    wrong = MANIFEST + "lyrics.write,x\nlyrics.generate,\n"
    refused = operator.post("/manifest", data={"text": wrong, "format": "csv", "id": "songs"})
    assert refused.status_code == 422
    page = re.sub(r"\s+", " ", refused.text)
    assert "2 mistakes; nothing was submitted." in page
    assert re.search(r'<td class="n">4</td><td class="break field-name">operation</td>', page)
    assert re.search(r'<td class="n">5</td><td class="break field-name">description</td>', page)
    assert "lyrics.generate,the sea" in page
    assert operator.get("/batches/songs").status_code == 404

    # A browser sends line ends as two characters.
    given = {"text": MANIFEST.replace("\n", "\r\n"), "format": "csv", "id": "songs"}
    page = text(operator.post("/manifest", data=given))
    assert "Submit 2 rows for 4 credits" in page
    assert operator.get("/batches/songs").status_code == 404
    form = fields_of(page, "/manifest/submit")
    for submitted in ("2 rows submitted.", "0 rows submitted; 2 were before."):
        done = operator.post("/manifest/submit", data=form)
        assert (done.status_code, done.location) == (303, "/batches/songs")
        assert submitted in text(operator.get(done.location))
    assert len(list(Lists(desk_redis(operator)).select(Filter()))) == 2
    assert "There is a batch of this name" in text(operator.post("/manifest", data=given))


def desk_redis(client: FlaskClient) -> Any:
    return connection.connect(client.application.extensions[EXTENSION].settings.redis_url)


def fields_of(page: str, action: str) -> dict[str, str]:
    """Read the hidden fields of a form."""
    form = re.search(rf'<form method="post" action="{action}".*?</form>', page, re.DOTALL)
    assert form, page
    found = re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)"', form[0])
    return {name: html.unescape(value) for name, value in found}


def test_the_bytes_of_a_file_are_submitted_as_they_were_checked(operator: FlaskClient) -> None:
    body = b'operation,description\r\nlyrics.generate,"two\r\nlines"\r\n'
    file = {"file": (io.BytesIO(body), "spring songs.csv"), "id": "spring"}
    page = text(operator.post("/manifest", data=file, content_type="multipart/form-data"))
    form = fields_of(page, "/manifest/submit")
    operator.post("/manifest/submit", data=form)
    [row] = operator.get("/api/v1/jobs?batch=spring").json["items"]  # type: ignore[index]
    rows = read([body], form=Format.CSV)
    assert [row["job_id"]] == [row_id("spring", each) for each in rows if isinstance(each, Row)]
    short = {"packed": form["packed"][:-8]}
    for torn in (
        short,
        {"packed": "é"},
        {"format": "xml"},
        {"id": "a b"},
    ):
        assert operator.post("/manifest/submit", data=form | torn).status_code == 400, torn
    assert operator.post("/manifest/submit").status_code == 400


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({}, "Choose a file, or paste"),
        ({"text": MANIFEST, "id": "songs"}, "Say which format"),
        ({"text": MANIFEST, "format": "csv"}, "Name the batch"),
        ({"text": MANIFEST, "format": "csv", "id": "a b"}, "Name the batch"),
        ({"text": "operation\n", "format": "csv", "id": "songs"}, "the manifest has no rows"),
    ],
)
def test_what_a_manifest_lacks_is_told(
    operator: FlaskClient, given: dict[str, str], told: str
) -> None:
    answer = operator.post("/manifest", data=given)
    assert (answer.status_code, told in answer.text) == (422, True), answer.text


def test_a_manifest_that_is_too_long_names_the_command(operator: FlaskClient) -> None:
    long = "operation,description\n" + "lyrics.generate,a song that has a long text\n" * 10_001
    assert len(long) > operator.application.config.get("MAX_FORM_MEMORY_SIZE", 500_000) * 0.8
    answer = operator.post("/manifest", data={"text": long * 2, "format": "csv", "id": "songs"})
    assert (answer.status_code, "fermata batch submit" in answer.text) == (413, True)


@pytest.mark.parametrize("path", ["/manifest/submit", "/manifest", "/api/v1/batches?id=songs"])
def test_a_manifest_of_a_million_lines_is_not_read(operator: FlaskClient, path: str) -> None:
    """A form of a few KB may hold 32 MB of line ends, which took half a GB and a minute."""
    body = b"\n" * 32_000_000
    packed = base64.b64encode(zlib.compress(body)).decode()
    given: dict[str, Any] = {"data": {"packed": packed, "format": "csv", "id": "songs"}}
    if path == "/manifest":
        head = b'--x\r\nContent-Disposition: form-data; name="file"; filename="songs.csv"\r\n\r\n'
        form = head + b"operation" + body + b"\r\n--x--\r\n"
        given = {"data": form, "content_type": "multipart/form-data; boundary=x"}
    elif path.startswith("/api"):
        given = {"data": body, "content_type": "text/csv"}
    answer = operator.post(path, **given)
    assert (answer.status_code, "fermata batch submit" in answer.text) == (413, True)


def test_a_cancelled_batch_goes_on_by_its_form_only_if_that_is_said(operator: FlaskClient) -> None:
    given = {"text": MANIFEST, "format": "csv", "id": "songs"}
    form = fields_of(text(operator.post("/manifest", data=given)), "/manifest/submit")
    operator.post("/manifest/submit", data=form)
    operator.post("/batches/songs/cancel")
    page = text(operator.post("/manifest", data=given))
    assert "It was cancelled: go on with it" in page
    assert operator.post("/manifest/submit", data=form).status_code == 409
    assert operator.post("/manifest/submit", data=form | {"again": "yes"}).status_code == 303


def test_a_tenants_manifest_is_its_own(app: Flask, redis: Any) -> None:
    acme = desk.client(app, "acme")
    desk.client(app, "operator").post(
        "/api/v1/batches?id=acme:songs",
        data="operation,tenant\naccount.credits,globex\n",
        content_type="text/csv",
    )
    given = {"text": MANIFEST, "format": "csv", "id": "songs"}
    page = text(acme.post("/manifest", data=given))
    # The batch of that name is another one's: there is none for this visitor.
    assert "There is a batch of this name" not in page
    given["id"] = "spring"
    form = fields_of(text(acme.post("/manifest", data=given)), "/manifest/submit")
    done = acme.post("/manifest/submit", data=form)
    assert done.location == "/batches/acme:spring"
    assert {row.tenant for row in Lists(redis).select(Filter(batch="acme:spring"))} == {"acme"}
    other = given | {"text": "operation,tenant\naccount.credits,globex\n"}
    assert "your token is for acme alone" in acme.post("/manifest", data=other).text


def test_a_batch_links_to_what_failed_and_runs_it_again(
    operator: FlaskClient, store: Store
) -> None:
    store.batch("album", 20, at=time.time() - 100)
    page = text(operator.get("/batches/album"))
    assert 'href="/jobs?batch=album&amp;error=TaskFailed"' in page
    assert 'href="/api/v1/batches/album/report"' in page
    assert operator.get("/api/v1/batches/album/report", buffered=True).text.startswith("line,")
    assert len(re.findall(r'id="j-', operator.get("/jobs?batch=album&error=TaskFailed").text)) == 2
    assert "Run 2 jobs again" in text(operator.get("/batches/album/retry"))
    page = text(operator.get(operator.post("/batches/album/retry").location))
    assert "Running again: 2 jobs." in page
    assert "TaskFailed" not in page
    assert "Running again: 0 jobs." in text(
        operator.get(operator.post("/batches/album/retry").location)
    )
    assert "No job that failed is left" in text(operator.get("/batches/album/retry"))


def test_schedules_show_their_next_and_last_runs_and_run_now(
    valkey: Any, redis: Any, tmp_path: Path
) -> None:
    (tmp_path / "timetable.toml").write_text(
        '[[schedule]]\nname = "nightly"\ncron = "30 2 * * *"\nmanifest = "songs.csv"\n'
    )
    app = desk.build(valkey.url, FERMATA_TIMETABLE=str(tmp_path / "timetable.toml"))
    operator = desk.client(app, "operator")
    page = text(operator.get("/schedules"))
    assert len(re.findall(r"02:30:00 UTC</time>", page)) == 3
    assert "It has not run yet." in page
    page = text(operator.get(operator.post("/schedules/nightly/run").location))
    assert "is left to a worker" in page
    assert re.search(r"nightly-\d{8}T\d{4}Z</a></td><td[^>]*>submitting<", page)
    assert "Run nightly now" not in text(desk.client(app, "reader").get("/schedules"))
    assert operator.post("/schedules/none/run").status_code == 404


def test_an_empty_filter_cancels_nothing(operator: FlaskClient, store: Store) -> None:
    store.submit("job-1", at=time.time())
    for answer in (
        operator.get("/cancel"),
        operator.post("/cancel"),
        operator.post("/cancel?until=2036-01-01"),
        operator.post("/cancel?since=2016-01-01"),
        operator.get("/retry"),
        operator.post("/retry?until=2036-01-01"),
    ):
        assert answer.status_code == 400
        assert "An empty filter" in answer.text
    assert "Cancel all" not in text(operator.get("/jobs?since=2016-01-01"))
    assert "Cancel all" in text(operator.get("/jobs?since=2016-01-01&state=submitting"))


def test_a_job_is_cancelled_with_the_name_of_the_visitor(
    operator: FlaskClient, store: Store
) -> None:
    store.accept(store.submit("job-1", at=time.time()), at=time.time())
    assert operator.post("/jobs/job-1/cancel").location == "/jobs/job-1"
    page = text(operator.get("/jobs/job-1"))
    assert "The job ends now." in page
    assert "resuming" in page
    operator.post("/jobs/job-1/cancel")
    assert "Too late" in text(operator.get("/jobs/job-1"))


def test_a_poll_that_ends_nothing_is_told_with_its_time(
    operator: FlaskClient, store: Store
) -> None:
    job = store.accept(store.submit("job-1", at=time.time()), at=time.time())
    assert "Last poll" not in text(operator.get("/jobs/job-1"))
    store.redis.hdel(keys.job(job), "provider_task_id")  # so that the provider is not asked
    page = text(operator.get(operator.post("/jobs/job-1/poll").location))
    assert "The job waits on; last poll: the provider task is unknown." in page
    assert re.search(r"Last poll</dt><dd><time[^>]*>[^<]*</time>: the provider task is", page)


def test_the_gate_is_paused_and_resumed(operator: FlaskClient, store: Store) -> None:
    store.hold("job-1", "sonic.wav", at=time.time(), tenant="acme")
    page = text(operator.get("/gate"))
    assert ", 1 waiting" in page
    assert 'href="/jobs?state=held&amp;tenant=acme"' in page
    assert "<option>sonic.wav</option>" in page
    assert "<option>riffusion." not in page  # the provider has retired it
    operator.post("/gate/pause")
    assert re.search(r"Paused \d+ s ago by operator \(desk\): ", text(operator.get("/gate")))
    operator.post("/gate/resume")
    assert "The gate is open:" in text(operator.get("/gate"))


def test_a_tenant_is_paused_and_resumed_on_the_page(operator: FlaskClient, store: Store) -> None:
    operator.post("/gate/pause", data={"tenant": "acme"})
    store.hold("job-1", "sonic.wav", at=time.time(), tenant="acme")
    page = text(operator.get("/gate"))
    assert re.search(r"The gate is open; tenant acme paused \d+ s ago by operator \(desk\): ", page)
    assert 'href="/jobs?state=held&amp;tenant=acme">acme</a></td><td class="n">1</td>' in page
    assert 'aria-label="Resume tenant acme"' in page
    assert "Paused: tenant acme, 1 job held." in text(operator.get("/"))
    for number in range(4):
        store.gate.pause("ada", now=time.time(), part=f"tenant:t-{number}")
    now_page = text(operator.get("/"))
    assert "Paused: 5 tenants and operations." in now_page
    assert "The gate is open; 5 tenants and operations paused: " in now_page
    operator.post("/gate/resume", data={"tenant": "acme"})
    page = text(operator.get("/gate"))
    assert 'aria-label="Resume tenant acme"' not in page
    assert "<td>resumed</td><td>tenant acme</td>" in page
    for part in ({"tenant": " "}, {"operation": "sonic.nothing"}):
        assert operator.post("/gate/pause", data=part).status_code == 400
    assert "by operator (desk): 0" not in text(operator.get("/gate"))


def test_now_counts_the_day_by_tenant(operator: FlaskClient, store: Store) -> None:
    at = time.time()
    for number in range(22):
        store.end(store.submit(f"job-{number}", at=at, tenant=f"t-{number:02}"), at=at - 0.2)
    store.fail(store.submit("broken", at=at, tenant="t-21"), at=at - 0.2)
    page = text(operator.get("/"))
    assert re.search(
        r'tenant=t-21">t-21</a></td><td class="n">1</td><td class="n"><a [^>]*>1<', page
    )
    assert "And 2 tenants with fewer jobs." in page


def test_the_latest_deliveries_are_listed(app: Flask, operator: FlaskClient, store: Store) -> None:
    at = time.time()
    assert "No webhook has come yet." in text(operator.get("/deliveries"))
    for number in range(60):
        job = store.submit(f"job-{number}", at=at - 9, tenant="acme" if number % 2 else "globex")
        store.records.note(job, now=at, what="song.streaming", why=f"webhook d-{number}",
                           receipt="progress")  # fmt: skip
    page = text(operator.get("/deliveries"))
    assert page.count("song.streaming") == 50
    assert '<code class="id">d-59</code>' in page
    older = re.search(r'href="(/deliveries\?before=[^"]+)"', page)
    assert older
    page = text(operator.get(older[1]))
    assert page.count("song.streaming") == 10
    assert "Quarantine" not in page
    assert operator.get("/deliveries?before=x").status_code == 400
    page = text(desk.client(app, "acme-reader").get("/deliveries"))
    assert page.count("song.streaming") == 30
    assert "d-58" not in page


@pytest.mark.filterwarnings("ignore:Call to deprecated setex")  # Celery's
def test_an_orphan_is_verified_and_adopted(operator: FlaskClient, store: Store) -> None:
    body = recorded.delivery("delivery_completed")
    kept = store.quarantined("orphan", body, at=time.time(), signed=True)
    forged = store.quarantined("orphan", b"{}", at=time.time())
    unreadable = store.quarantined("orphan", b"[", at=time.time(), signed=True)
    for entry, said in (
        (kept, "Its signature is right, and it can be read: song.completed, the end of a job."),
        (forged, "Its signature is wrong: X-Webhook-"),
        (unreadable, "Its signature is right, but it cannot be read: "),
    ):
        operator.post(f"/deliveries/{entry}/verify")
        assert said in text(operator.get(f"/deliveries/{entry}"))
    operator.post(f"/deliveries/{kept}/adopt", data={"operation": "sonic.wav"})
    assert "It cannot be adopted: sonic.wav takes no webhook" in text(
        operator.get(f"/deliveries/{kept}")
    )
    given = {"operation": "sonic.remaster", "tenant": "acme"}
    answer = operator.post(f"/deliveries/{kept}/adopt", data=given)
    assert answer.location == "/jobs/orphan"
    page = text(operator.get(answer.location))
    assert "Adopted: the job is succeeded." in page
    assert operator.get(f"/deliveries/{kept}").status_code == 404
    # It has a record now.
    assert "<h2>Adopt" not in text(operator.get(f"/deliveries/{unreadable}"))


def test_a_delivery_is_looked_at_replayed_and_dropped(operator: FlaskClient, store: Store) -> None:
    entry = store.quarantined("lost", b'{"a": 1}', at=time.time(), why="no job")
    assert f"/deliveries/{entry}" in text(operator.get("/deliveries"))
    assert "&#34;a&#34;: 1" in text(operator.get(f"/deliveries/{entry}"))
    operator.post(f"/deliveries/{entry}/replay")
    assert "It still cannot be used" in text(operator.get(f"/deliveries/{entry}"))
    operator.post(f"/deliveries/{entry}/drop")
    assert "The quarantine is empty" in text(operator.get("/deliveries"))
    assert operator.get(f"/deliveries/{entry}").status_code == 404
    assert operator.get("/deliveries/x").status_code == 404


def test_a_batch_shows_how_far_it_is_and_is_cancelled(operator: FlaskClient, store: Store) -> None:
    store.batch("album", 20, at=time.time() - 100)
    page = text(operator.get("/batches/album"))
    assert "TaskFailed" in page
    assert "20 on record" in page
    assert "submitted" in page
    answer = operator.post("/batches/album/cancel")
    assert "Ending now:" in text(operator.get(answer.location))
    assert operator.get("/batches/none").status_code == 404


def test_the_form_of_an_operation_shows_code_and_mistakes_and_enqueues(
    operator: FlaskClient, redis: Any
) -> None:
    path = "/try/sonic.create_music"
    assert 'name="custom_mode"' in text(operator.get(path))
    given = {"custom_mode": "true", "prompt": "a 'song'", "style_weight": "0.5", "key": "k"}
    shown = text(operator.post(path, data=given | {"do": "show"}))
    assert "fermata.enqueue(" in shown
    assert '<th class="n">Credits</th>' in text(operator.get("/try"))
    assert "`" not in text(operator.get("/try"))
    assert "fermata submit sonic.create_music" in shown
    assert "/api/v1/jobs" in shown
    assert not list(Lists(redis).select(Filter()))
    wrong = operator.post(path, data={"custom_mode": "perhaps", "style_weight": "9", "tenant": "<"})
    assert wrong.status_code == 422
    for told in ("This is not a flag.", "A tenant must be 1 to 64 letters", 'aria-invalid="true"'):
        assert told in wrong.text
    assert operator.get("/try/sonic.nothing").status_code == 404
    first = operator.post(path, data=given | {"do": "enqueue"})
    again = operator.post(path, data=given | {"do": "enqueue"})
    assert first.status_code == 303
    assert again.location == first.location
    assert "queued" in text(operator.get(first.location))


def test_a_form_takes_follow_ups_and_the_archive_behind_them(
    operator: FlaskClient, redis: Any
) -> None:
    path, then = "/try/sonic.create_music", "archive.store, sonic.wav+archive.store"
    given = {"custom_mode": "true", "prompt": "a song", "then": then}
    shown = text(operator.post(path, data=given | {"do": "show"}))
    assert "--then archive.store" in shown
    assert "--then sonic.wav+archive.store" in shown
    assert '"then": ["archive.store", "sonic.wav+archive.store"]' in html.unescape(shown)
    price = {name: row.credits for name, row in chosen().operations.items()}
    both = price["sonic.create_music"] + price["sonic.wav"]
    assert f"Enqueue, {amounts.count(both, 'credit')}<" in shown
    wrong = operator.post(path, data=given | {"then": "archive.store+sonic.wav"})
    assert (wrong.status_code, "must be the last step" in wrong.text) == (422, True)
    assert not list(Lists(redis).select(Filter()))
    job = text(operator.get(operator.post(path, data=given | {"do": "enqueue"}).location))
    assert job.count("archive.store") == 2


@pytest.mark.parametrize("then", ["", "sonic.wav+archive.store"])
def test_the_python_that_is_shown_runs_as_it_is(
    operator: FlaskClient, monkeypatch: pytest.MonkeyPatch, valkey: Any, redis: Any, then: str
) -> None:
    given = {"custom_mode": "true", "prompt": "a 'song'", "tenant": "acme", "do": "show"}
    given["then"] = then
    shown = operator.post("/try/sonic.create_music", data=given).text
    found = re.search(r"<h2>Python</h2><pre>(.*?)</pre>", shown, re.DOTALL)
    assert found
    monkeypatch.setenv("BROKER_URL", valkey.url)
    scope: dict[str, Any] = {}
    exec(html.unescape(found[1]), scope)
    assert scope["job"].id
    sent = base64.b64decode(json.loads(redis.lindex(QUEUE, 0))["body"]).decode()
    assert ("fermata.archive.store" in sent) is bool(then)


def test_a_reader_has_no_button_and_changes_nothing(app: Flask, store: Store) -> None:
    now = time.time()
    store.accept(store.submit("job-1", at=now), at=now)
    store.fail(store.accept(store.submit("job-2", at=now - 60), at=now - 59), at=now)
    entry = store.quarantined("lost", b"{}", at=now)
    store.batch("album", 5, at=now - 60)
    reader = desk.client(app, "reader")
    for path in ("/jobs/job-1", "/jobs/job-2", "/jobs/job-2/flow", f"/deliveries/{entry}",
                 "/gate", "/batches/album", "/jobs?tenant=acme"):  # fmt: skip
        page = text(reader.get(path))
        assert "<button" not in re.sub("<button>(Filter|Log out)</button>", "", page), path
        assert "Cancel" not in page, path
    assert reader.get("/cancel?state=held").status_code == 403
    rules = [rule for rule in app.url_map.iter_rules() if "POST" in (rule.methods or ())]
    changing = [rule for rule in rules if rule.endpoint.startswith("pages.")]
    assert len(changing) >= 9
    for rule in changing:
        path = re.sub(r"<\w+>", "job-1", rule.rule)
        assert reader.post(path).status_code == 403, path
    page = text(reader.get("/try/sonic.wav"))
    assert "To enqueue needs the role enqueue" in page


def test_a_form_without_its_csrf_token_is_refused(app: Flask, store: Store) -> None:
    store.accept(store.submit("job-1", at=time.time()), at=time.time())
    person = app.test_client()
    desk.log_in(person, "operator")
    assert person.post("/jobs/job-1/cancel").status_code == 403
    token = re.search(r'name="csrf_token" value="([^"]+)"', person.get("/jobs/job-1").text)
    assert token
    sent = person.post("/jobs/job-1/cancel", data={"csrf_token": token[1]})
    assert sent.location == "/jobs/job-1"


def test_a_tenant_sees_and_touches_its_own_jobs_alone(app: Flask, store: Store, redis: Any) -> None:
    now = time.time()
    store.settle("job-1", at=now - 99)
    for tenant in ("acme", "other"):
        store.accept(store.submit(f"{tenant}-1", at=now - 60, tenant=tenant), at=now - 59)
    acme = desk.client(app, "acme")
    assert acme.get("/").location == "/jobs"
    assert '<td class="wide">default</td>' in text(desk.client(app, "operator").get("/jobs"))
    listed = text(acme.get("/jobs"))
    assert 'id="j-acme-1"' in listed
    assert "other-1" not in listed
    assert "other-1" not in text(acme.get("/jobs?tenant=other"))
    assert "j-other-1" not in text(acme.get("/search?q=task-other-1"))
    assert "Nothing found" in text(acme.get("/search?q=other-1"))
    for path in ("/jobs/other-1", "/jobs/other-1/flow"):
        assert acme.get(path).status_code == 404
    for action in ("cancel", "poll", "retry", "flow/retry"):
        assert acme.post(f"/jobs/other-1/{action}").status_code == 404
    assert "Cancel 1 job?" in text(acme.get("/cancel?state=waiting"))
    acme.post("/cancel?state=waiting&tenant=other")
    assert Readings(redis).state(JobId("other-1")) is JobState.WAITING
    assert Readings(redis).state(JobId("acme-1")) is JobState.RESUMING
    for path in OF_ALL_TENANTS:
        assert acme.get(path).status_code == 403, path
    assert acme.post("/gate/pause").status_code == 403


def test_what_cannot_be_retried_says_why(operator: FlaskClient, store: Store) -> None:
    now = time.time()
    job = store.accept(store.submit("job-1", at=now - 60), at=now - 59)
    store.end(job, at=now, turn=Turn.EXPIRE, error={"type": "DeadlineExceeded", "message": "late"})
    assert "Run again, 1 credit<" in text(operator.get("/jobs/job-1"))
    operator.post("/jobs/job-1/retry")
    assert "the provider may have charged for it" in text(operator.get("/jobs/job-1"))


def test_a_request_that_was_wrong_from_the_start_is_said_to_be(
    operator: FlaskClient, store: Store
) -> None:
    now = time.time()
    job = store.submit("job-1", at=now - 60)
    wrong = {"type": "InvalidRequest", "message": "no clip"}
    store.end(job, at=now, turn=Turn.FAIL, error=wrong)
    store.redis.delete(keys.message(job))
    store.redis.hdel(keys.job(job), "lane", "cost")
    page = text(operator.get("/retry?state=failed"))
    assert 'its request was wrong from the start</td><td class="n">1<' in page
    assert "message is not on record" not in page
    listed = text(operator.get("/jobs?state=failed"))
    assert '<td class="wide">–</td> <td class="wide n">–</td>' in listed


def test_who_may_not_retry_is_shown_no_button_for_it(app: Flask, store: Store) -> None:
    now = time.time()
    job = store.accept(store.submit("job-1", at=now - 60), at=now - 59)
    store.end(job, at=now, turn=Turn.EXPIRE, error={"type": "DeadlineExceeded", "message": "late"})
    for path in ("/jobs/job-1", "/jobs/job-1/flow"):
        shown = {
            name: 'class="again"' in text(desk.client(app, name).get(path))
            for name in ("operator", "enqueuer", "reader")
        }
        assert shown == {"operator": True, "enqueuer": False, "reader": False}, path


def test_a_flow_goes_on_with_the_job_in_the_place_of_the_one_that_failed(
    operator: FlaskClient, store: Store, redis: Any
) -> None:
    now = time.time()
    store.flow("top", [Step(JobId("wav"), "sonic.wav", JobId("top"))], at=now - 200)
    wav = store.submit("wav", at=now - 100, after="top", first="top")
    store.fail(store.accept(wav, at=now - 99), at=now - 50)
    assert "Retry what failed" in text(operator.get("/jobs/top/flow"))
    operator.post("/jobs/top/flow/retry")
    again = Readings(redis).read(wav).again
    page = text(operator.get("/jobs/top/flow"))
    assert "1 of 1 failed job run again." in page
    assert f'<a href="/jobs/{again}"><g class="node s-queued"' in page
    assert "Retry what failed" not in page
    for job in (wav, again):
        page = text(operator.get(f"/jobs/{job}/flow"))
        assert "2 jobs" in page
        assert "s-queued here" in page
        assert f'data-watch="top {again}"' in page
    for action in (f"/jobs/{wav}/flow/retry", f"/jobs/{again}/flow/retry"):
        assert "Nothing is left to retry" in text(operator.get(operator.post(action).location))
    answer = operator.post(f"/jobs/{wav}/retry")
    assert answer.location == f"/jobs/{again}"
    page = text(operator.get(answer.location))
    assert "It runs again already: this is the job." in page
    assert re.search(rf'Runs in place of</dt><dd><a href="/jobs/{wav}"', page)
    assert re.search(
        rf'Runs again as</dt><dd><a href="/jobs/{again}"', text(operator.get(f"/jobs/{wav}"))
    )
    assert "TaskFailed, retried" in text(operator.get("/jobs?state=failed"))
    assert len(list(Lists(redis).select(Filter(operation="sonic.wav")))) == 2


@pytest.mark.parametrize("path", ["/jobs/none", "/jobs/a%20b", "/jobs/none/flow"])
def test_an_unknown_job_is_a_page_that_says_so(operator: FlaskClient, path: str) -> None:
    answer = operator.get(path)
    assert answer.status_code == 404
    assert "There is no record of this job" in answer.text
