"""The simulator answers as the provider does: words, statuses, phases, prices."""

import json
import uuid
from collections.abc import Callable, Mapping
from typing import Any

import click.testing
import pytest

from simulator.__main__ import main
from simulator.app import CONTROLS, create_app
from simulator.deliveries import sign
from simulator.scenarios import (
    FIELD_TYPES,
    BadScenario,
    Outcome,
    Rule,
    Rulebook,
    Scenario,
    Submit,
    Webhook,
    vary,
)
from simulator.settings import Settings
from tests.unit.answers import Answer, Http

KEY = {"Authorization": "Bearer sk_simulator"}
CREATE: dict[str, Any] = {"custom_mode": True, "mv": "sonic-v5", "prompt": "La la"}
CLIP = "26c9c592-0566-46cf-bb71-91ac1deaa7b5"


class Clock:
    now = 1_763_800_000.0

    def __call__(self) -> float:
        return self.now


class Api:
    """A provider without sockets, and a clock that moves when told."""

    def __init__(self, scenario: Mapping[str, object] | None = None, **settings: Any) -> None:
        self.clock = Clock()
        chosen = Settings(scenario=vary(Scenario(), scenario or {}), **settings)
        app = create_app(chosen, clock=self.clock, post=lambda *_: 204)
        self.http: Http = app.test_client()

    def post(self, path: str, body: object, **options: Any) -> Answer:
        return self.http.post(f"/api/v1{path}", json=body, headers=KEY, **options)

    def get(self, path: str) -> Answer:
        return self.http.get(f"/api/v1{path}", headers=KEY)

    def task(self, path: str = "/sonic/create", body: object = None) -> str:
        return str(self.post(path, body or CREATE).json["task_id"])

    def poll(self, task_id: str) -> Answer:
        return self.get(f"/sonic/task/{task_id}")

    def credits(self) -> Any:
        return self.get("/get-credits").json["credits"]

    def books(self, match: str = "") -> Any:
        return self.http.get("/_simulator/books", query_string={"match": match}).json

    def finished(self, path: str = "/sonic/create", body: object = None) -> Answer:
        task_id = self.task(path, body)
        self.clock.now += 60
        return self.poll(task_id)


# Signature vectors: provider-api.md §5.4.
CLIP_BODY = (
    '{"code":200,"data":[{"clip_id":"11111111-1111-4111-8111-111111111111","state":"succeeded",'
    '"title":"Caf\\u00e9 Nights","tags":"pop","lyrics":"[Verse]\\nHello",'
    '"image_url":"https://cdn2.suno.ai/image_11111111-1111-4111-8111-111111111111.jpeg",'
    '"audio_url":"https://cdn1.suno.ai/11111111-1111-4111-8111-111111111111.mp3",'
    '"video_url":null,"created_at":"2026-11-22T08:26:40.000Z","gpt_description_prompt":null,'
    '"duration":"104.88","negative_tags":null,"style_weight":null,"weirdness_constraint":null,'
    '"mv":"chirp-v5"}],"message":"success","task_id":"22222222-2222-4222-8222-222222222222",'
    '"platform":"sonic","event":"song.completed"}'
)
FAILED_BODY = (
    '{"type":"failed","message":"Generation failed","refund_processed":true,'
    '"task_id":"22222222-2222-4222-8222-222222222222","platform":"sonic","event":"song.failed"}'
)


@pytest.mark.parametrize(
    ("secret", "timestamp", "body", "size", "digest"),
    [
        (
            "whsec_test_0123456789",
            "1763800000",
            CLIP_BODY,
            622,
            "1f4e670b95fc8e720a783e5364ab50bb16bbecd3b0593a7287e09257db01a605",
        ),
        (
            "whsec_test_0123456789",
            "1763800000",
            FAILED_BODY,
            161,
            "f2f66c4e7c40739538dfcf3f9daac1fb59469f9de8be1fd138ad57e8479b537d",
        ),
        (
            "secret",
            "1700000000",
            '{"event":"song.failed","task_id":"t-1"}',
            39,
            "88d901b5a89c20c8f55f40f70e8748f440883b6d56c674564010717dfee4b728",
        ),
    ],
)
def test_signatures_agree_with_the_recorded_vectors(
    secret: str, timestamp: str, body: str, size: int, digest: str
) -> None:
    assert len(body.encode()) == size
    assert sign(secret, timestamp, body.encode()) == f"sha256={digest}"


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (None, "Authorization header is missing."),
        ("Basic abc", "Invalid authorization format."),
        ("Bearer", "Invalid authorization format."),
        ("Bearer wrong", "Invalid API key."),
    ],
)
def test_a_request_without_the_key_is_401(header: str | None, message: str) -> None:
    headers = {"Authorization": header} if header else {}
    answer = Api().http.post("/api/v1/sonic/create", json=CREATE, headers=headers)
    assert (answer.status_code, answer.json) == (401, {"code": 401, "message": message})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"custom_mode": "yes"}, "The 'custom_mode' field should be boolean."),
        ({"make_instrumental": 1}, "The 'make_instrumental' field should be boolean."),
        (
            {"mv": "sonic-v9"},
            "The 'mv' field is invalid. "
            "The model should be 'chirp-v3-5','chirp-v4' or 'chirp-v4-5'.",
        ),
        ({"title": "x" * 81}, "The title character length should be less than 80."),
        (
            {"mv": "sonic-v4", "prompt": "x" * 3001},
            "The prompt character length should be less than 3000.",
        ),
        ({"prompt": "x" * 5001}, "The prompt character length should be less than 5000."),
        (
            {"mv": "chirp-v4", "tags": "x" * 201},
            "The tags character length should be less than 200.",
        ),
        (
            {"gpt_description_prompt": "x" * 401},
            "The 'gpt_description_prompt' character length should be less than 400.",
        ),
        (
            {"task_type": "persona_music"},
            "The 'persona_id' field is required when task_type = persona_music.",
        ),
        (
            {"task_type": "remaster"},
            "The 'continue_clip_id' field is required when task_type = remaster.",
        ),
        ({"task_type": "swap_music"}, "The 'task_type' field is invalid."),
        (
            {"variation_category": "wild"},
            "The 'variation_category' field should be 'subtle' or 'normal' or 'high'.",
        ),
        (
            {"weirdness_constraint": 1.01},
            "The 'weirdness_constraint' field should be a number between 0 and 1.",
        ),
        ({"prompt": None}, "The 'prompt' field is required when custom_mode = true."),
        (
            {"custom_mode": False},
            "The 'gpt_description_prompt' field is required when custom_mode = false.",
        ),
        ({"duration": 9}, "The 'duration' field should be an integer between 10 and 360."),
        ({"webhook_url": "ftp://host/x"}, "The 'webhook_url' field is invalid."),
        ({"webhook_url": "https://host/" + "x" * 1024}, "The 'webhook_url' field is invalid."),
    ],
)
def test_a_bad_field_is_400_in_the_providers_words_and_free(
    change: dict[str, Any], message: str
) -> None:
    api = Api()
    answer = api.post("/sonic/create", CREATE | change)
    assert (answer.status_code, answer.json["message"]) == (400, message)
    assert (api.credits(), api.books()["refused"]) == (100_000, {"400": 1})


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b"\xff"])
def test_a_body_that_is_no_json_object_is_400(raw: bytes) -> None:
    answer = Api().http.post("/api/v1/sonic/create", data=raw, headers=KEY)
    assert answer.status_code == 400


@pytest.mark.parametrize(
    ("shape", "names"),
    [
        ("message", {"code", "message"}),
        ("typed", {"error", "type", "detail"}),
        ("retriable", {"error", "retriable"}),
    ],
)
def test_an_error_takes_the_shape_that_is_set(shape: str, names: set[str]) -> None:
    assert set(Api(error_shape=shape).poll("unknown").json) == names


def test_uncertain_requirements_are_settings() -> None:
    assert Api(require_use_suno_cdn=True).post("/sonic/create", CREATE).status_code == 400
    plain = CREATE | {"webhook_url": "http://localhost/x"}
    assert Api(require_https_webhooks=True).post("/sonic/create", plain).status_code == 400
    assert Api().post("/sonic/create", plain).status_code == 200


def test_a_submit_is_answered_with_a_task_id_and_no_code() -> None:
    answer = Api().post("/sonic/create", CREATE)
    assert answer.status_code == 200
    assert set(answer.json) == {"message", "task_id"}
    assert str(uuid.UUID(answer.json["task_id"])) == answer.json["task_id"]


def test_polling_goes_from_not_ready_through_running_to_succeeded() -> None:
    api = Api({"latency_seconds": 10})
    task_id = api.task()
    first = api.poll(task_id)
    assert (first.status_code, first.json) == (202, {"type": "not_ready"})
    api.clock.now += 6
    running = api.poll(task_id).json["data"]
    assert [clip["state"] for clip in running] == ["running", "running"]
    assert all("/audiopipe/" in c["audio_url"] and c["duration"] is None for c in running)
    api.clock.now += 6
    done = api.poll(task_id)
    assert (done.status_code, done.json["code"]) == (200, 200)
    assert [clip["state"] for clip in done.json["data"]] == ["succeeded", "succeeded"]
    assert 7 < float(done.json["data"][0]["duration"]) < 9


@pytest.mark.parametrize(("form", "kind"), [("text", str), ("integer", int), ("null", type(None))])
def test_a_duration_takes_the_form_that_is_set(form: str, kind: type) -> None:
    clip = Api(duration_form=form).finished().json["data"][0]
    assert type(clip["duration"]) is kind


@pytest.mark.parametrize(
    ("form", "status", "check"),
    [
        ("typed", 200, lambda body: body["type"] == "failed" and "data" not in body),
        ("gateway_timeout", 504, lambda body: "refunded" in body["message"]),
        ("clips", 200, lambda body: all(c["state"] == "failed" for c in body["data"])),
    ],
)
def test_a_failed_task_is_reported_in_each_documented_form_and_refunded(
    form: str, status: int, check: Callable[[Any], bool]
) -> None:
    api = Api({"outcome": "fail", "failure_form": form})
    task_id = api.task()
    assert api.credits() == 100_000 - 14
    api.clock.now += 60
    answer = api.poll(task_id)
    assert answer.status_code == status
    assert check(answer.json)
    assert api.credits() == 100_000


def test_a_partial_outcome_fails_the_last_clip_and_keeps_the_price() -> None:
    api = Api({"outcome": "partial"})
    clips = api.finished().json["data"]
    assert [clip["state"] for clip in clips] == ["succeeded", "failed"]
    assert clips[1]["audio_url"] is None
    assert api.credits() == 100_000 - 14


@pytest.mark.parametrize("status", [404, 400])
def test_an_unknown_task_is_refused_with_the_status_that_is_set(status: int) -> None:
    answer = Api(unknown_task_status=status).poll(str(uuid.uuid4()))
    assert (answer.status_code, answer.json["message"]) == (status, "task not found.")
    missing = Api().get("/sonic/task/")
    assert (missing.status_code, missing.json["message"]) == (400, "missing task id.")


def test_unknown_paths_and_wrong_methods_answer_html() -> None:
    api = Api()
    for answer, status in ((api.get("/sonic/nothing"), 404), (api.get("/sonic/create"), 405)):
        assert (answer.status_code, answer.mimetype) == (status, "text/html")


def test_stems_are_clips_named_for_their_part_and_can_be_downloaded() -> None:
    api = Api()
    song = api.finished(body=CREATE | {"title": "Starts"}).json["data"][0]
    basic = api.finished("/sonic/stems/basic", {"clip_id": song["clip_id"]}).json["data"]
    full = api.finished("/sonic/stems/full", {"clip_id": song["clip_id"]}).json["data"]
    assert [clip["stem_type"] for clip in basic] == ["Vocals", "Instrumental"]
    assert (len(full), full[2]["title"]) == (12, "Starts (Drums)")
    file = api.http.get(basic[0]["audio_url"])
    assert (file.status_code, file.mimetype, file.data[:4]) == (200, "audio/wav", b"RIFF")


def test_wav_and_midi_answer_at_once_for_a_song_or_a_stem() -> None:
    api = Api()
    stem = api.finished("/sonic/stems/full", {"clip_id": CLIP}).json["data"][2]["clip_id"]
    wav = api.post("/sonic/wav", {"clip_id": CLIP}).json
    assert set(wav) == {"message", "data"}
    assert wav["data"]["wav_url"].endswith(f"/media/{CLIP}.wav")
    midi = api.post("/sonic/midi", {"clip_id": stem}).json
    assert [instrument["name"] for instrument in midi["data"]["instruments"]] == ["Drums"]
    assert api.http.get(midi["data"]["midi_url"]).data[:4] == b"MThd"


def test_midi_is_not_ready_as_often_as_the_scenario_says_and_costs_once() -> None:
    api = Api({"not_ready_times": 2})
    statuses = [api.post("/sonic/midi", {"clip_id": CLIP}).status_code for _ in range(3)]
    assert statuses == [202, 202, 200]
    assert api.credits() == 100_000 - 1


def test_an_unknown_clip_is_a_song_unless_clips_are_strict() -> None:
    strict = Api(strict_clips=True)
    assert Api().post("/sonic/wav", {"clip_id": CLIP}).status_code == 200
    assert strict.post("/sonic/wav", {"clip_id": CLIP}).status_code == 404
    made = strict.finished().json["data"][0]["clip_id"]
    assert strict.post("/sonic/wav", {"clip_id": made}).status_code == 200


def test_media_names_that_mean_nothing_are_404() -> None:
    client = Api().http
    for name in ("x.wav", f"{CLIP}.mp3", f"{CLIP}-tuba.wav", f"{CLIP}.wav.wav"):
        assert client.get(f"/media/{name}").status_code == 404


@pytest.mark.parametrize(
    ("path", "body", "price"),
    [
        ("/sonic/create", CREATE, 14),
        ("/sonic/create", CREATE | {"mv": "chirp-v3-5"}, 10),
        (
            "/sonic/create",
            {"task_type": "remaster", "mv": "chirp-v5", "continue_clip_id": CLIP},
            10,
        ),
        ("/sonic/create", {"task_type": "concat_music", "continue_clip_id": CLIP}, 2),
        ("/sonic/stems/basic", {"clip_id": CLIP}, 20),
        ("/sonic/stems/full", {"clip_id": CLIP}, 50),
        ("/sonic/wav", {"clip_id": CLIP}, 1),
    ],
)
def test_every_request_costs_its_documented_price(
    path: str, body: dict[str, Any], price: int
) -> None:
    api = Api()
    assert api.post(path, body).status_code == 200
    assert api.credits() == 100_000 - price


@pytest.mark.parametrize("status", [402, 403])
def test_without_credits_a_submit_is_refused_until_there_are_some(status: int) -> None:
    api = Api(credits=20, out_of_credits_status=status)
    statuses = [api.post("/sonic/create", CREATE).status_code for _ in range(2)]
    assert statuses == [200, status]
    api.http.put("/_simulator/credits", json={"credits": 100})
    assert api.post("/sonic/create", CREATE).status_code == 200


@pytest.mark.parametrize(
    ("submit", "status"),
    [
        ("rate_limited", 429),
        ("no_credits_402", 402),
        ("no_credits_403", 403),
        ("moderation_403", 403),
    ],
)
def test_a_refusing_scenario_books_nothing(submit: str, status: int) -> None:
    api = Api({"submit": submit, "retry_after_seconds": 7})
    answer = api.post("/sonic/create", CREATE)
    assert (answer.status_code, answer.headers["Retry-After"]) == (status, "7")
    assert api.books()["tasks"] == []
    assert (api.credits(), api.books()["refused"]) == (100_000, {str(status): 1})


@pytest.mark.parametrize(("submit", "status"), [("error_500", 500), ("unreadable", 200)])
def test_a_lying_scenario_books_the_task_it_denies(submit: str, status: int) -> None:
    api = Api({"submit": submit})
    answer = api.post("/sonic/create", CREATE)
    assert answer.status_code == status
    assert "task_id" not in answer.text
    assert len(api.books()["tasks"]) == 1
    assert (api.credits(), api.books()["refused"]) == (100_000 - 14, {})


def test_a_dropped_answer_leaves_a_booked_task() -> None:
    api = Api({"submit": "drop"})
    with pytest.raises(ConnectionAbortedError):
        api.post("/sonic/create", CREATE)
    assert len(api.books()["tasks"]) == 1


def test_the_books_show_what_was_asked_but_no_secret() -> None:
    api = Api({"latency_seconds": 5})
    hook = {"webhook_url": "http://hooks/jobs/j-1", "webhook_secret": "whsec_hidden"}
    task_id = api.task(body=CREATE | hook)
    api.task()
    assert "whsec_hidden" not in json.dumps(api.books())
    (entry,) = api.books("jobs/j-1")["tasks"]
    assert (entry["provider_task_id"], entry["task_type"]) == (task_id, "create_music")
    assert (entry["state"], entry["done_at"]) == ("pending", None)
    assert (api.books()["submits"], api.books()["polls"]) == (2, 0)


def test_a_rule_chooses_the_scenario_by_text_and_wears_out() -> None:
    api = Api()
    rule = {"match": "jobs/7", "times": 1, "scenario": {"submit": "rate_limited"}}
    assert api.http.post("/_simulator/scenarios", json=rule).status_code == 201
    body = CREATE | {"webhook_url": "http://hooks/jobs/7"}
    statuses = [api.post("/sonic/create", b).status_code for b in (CREATE, body, body)]
    assert statuses == [200, 429, 200]


def test_rules_can_be_cleared() -> None:
    rules = Rulebook(Scenario())
    rules.add(Rule("x", Scenario(latency_seconds=9)))
    assert rules.choose("xyz").latency_seconds == 9
    rules.clear()
    assert rules.choose("xyz") == Scenario()


@pytest.mark.parametrize(
    ("rule", "named"),
    [
        ({"match": "x", "scenario": {"webhok": "lost"}}, "webhok"),
        ({"match": "x", "scenario": {"webhook": "never", "copies": 1.5}}, "copies"),
        ({"match": "x", "scenario": {"latency_seconds": -1}}, "latency_seconds"),
        ({"match": "x", "times": 0, "scenario": {}}, "times"),
        ({"match": 1, "scenario": {}}, "match"),
        ({"match": "x", "scenario": {}, "scenarios": {}}, "scenarios"),
        ([], "scenario"),
    ],
)
def test_a_bad_rule_is_400_and_its_fields_are_named(rule: object, named: str) -> None:
    answer = Api().http.post("/_simulator/scenarios", json=rule)
    assert answer.status_code == 400
    assert named in answer.json["error"]


@pytest.mark.parametrize(
    ("method", "path", "sent", "error"),
    [
        ("GET", "/_simulator/", None, "there is no GET /_simulator/"),
        ("GET", "/_simulator/book", None, "there is no GET /_simulator/book"),
        ("POST", "/_simulator/credits", "{}", "there is no POST /_simulator/credits"),
        ("POST", "/_simulator/scenarios", "nonsense", "could not understand"),
        ("POST", "/_simulator/scenarios", "[]", "scenario: an object is expected"),
        ("PUT", "/_simulator/credits", '{"credits": true}', "credits: a number is expected"),
        ("PUT", "/_simulator/credits", "7", "credits: a number is expected"),
        ("POST", f"/_simulator/clips/{CLIP}/age", '{"hour": 1}', "hours: a number is expected"),
    ],
)
def test_what_the_simulator_is_asked_wrongly_teaches_its_control_routes(
    method: str, path: str, sent: str | None, error: str
) -> None:
    answer = Api().http.open(path, method=method, data=sent)
    assert answer.status_code == (404 if "no" in error.split()[:3] else 400)
    assert error in answer.json["error"]
    assert 'PUT /_simulator/credits {"credits": 10}' in answer.json["controls"]


def test_curl_needs_no_content_type_for_the_control_routes() -> None:
    assert Api().http.put("/_simulator/credits", data='{"credits": 5}').status_code == 204


def test_the_help_names_every_field_and_route_and_no_document_that_only_we_have() -> None:
    shown = click.testing.CliRunner().invoke(main, ["--help"], terminal_width=200).output
    assert all(f"{name}: " in shown for name in FIELD_TYPES)
    assert all(choice in shown for choice in (*Webhook, *Submit, *Outcome))
    assert all(route in shown for route in CONTROLS)
    assert "§" not in shown
    assert "provider-api" not in shown


def test_the_check_refuses_what_a_start_would() -> None:
    checked = click.testing.CliRunner().invoke(main, ["--check", "--scenario", "webhook=gone"])
    assert checked.exit_code == 2
    assert "'gone' is not one of normal, early, duplicate" in checked.output
    assert click.testing.CliRunner().invoke(main, ["--check"]).exit_code == 0


def test_a_scenario_can_be_written_as_text() -> None:
    fields = {"latency_seconds": "0.5", "copies": "3", "webhook": "duplicate"}
    assert vary(Scenario(), fields).copies == 3
    with pytest.raises(BadScenario, match="whole number"):
        vary(Scenario(), {"copies": "many"})


def test_submits_beyond_the_rate_are_429_until_a_moment_has_passed() -> None:
    api = Api(submits_per_second=2)
    answers = [api.post("/sonic/create", CREATE) for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200, 200, 429, 429]
    assert answers[-1].headers["Retry-After"] == "1"
    api.clock.now += 0.5
    assert [api.post("/sonic/create", CREATE).status_code for _ in range(2)] == [200, 429]
    assert api.books()["refused"] == {"429": 3}


def test_tasks_beyond_what_may_be_under_way_are_429_until_one_is_done() -> None:
    api = Api({"latency_seconds": 10}, in_flight=2)
    statuses = [api.post("/sonic/create", CREATE).status_code for _ in range(3)]
    assert (statuses, api.credits()) == ([200, 200, 429], 100_000 - 28)
    assert api.post("/sonic/wav", {"clip_id": CLIP}).status_code == 200
    api.clock.now += 11
    assert api.post("/sonic/create", CREATE).status_code == 200
    assert api.books()["peak_in_flight"] == 2
