"""What the HTTP API answers: lists, requests and their mistakes, and what goes wrong."""

import base64
import csv
import io
import json
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from flask import Flask

from desk import live, places
from desk.parts import EXTENSION
from tests.integration import desk
from tests.integration.flow import signed
from tests.integration.populated import CLIP, Store
from tests.integration.test_desk_routes import things
from tests.unit import recorded
from worker.batch import matching
from worker.core import keys
from worker.core.contract import QUEUE, SLOW_QUEUE
from worker.core.job.canvas import Step
from worker.core.job.models import Event, JobId, Kind, Source
from worker.core.job.states import JobState, Turn
from worker.messages.retry import PERHAPS_PAID
from worker.store import connection
from worker.store.readings import Readings
from worker.store.records import Records

FREE = {"operation": "account.credits"}
PROBLEM = "application/problem+json"


@pytest.fixture
def app(valkey: Any, redis: Any, tmp_path: Path) -> Flask:
    return desk.build(valkey.url, FERMATA_ARCHIVE_URL=f"file://{tmp_path}")


@pytest.fixture
def api(app: Flask) -> Any:
    return desk.client(app, "operator")


def test_a_list_goes_on_by_its_cursor(api: Any) -> None:
    made = [api.post("/api/v1/jobs", json=FREE).json["job_id"] for _ in range(5)]
    seen, query = [], {"limit": "2"}
    while True:
        page = api.get("/api/v1/jobs", query_string=query).json
        seen += [row["job_id"] for row in page["items"]]
        if page["cursor"] is None:
            break
        query["cursor"] = page["cursor"]
    assert sorted(seen) == sorted(made)


def test_a_list_is_filtered(api: Any) -> None:
    api.post("/api/v1/jobs", json=FREE)
    api.post("/api/v1/jobs", json={**FREE, "tenant": "acme", "priority": "batch"})
    for query, count in (
        ({}, 2),
        ({"tenant": "acme"}, 1),
        ({"state": "held"}, 1),
        ({"operation": "sonic.wav"}, 0),
        ({"since": "32503680000"}, 0),
        ({"until": "32503680000", "error": "TaskFailed"}, 0),
    ):
        assert len(api.get("/api/v1/jobs", query_string=query).json["items"]) == count, query


def test_before_the_first_time_nothing_was_recorded(api: Any) -> None:
    api.post("/api/v1/jobs", json=FREE)
    for more in ("", "&state=held", "&operation=account.credits"):
        assert api.get(f"/api/v1/jobs?until=0{more}").json["items"] == [], more


@pytest.mark.parametrize(
    ("query", "field"),
    [("stat=failed", "stat"), ("limit=0", "limit"), ("cursor=x", "cursor"), ("state=x", "state")],
)
def test_a_wrong_query_is_a_problem_that_names_the_field(api: Any, query: str, field: str) -> None:
    answer = api.get(f"/api/v1/jobs?{query}")
    assert (answer.status_code, answer.content_type) == (422, PROBLEM)
    assert [*answer.json["errors"]] == [field]


def test_what_a_request_makes_is_archived_by_its_last_step(api: Any, redis: Any) -> None:
    asked = {
        "operation": "sonic.remaster",
        "parameters": {"continue_clip_id": CLIP, "mv": "chirp-v5"},
        "then": ["archive.store", "sonic.wav+archive.store"],
    }
    made = api.post("/api/v1/jobs", json=asked).json
    assert [each["operation"] for each in made["steps"]] == ["sonic.remaster", "sonic.wav"]
    steps = api.get(f"/api/v1/flows/{made['job_id']}").json["steps"]
    assert sorted(each["operation"] for each in steps) == [
        "archive.store", "archive.store", "sonic.remaster", "sonic.wav",
    ]  # fmt: skip
    _, _, embed = json.loads(base64.b64decode(json.loads(redis.lindex(QUEUE, 0))["body"]))
    tasks = embed["chain"][0]["kwargs"]["tasks"]
    for task in (branch["kwargs"]["tasks"][-1] for branch in tasks):
        assert (task["task"], task["options"]["queue"]) == ("fermata.archive.store", SLOW_QUEUE)


def test_a_flow_has_ended_when_its_jobs_have(api: Any, redis: Any) -> None:
    store = Store(redis)
    steps = [Step(JobId("wav"), "sonic.wav", JobId("song")),
             Step(JobId("keep"), "archive.store", JobId("wav"))]  # fmt: skip
    store.flow("song", steps, at=time.time() - 90)
    store.settle("wav", at=time.time() - 60, after="song", first="song")
    found = api.get("/api/v1/flows/song").json
    assert (found["ended"], found["succeeded"], len(found["steps"])) == (True, True, 3)


def test_a_flow_ends_with_a_link_that_has_no_id_of_its_own(api: Any, redis: Any) -> None:
    Store(redis).flow("song", [Step(JobId("~song/0"), "sonic.wav", JobId("song"))], at=time.time())
    found = api.get("/api/v1/flows/song").json
    assert (found["ended"], found["succeeded"], len(found["steps"])) == (True, True, 2)


def test_what_follows_another_tenants_job_is_not_seen_either(app: Flask, redis: Any) -> None:
    store, now = Store(redis), time.time()
    first = store.submit("song", "sonic.remaster", at=now, tenant="acme")
    steps = [["wav", "sonic.wav", "song", False], ["midi", "sonic.midi", "wav", False],
             ["bpm", "sonic.bpm", "midi", False], ["own", "sonic.wav", "song", False]]  # fmt: skip
    redis.hset(keys.job(first), "following", json.dumps({"steps": steps}))
    store.submit("wav", at=now, after="song", first="song", tenant="globex")
    for name, seen in (
        ("acme", ["song", "own"]),
        ("operator", ["song", "wav", "midi", "bpm", "own"]),
    ):
        client = desk.client(app, name)
        found = client.get("/api/v1/flows/song").json["steps"]
        assert sorted(each["job_id"] for each in found) == sorted(seen)
    acme = desk.client(app, "acme")
    assert "sonic.bpm" not in acme.get("/jobs/song/flow").text
    assert acme.post("/api/v1/flows/song/retry", json={}).status_code == 403


def test_a_job_of_an_operation_that_is_gone_has_not_ended_before_it_has(
    api: Any, redis: Any
) -> None:
    job = Store(redis).submit("song", at=time.time())
    redis.hset(keys.job(job), "operation", "sonic.gone")
    found = api.get("/api/v1/flows/song").json
    assert (found["ended"], found["succeeded"]) == (False, False)


def test_every_mistake_of_a_request_is_told_and_nothing_is_submitted(api: Any) -> None:
    asked = {
        "operation": "sonic.remaster",
        "parameters": {"mv": "v0", "stile": "calm", "tenant": "x"},
        "then": ["sonic.wav+sonic.mdi"],
        "priority": "now",
        "tenant": "a b",
    }
    answer = api.post("/api/v1/jobs", json=asked)
    assert (answer.status_code, answer.content_type) == (422, PROBLEM)
    assert sorted(answer.json["errors"]) == [
        "parameters.continue_clip_id",
        "parameters.mv",
        "parameters.stile",
        "parameters.tenant",
        "priority",
        "tenant",
        "then",
    ]
    assert "did you mean 'sonic.midi'?" in answer.json["errors"]["then"][0]
    for name, path in (("operation", "jobs"), ("name", "flows")):
        wrong = api.post(f"/api/v1/{path}", json={name: "sonic.remastr"}).json["errors"]
        assert "did you mean 'sonic.remaster'?" in wrong[name][0]
    assert api.get("/api/v1/jobs").json["items"] == []


@pytest.mark.parametrize(
    ("body", "status"), [("{", 400), ("[]", 422), ("", 422), ("[" * 100_000, 400)]
)
def test_a_body_that_is_no_request_is_a_problem(api: Any, body: str, status: int) -> None:
    answer = api.post("/api/v1/jobs", data=body, content_type="application/json")
    assert (answer.status_code, answer.content_type) == (status, PROBLEM)


def test_an_idempotency_key_stands_for_one_request(api: Any) -> None:
    key = {"Idempotency-Key": "order-1"}
    made = [api.post("/api/v1/jobs", json=FREE, headers=key).json["job_id"] for _ in range(2)]
    assert made[0] == made[1]
    other = {"operation": "lyrics.generate", "parameters": {"description": "sea"}}
    assert api.post("/api/v1/jobs", json=other, headers=key).status_code == 422
    assert len(api.get("/api/v1/jobs").json["items"]) == 1


def test_a_flow_is_seen_by_any_of_its_jobs(api: Any) -> None:
    asked = {"name": "flows.master_pack", "source": "c-1", "parameters": {"mv": "chirp-v5"}}
    asked["parameters"] = {"mv": "chirp-v5", "variation_category": "subtle"}
    made = api.post("/api/v1/flows", json=asked)
    assert made.status_code == 202, made.text
    assert len(made.json["steps"]) == 5
    seen = api.get(made.headers["Location"]).json
    assert [step["job_id"] for step in seen["steps"]] == [s["job_id"] for s in made.json["steps"]]
    assert {step["state"] for step in seen["steps"]} == {"queued", "not started"}
    assert not seen["ended"]


def test_a_job_is_cancelled_once(api: Any) -> None:
    made = api.post("/api/v1/jobs", json=FREE).json["job_id"]
    assert api.post(f"/api/v1/jobs/{made}/cancel").json == {"outcome": "ending"}
    again = api.post(f"/api/v1/jobs/{made}/cancel")
    assert (again.status_code, again.content_type) == (409, PROBLEM)


def test_all_jobs_of_a_filter_are_cancelled_and_no_others(api: Any) -> None:
    made = [
        api.post("/api/v1/jobs", json={**FREE, "tenant": tenant}).json["job_id"]
        for tenant in ("acme", "globex", "acme")
    ]
    for wide in ({}, {"since": 0}, {"until": 9e9}, {"since": 0, "until": 9e9}):
        assert api.post("/api/v1/jobs/cancel", json=wide).status_code == 422, wide
    assert api.post("/api/v1/jobs/cancel", json={"tennant": "acme"}).status_code == 422
    answer = api.post("/api/v1/jobs/cancel", json={"tenant": "acme"})
    assert answer.json == {"ending": 2, "too_late": 0, "left": 0, "cursor": None}
    who = [
        entry.get("why")
        for job_id in made
        for entry in api.get(f"/api/v1/jobs/{job_id}").json["timeline"]
        if entry["what"] == "cancellation"
    ]
    assert who == ["operator (desk)"] * 2


def test_all_jobs_are_cancelled_slice_by_slice_however_many_they_are(
    api: Any, redis: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(matching, "SLICE_SECONDS", 0.02)
    store = Store(redis)
    for number in range(450):
        if number % 2:
            store.accept(store.submit(f"job-{number}", at=1000 + number), at=2000 + number)
        else:
            # It stands in its queue until a sweep ends it, and is cancelled once all the same.
            store.enqueue(f"job-{number}", "sonic.wav", at=1000 + number)
    asked, answers = {"operation": "sonic.wav"}, list[Any]()
    while not answers or answers[-1]["cursor"]:
        on = {"cursor": answers[-1]["cursor"]} if answers else {}
        answers.append(api.post("/api/v1/jobs/cancel", json=asked | on).json)
        assert sum(each["ending"] for each in answers) + answers[-1]["left"] == 450
        assert answers[-1]["too_late"] == 0
    assert len(answers) > 1


def test_a_job_that_goes_back_while_others_are_cancelled_is_cancelled_too(
    api: Any, redis: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(matching, "SLICE_SECONDS", 0)
    store, now = Store(redis), time.time()
    for number in range(2):
        store.enqueue(f"job-{number}", "sonic.wav", at=now)
    postponed = store.submit("postponed", at=now)
    asked: dict[str, Any] = {"operation": "sonic.wav"}
    answer = api.post("/api/v1/jobs/cancel", json=asked).json
    assert (answer["ending"], answer["left"]) == (1, 2)
    assert store.records.turn(postponed, Turn.POSTPONE, now=time.time(), due_at=now, leg="leg-1")
    ending = 1
    while answer["cursor"]:
        answer = api.post("/api/v1/jobs/cancel", json=asked | {"cursor": answer["cursor"]}).json
        ending += answer["ending"]
    assert ending == 3
    assert Readings(redis).standing(postponed).cancelled_by == "operator (desk)"


@pytest.mark.parametrize(
    "cursor", ["x", "1/", "x/queued:s1~x", "nan/queued:s1~x", "1/queued:x", "1/failed:s1~x"]
)
def test_a_cursor_that_no_slice_has_given_is_a_problem(api: Any, cursor: str) -> None:
    post_manifest(api, MANIFEST, "id=songs")
    for path, asked in (("jobs", {"operation": "sonic.wav"}), ("batches/songs", {})):
        answer = api.post(f"/api/v1/{path}/cancel", json=asked | {"cursor": cursor})
        assert (answer.status_code, [*answer.json["errors"]]) == (422, ["cursor"]), path


def test_what_is_looked_at_to_count_is_bounded(
    api: Any, redis: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(matching, "SLICE_SECONDS", 0)
    monkeypatch.setattr(matching, "MOST_COUNTED", 3)
    store, now = Store(redis), time.time()
    wanted = store.enqueue("job-0", "sonic.wav", at=now - 60, batch="songs")
    for number in range(1, 9):
        store.enqueue(f"job-{number}", "sonic.wav", at=now)
    asked: dict[str, Any] = {"batch": "songs"}
    answers = [api.post("/api/v1/jobs/cancel", json=asked).json]
    while answers[-1]["cursor"]:
        asked["cursor"] = answers[-1]["cursor"]
        answers.append(api.post("/api/v1/jobs/cancel", json=asked).json)
    assert [each["left"] for each in answers[:2]] == [0, 0]
    assert sum(each["ending"] for each in answers) == 1
    assert Readings(redis).standing(wanted).cancelled_by


def test_all_that_failed_is_run_again_slice_by_slice_and_once(
    api: Any, redis: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(matching, "SLICE_SECONDS", 0)
    store, now = Store(redis), time.time()
    for number in range(4):
        kind = "SubmissionUnconfirmed" if number == 2 else "TaskFailed"
        job = store.accept(store.submit(f"job-{number}", at=now), at=now)
        store.end(job, at=now, turn=Turn.FAIL, error={"type": kind, "message": "no"})
    redis.delete(keys.message(JobId("job-1")))
    store.settle("job-done", at=now)
    for wide in ({}, {"until": 9e9}, {"even_if_paid": True}):
        assert api.post("/api/v1/jobs/retry", json=wide).status_code == 422, wide
    asked: dict[str, Any] = {"operation": "sonic.wav", "until": now + 1}
    done = run_again_all(api, asked, left=4)
    assert done == {"retried": 2, "its message is not on record": 1, PERHAPS_PAID: 1}
    asked |= {"even_if_paid": True}
    assert run_again_all(api, asked, left=2) == {"retried": 1, "its message is not on record": 1}
    assert run_again_all(api, asked, left=1) == {"its message is not on record": 1}
    assert len(api.get("/api/v1/jobs?state=queued").json["items"]) == 3
    wrong = api.post("/api/v1/jobs/retry", json=asked | {"cursor": "x"})
    assert (wrong.status_code, [*wrong.json["errors"]]) == (422, ["cursor"])


def run_again_all(api: Any, asked: dict[str, Any], *, left: int) -> Counter[str]:
    """Ask until none is left, one job at a time."""
    done, cursor = Counter[str](), None
    while True:
        answer = api.post("/api/v1/jobs/retry", json=asked | ({"cursor": cursor} if cursor else {}))
        done += Counter({"retried": answer.json["retried"]}) + Counter(answer.json["refused"])
        cursor = answer.json["cursor"]
        assert done.total() + answer.json["left"] == left
        if cursor is None:
            return done


def test_what_failed_of_a_batch_is_run_again(app: Flask, api: Any) -> None:
    acme = desk.client(app, "acme")
    post_manifest(acme, MANIFEST, "id=songs")
    assert acme.post("/api/v1/batches/acme:songs/cancel").json == {
        "cancelled": 2,
        "left": 0,
        "cursor": None,
    }
    fail(app, *(job["job_id"] for job in acme.get("/api/v1/jobs").json["items"]))
    job = acme.get("/api/v1/jobs?state=failed").json["items"][0]["job_id"]
    refused = acme.post(f"/api/v1/jobs/{job}/retry", json={})
    assert (refused.status_code, "its batch was cancelled" in refused.text) == (409, True)
    done = acme.post("/api/v1/batches/acme:songs/retry", json={})
    assert done.json == {"retried": 2, "refused": {}, "left": 0, "cursor": None}
    batch = acme.get("/api/v1/batches/acme:songs").json
    assert (batch["standing"], batch["live"], batch["errors"]) == ("submitted", 2, {})
    assert acme.post("/api/v1/batches/none/retry", json={}).status_code == 404


def fail(app: Flask, *job_ids: str) -> None:
    """End jobs as failures that cost nothing."""
    records = Records(connection.connect(app.extensions[EXTENSION].settings.redis_url))
    error = {"type": "TaskFailed", "message": "no", "details": {}}
    for job_id in map(JobId, job_ids):
        assert records.claim(job_id, Event(Source.SWEEP, error=error), now=time.time())
        records.turn(job_id, Turn.FAIL, now=time.time(), due_at=None, fields={"error": error})


SCHEDULE = """
[[schedule]]
name = "nightly"
cron = "30 2 * * *"
manifest = "songs.csv"
"""


def test_a_schedule_is_run_now_and_once_however_often_it_is_asked_for(
    valkey: Any, redis: Any, tmp_path: Path
) -> None:
    (tmp_path / "timetable.toml").write_text(SCHEDULE)
    app = desk.build(valkey.url, FERMATA_TIMETABLE=str(tmp_path / "timetable.toml"))
    api = desk.client(app, "operator")
    [before] = api.get("/api/v1/schedules").json["items"]
    assert (before["outcomes"], before["last_batch"]) == ([], None)
    assert [time.gmtime(at)[3:5] for at in before["next_at"]] == [(2, 30)] * 3
    run = api.post("/api/v1/schedules/nightly/run")
    batch_id = run.json["batch_id"]
    assert (run.status_code, run.headers["Location"]) == (202, f"/api/v1/batches/{batch_id}")
    # In the same minute it is the same run; in the next one, the one before is in the way.
    again = api.post("/api/v1/schedules/nightly/run")
    assert again.json.get("batch_id") == batch_id or again.status_code == 409
    [after] = api.get("/api/v1/schedules").json["items"]
    assert [run["batch_id"] for run in after["outcomes"]] == [batch_id]
    assert api.post("/api/v1/schedules/none/run").status_code == 404
    assert desk.client(app, "enqueuer").post("/api/v1/schedules/nightly/run").status_code == 403


def test_what_failed_is_retried_and_what_did_not_is_refused(app: Flask, api: Any) -> None:
    made = api.post("/api/v1/jobs", json=FREE).json["job_id"]
    refused = api.post(f"/api/v1/jobs/{made}/retry", json={})
    assert (refused.status_code, "it is queued" in refused.text) == (409, True)
    assert api.post(f"/api/v1/flows/{made}/retry", json={}).json == {"jobs": {}, "refused": {}}
    records = Records(connection.connect(app.extensions[EXTENSION].settings.redis_url))
    error = {"type": "TaskFailed", "message": "no", "details": {}}
    records.turn(made, Turn.FAIL, now=time.time(), due_at=None, fields={"error": error})
    for no_flag in (1, 0, "yes", None):
        wrong = api.post(f"/api/v1/jobs/{made}/retry", json={"even_if_paid": no_flag})
        assert (wrong.status_code, [*wrong.json["errors"]]) == (422, ["even_if_paid"])
    again = api.post(f"/api/v1/jobs/{made}/retry", json={"even_if_paid": True})
    assert again.status_code == 202, again.text
    assert api.get(f"/api/v1/jobs/{again.json['job_id']}").json["state"] == "queued"
    flow = api.post(f"/api/v1/flows/{made}/retry", json={})
    assert flow.json == {"jobs": {}, "refused": {}}


def test_the_gate_is_paused_and_resumed(api: Any) -> None:
    assert api.post("/api/v1/gate/pause").status_code == 204
    assert api.get("/api/v1/gate").json["paused_by"] == "operator (desk)"
    assert api.post("/api/v1/gate/resume").json == {"was_paused": True}
    assert api.post("/api/v1/gate/resume").json == {"was_paused": False}


def test_a_tenant_and_an_operation_are_paused_and_resumed(app: Flask, api: Any) -> None:
    tenant, operation = {"tenant": "acme"}, {"operation": "sonic.wav"}
    for part in (tenant, operation):
        assert api.post("/api/v1/gate/pause", json=part).status_code == 204
    gate = api.get("/api/v1/gate").json
    assert (gate["paused_by"], gate["closed_for"]) == (None, None)
    said = {"by": "operator (desk)", "held": 0}
    assert [{k: v for k, v in each.items() if k != "at"} for each in gate["pauses"]] == [
        operation | said, tenant | said,
    ]  # fmt: skip
    for name, seen in (("acme", [operation, tenant]), ("default-reader", [operation])):
        shown = desk.client(app, name).get("/api/v1/gate").json
        assert [{k: each[k] for k in each if k in {"tenant", "operation"}}
                for each in shown["pauses"]] == seen  # fmt: skip
        assert (shown["history"], shown["at_provider"]) == ([], [])
    assert api.post("/api/v1/gate/resume").json == {"was_paused": False}
    assert api.post("/api/v1/gate/resume", json=tenant).json == {"was_paused": True}
    assert [each["what"] for each in api.get("/api/v1/gate").json["history"]] == [
        "resumed", "paused", "paused",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "part",
    [{"tenant": "a:b"}, {"operation": "sonic.nothing"}, {"tenant": "a", "operation": "sonic.wav"},
     {"tennant": "acme"}, {"tenant": ""}],
)  # fmt: skip
def test_a_pause_of_what_there_cannot_be_is_refused(api: Any, part: Any) -> None:
    """A misspelt part must not pause everything, and must not pause nothing in silence."""
    assert api.post("/api/v1/gate/pause", json=part).status_code == 422
    gate = api.get("/api/v1/gate").json
    assert (gate["paused_by"], gate["pauses"]) == (None, [])


def test_what_is_at_the_provider_is_told_by_operation(api: Any, redis: Any) -> None:
    store, at = Store(redis), time.time()
    store.accept(store.submit("job-1", at=at - 90), at=at - 80)
    store.submit("job-2", at=at - 5)
    store.enqueue("job-3", "sonic.midi", at=at)
    [told] = api.get("/api/v1/gate").json["at_provider"]
    assert (told["operation"], told["jobs"]) == ("sonic.wav", 2)
    assert told["oldest"] == pytest.approx(at - 80, abs=0.01)


def test_the_day_is_told_by_tenant(api: Any, redis: Any) -> None:
    store, at = Store(redis), time.time()
    store.end(store.submit("job-1", at=at, tenant="acme"), at=at - 0.2)
    store.fail(store.submit("job-2", at=at), at=at - 0.2)
    today = {each["tenant"]: each for each in api.get("/api/v1/overview").json["today"]}
    assert today["acme"]["succeeded"] == 1
    assert today["acme"]["credits"] > 0
    assert (today["default"]["failed"], today["default"]["credits"]) == (1, 0)


def test_only_a_waiting_job_is_polled(app: Flask, valkey: Any, api: Any) -> None:
    made = api.post("/api/v1/jobs", json=FREE).json["job_id"]
    refused = api.post(f"/api/v1/jobs/{made}/poll")
    assert (refused.status_code, "only a waiting job" in refused.text) == (409, True)
    without = desk.client(desk.build(valkey.url, FERMATA_API_KEY=""), "operator")
    assert "FERMATA_API_KEY" in without.post(f"/api/v1/jobs/{made}/poll").text


def test_a_batch_is_looked_at_reported_and_cancelled(app: Flask, api: Any) -> None:
    acme, globex = things(app, "acme"), things(app, "globex")
    first = api.get("/api/v1/batches?limit=1").json
    second = api.get(f"/api/v1/batches?limit=1&cursor={first['cursor']}").json
    listed = {batch["batch_id"] for page in (first, second) for batch in page["items"]}
    assert listed == {acme.batch_id, globex.batch_id}
    assert api.get("/api/v1/batches?cursor=none").json == {"items": [], "cursor": None}
    found = api.get(f"/api/v1/batches/{acme.batch_id}").json
    assert (found["tenants"], found["rows"], found["live"]) == (["acme"], 1, 1)
    report = api.get(f"/api/v1/batches/{acme.batch_id}/report", buffered=True)
    assert report.content_type == "text/csv; charset=utf-8"
    [row] = csv.DictReader(io.StringIO(report.text))
    assert (row["name"], row["state"]) == ("account.credits", "held")
    assert api.post(f"/api/v1/batches/{acme.batch_id}/cancel").json == {
        "cancelled": 1,
        "left": 0,
        "cursor": None,
    }


def post_manifest(client: Any, text: str, query: str, form: str = "text/csv") -> Any:
    return client.post(f"/api/v1/batches?{query}", data=text, content_type=form)


MANIFEST = "operation,description\nlyrics.generate,the sea\nlyrics.generate,the wind\n"


def test_a_manifest_is_priced_then_submitted_once(api: Any) -> None:
    priced = post_manifest(api, MANIFEST, "id=songs&dry_run=true").json
    assert (priced["rows"], priced["credits"], priced["submitted"]) == (2, 4, 0)
    assert api.get("/api/v1/batches/songs").status_code == 404
    for submitted, present in ((2, 0), (0, 2)):
        done = post_manifest(api, MANIFEST, "id=songs")
        assert (done.status_code, done.headers["Location"]) == (202, "/api/v1/batches/songs")
        assert (done.json["submitted"], done.json["present"]) == (submitted, present)
    assert api.get("/api/v1/batches/songs").json["live"] == 2


def test_a_cancelled_batch_goes_on_only_if_somebody_asks_for_it(api: Any) -> None:
    post_manifest(api, MANIFEST, "id=songs")
    assert api.post("/api/v1/batches/songs/cancel").json == {
        "cancelled": 2,
        "left": 0,
        "cursor": None,
    }
    longer = MANIFEST + "lyrics.generate,the rain\n"
    refused = post_manifest(api, longer, "id=songs")
    assert (refused.status_code, "was cancelled" in refused.json["detail"]) == (409, True)
    assert len(api.get("/api/v1/jobs").json["items"]) == 2
    assert api.get("/api/v1/batches/songs").json["standing"] == "cancelled"
    again = post_manifest(api, longer, "id=songs&again=true")
    assert (again.status_code, again.json["submitted"], again.json["present"]) == (202, 1, 2)
    assert api.get("/api/v1/batches/songs").json["standing"] == "submitted"


class Interrupted(io.BytesIO):
    """A body during which somebody cancels the batch."""

    def __init__(self, body: bytes, cancel: Callable[[], None]) -> None:
        super().__init__(body)
        self._cancel = cancel

    def readinto(self, *given: Any) -> Any:
        self._cancel()
        return super().readinto(*given)


def test_a_batch_that_is_cancelled_while_its_manifest_comes_stays_so(app: Flask, api: Any) -> None:
    ledger = app.extensions[EXTENSION].ledger
    ledger.open("songs", now=time.time(), rows=0, expected_jobs=0, expected_credits=0)
    body = Interrupted(MANIFEST.encode(), lambda: ledger.cancel("songs"))
    sent = {"content_type": "text/csv", "content_length": len(MANIFEST), "input_stream": body}
    assert api.post("/api/v1/batches?id=songs&again=true", **sent).status_code == 409
    assert api.get("/api/v1/jobs").json["items"] == []


def test_every_mistake_of_a_manifest_is_told_by_its_line(api: Any) -> None:
    wrong = post_manifest(api, MANIFEST + "lyrics.write,x\nlyrics.generate,\n", "id=songs")
    assert (wrong.status_code, wrong.content_type) == (422, PROBLEM)
    assert [(row["line"], row["column"]) for row in wrong.json["rows"]] == [
        (4, "operation"),
        (5, "description"),
    ]
    assert api.get("/api/v1/jobs").json["items"] == []
    assert post_manifest(api, MANIFEST, "id=songs", "text/plain").status_code == 415
    assert post_manifest(api, MANIFEST, "id=a%20b").status_code == 422
    many = "operation\n" + "account.credits\n" * 10_001
    assert post_manifest(api, many, "id=songs").status_code == 413


def test_a_tenants_batch_is_its_own(app: Flask, api: Any) -> None:
    acme = desk.client(app, "acme")
    post_manifest(api, MANIFEST, "id=songs")
    own = post_manifest(acme, MANIFEST, "id=songs").json
    assert (own["batch_id"], own["submitted"]) == ("acme:songs", 2)
    assert [batch["batch_id"] for batch in acme.get("/api/v1/batches").json["items"]] == [
        "acme:songs"
    ]
    assert {row["tenant"] for row in acme.get("/api/v1/jobs").json["items"]} == {"acme"}
    other = post_manifest(acme, "operation,tenant\naccount.credits,globex\n", "id=x")
    assert [row["column"] for row in other.json["rows"]] == ["tenant"]


def test_a_delivery_is_looked_at_replayed_and_dropped(app: Flask, api: Any) -> None:
    job_id = JobId(api.post("/api/v1/jobs", json=FREE).json["job_id"])
    parts = app.extensions[EXTENSION]
    kept = [
        parts.quarantine.keep(Kind.UNREADABLE, job_id, {"X-A": "b"}, body, "torn", now=1.0)
        for body in (b"\xffone", b"two")
    ]
    first = api.get("/api/v1/quarantine?limit=1").json
    assert [entry["entry_id"] for entry in first["items"]] == kept[:1]
    rest = api.get(f"/api/v1/quarantine?cursor={first['cursor']}").json
    assert [entry["entry_id"] for entry in rest["items"]] == kept[1:]
    assert api.get("/api/v1/quarantine?cursor=x").status_code == 422
    whole = api.get(f"/api/v1/quarantine/{kept[0]}").json
    assert (whole["body"], whole["body_base64"]) == ("\\xffone", "/29uZQ==")
    refused = api.post(f"/api/v1/quarantine/{kept[0]}/replay")
    assert (refused.status_code, refused.content_type) == (409, PROBLEM)
    assert api.delete(f"/api/v1/quarantine/{kept[0]}").status_code == 204
    assert api.get(f"/api/v1/quarantine/{kept[0]}").status_code == 404


def test_a_delivery_that_can_be_used_after_all_leaves_the_quarantine(
    app: Flask, api: Any, valkey: Any
) -> None:
    job_id = JobId(api.post("/api/v1/jobs", json=FREE).json["job_id"])
    body = json.dumps({"event": "song.failed", "type": "failed", "message": "no"}).encode()
    kept = app.extensions[EXTENSION].quarantine.keep(
        Kind.ORPHAN, job_id, signed(job_id, body), body, "no record", now=1.0
    )
    without = desk.client(desk.build(valkey.url, FERMATA_SIGNING_KEYS=""), "operator")
    refused = without.post(f"/api/v1/quarantine/{kept}/replay")
    assert (refused.status_code, "FERMATA_SIGNING_KEYS" in refused.text) == (409, True)
    replayed = api.post(f"/api/v1/quarantine/{kept}/replay")
    assert replayed.json == {"outcome": "resumed"}
    assert api.get("/api/v1/quarantine").json["items"] == []
    assert api.get(f"/api/v1/jobs/{job_id}").json["state"] == "resuming"


def test_the_latest_deliveries_are_listed_for_whom_they_are(
    app: Flask, api: Any, redis: Any
) -> None:
    store, at = Store(redis), time.time()
    for number, tenant in enumerate(("acme", "globex", "acme", "globex", "acme")):
        store.settle(f"job-{number}", at=at - 60, tenant=tenant)
        store.records.note(
            JobId(f"job-{number}"), now=at, what="song.completed again", why="webhook d-9",
            sources=JobState, receipt="without effect",
        )  # fmt: skip
    kept = store.quarantined("lost", b"{}", at=at)
    first = api.get("/api/v1/deliveries").json["items"][0]
    assert (first["job_id"], first["receipt"], first["entry_id"]) == ("lost", "quarantined", kept)
    assert first["operation"] is None
    acme, seen, cursors, cursor = desk.client(app, "acme-reader"), [], [], ""
    while cursor is not None:
        page = acme.get(f"/api/v1/deliveries?limit=1{cursor and f'&cursor={cursor}'}").json
        seen += page["items"]
        cursors += [cursor := page["cursor"]]
    assert [each["job_id"] for each in seen] == ["job-4", "job-2", "job-0"]
    assert {each["operation"] for each in seen} == {"sonic.wav"}
    assert cursors == [*(each["receipt_id"] for each in seen), None]
    assert "globex" not in str(seen)
    wrong = api.get("/api/v1/deliveries?cursor=x")
    assert (wrong.status_code, "cursor" in wrong.json["errors"]) == (422, True)


@pytest.mark.filterwarnings("ignore:Call to deprecated setex")  # Celery's
def test_an_orphan_is_verified_and_adopted(app: Flask, api: Any, redis: Any, valkey: Any) -> None:
    store = Store(redis)
    body = recorded.delivery("delivery_completed")
    kept = store.quarantined("orphan", body, at=time.time(), signed=True)
    path = f"/api/v1/quarantine/{kept}"
    without = desk.client(desk.build(valkey.url, FERMATA_SIGNING_KEYS=""), "operator")
    assert "FERMATA_SIGNING_KEYS" in without.post(f"{path}/verify").text
    wanted = {"operation": "sonic.remaster", "tenant": "acme"}
    assert "FERMATA_SIGNING_KEYS" in without.post(f"{path}/adopt", json=wanted).text
    assert api.post(f"{path}/verify").json == {"event": "song.completed", "final": True}
    for wrong in ({"operation": "sonic.wav"}, wanted | {"tenant": "a:b"}):
        assert api.post(f"{path}/adopt", json=wrong).status_code == 409
    assert api.post(f"{path}/adopt", json={}).status_code == 422
    assert api.post(f"{path}/adopt", json=wanted).json == {"outcome": "succeeded"}
    assert api.get(path).status_code == 404
    acme = desk.client(app, "acme-reader").get("/api/v1/jobs/orphan").json
    assert (acme["state"], len(acme["result"]["clips"])) == ("succeeded", 2)
    celery = Celery(backend=valkey.url, set_as_current=False)
    assert celery.AsyncResult("orphan").get(timeout=9) == acme["result"]


def test_what_is_forged_or_unreadable_is_told_when_it_is_verified(api: Any, redis: Any) -> None:
    store, at = Store(redis), time.time()
    forged = store.quarantined("orphan", b"{}", at=at)
    unreadable = store.quarantined("orphan", b"[", at=at, signed=True)
    for entry, why in ((forged, "X-Webhook-"), (unreadable, "not JSON")):
        refused = api.post(f"/api/v1/quarantine/{entry}/verify")
        assert (refused.status_code, why in refused.json["detail"]) == (409, True)
    assert len(api.get("/api/v1/quarantine").json["items"]) == 2


def test_operations_have_a_price_and_a_schema(api: Any) -> None:
    items = {each["name"]: each for each in api.get("/api/v1/operations").json["items"]}
    remaster = items["sonic.remaster"]
    assert remaster["credits"] > 0
    assert remaster["parameters"]["required"] == ["continue_clip_id"]
    assert "sonic-v5" in remaster["parameters"]["properties"]["mv"]["enum"]
    pack = items["flows.master_pack"]
    assert pack["steps"][0] == "sonic.remaster"
    assert pack["credits"] == sum(items[step]["credits"] for step in pack["steps"])


def test_the_system_is_told_in_figures(app: Flask, api: Any, redis: Any) -> None:
    things(app, "acme")
    spend = {"credits/acme": 1500, "credits/globex": 10}
    redis.hset(f"{keys.DAYS}:{int(time.time() // 86400)}", mapping=spend)
    figures = api.get("/api/v1/overview").json
    assert figures["gate"] == api.get("/api/v1/gate").json
    assert figures["quarantine"] == {"orphan": 0, "unreadable": 1}
    assert figures["states"] == {"held": 1, "queued": 1}
    assert set(figures["oldest"]) == {"held", "queued"}
    spent, others = api.get("/api/v1/spend?days=1").json["items"]
    assert others["tenant"] == "globex"
    assert (spent["tenant"], spent["credits"]) == ("acme", 1.5)
    assert api.get("/api/v1/gate").json["in_flight"] == 0
    own = desk.client(app, "acme-reader")
    assert own.get("/api/v1/gate").json["in_flight"] is None
    assert own.get("/api/v1/spend?days=1").json["items"] == [spent]


def test_an_unknown_path_and_a_wrong_method_are_problems(api: Any) -> None:
    for answer, status in ((api.get("/api/v1/x"), 404), (api.put("/api/v1/jobs"), 405)):
        assert (answer.status_code, answer.content_type) == (status, PROBLEM)
        assert answer.json["status"] == status
    assert set(api.put("/api/v1/jobs").headers["Allow"].split(", ")) >= {"GET", "POST"}


def test_an_error_that_nobody_expected_is_a_problem_that_says_nothing(app: Flask, api: Any) -> None:
    @app.get("/api/v1/broken")
    def broken() -> str:
        raise ValueError("https://cdn.test/song?signature=secret")

    answer = api.get("/api/v1/broken")
    assert (answer.status_code, answer.content_type) == (500, PROBLEM)
    assert "secret" not in answer.text


def test_a_stream_lives_while_only_others_turns_happen(
    app: Flask, redis: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "HEARTBEAT_SECONDS", 0.05)
    quiet = threading.Event()
    turn = {"job": "j", "state": "queued", "operation": "sonic.wav", "tenant": "globex"}

    def happen() -> None:
        while not quiet.wait(0.005):
            redis.xadd(keys.TURNS, turn)

    with ThreadPoolExecutor(1) as pool:
        happening = pool.submit(happen)
        answer = desk.client(app, "acme-reader").get("/api/v1/events", buffered=False)
        try:
            heard = [next(answer.response) for _ in range(4)]
            assert not happening.done()
        finally:
            quiet.set()
            answer.close()
    assert [*map(bytes, heard[1:])] == [b": still here\n\n"] * 3


def test_only_so_many_streams_are_open_at_once(app: Flask) -> None:
    first, *others, last = (desk.client(app, name) for name in desk.SECRETS)

    def open_all(client: Any) -> list[Any]:
        asked = range(places.MOST_OF_ONE)
        return [client.get("/api/v1/events", buffered=False) for _ in asked]

    opened = open_all(first)
    refused = first.get("/api/v1/events")
    assert (refused.status_code, refused.headers["Retry-After"]) == (429, "10")
    for client in others:
        opened += open_all(client)
    assert {each.status_code for each in opened} == {200}
    assert len(opened) == places.MOST_AT_ONCE
    refused = last.get("/api/v1/events")
    assert (refused.status_code, refused.headers["Retry-After"]) == (503, "10")
    for each in opened:
        each.close()
    for client in (first, last):
        client.get("/api/v1/events", buffered=False).close()


def test_while_redis_is_away_the_answer_is_a_problem(valkey: Any) -> None:
    away = desk.client(desk.build("redis://127.0.0.1:1/0"), "operator")
    for path in ("jobs", "jobs/x", "jobs/x/events", "events", "gate", "batches", "quarantine"):
        answer = away.get(f"/api/v1/{path}")
        assert (answer.status_code, answer.content_type) == (503, PROBLEM), path
        assert answer.headers["Retry-After"] == "5"
    assert away.post("/api/v1/jobs", json=FREE).status_code == 503
