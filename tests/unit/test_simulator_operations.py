"""The simulator does everything the provider documents: a good body for each row of its table."""

import json
import uuid
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.table import TABLE
from tests.unit.answers import Answer
from tests.unit.test_simulator_protocol import CLIP, CREATE, Api

OTHER = "30264033-2b01-43a7-8779-2a834b067486"
URL = "https://files.example/Starts.mp3?x=1"
MODE = {"custom_mode": True, "mv": "sonic-v5"}
ON_CLIP = {"clip_id": CLIP}
SOURCE = {"continue_clip_id": CLIP}
CHOP = {"chop_sample_start_s": 0, "chop_sample_end_s": 4.5, "make_instrumental": False}
INFILL = {"clip_id": CLIP, "mv": "sonic-v5", "infill_start_s": 0, "infill_end_s": 4}
RIFF = {"custom_mode": True, "lyrics": "La", "sound": "jazz", "continue_clip_id": CLIP}
REPLACE = RIFF | {"replace_start_time": 1, "replace_end_time": 2}
LIKE = {"duration": 60, "tags": "pop"}

# For each row of the table: a body that is accepted, and what it costs.
Key = tuple[str, str]
GOOD: dict[Key, tuple[dict[str, Any], int]] = {
    ("/sonic/create", "create_music"): (CREATE | LIKE, 14),
    ("/sonic/create", "extend_music"): (MODE | SOURCE | LIKE | {"continue_at": 0.1}, 10),
    ("/sonic/create", "extend_upload_music"): (MODE | SOURCE | {"continue_at": 1}, 10),
    ("/sonic/create", "cover_music"): (MODE | SOURCE | LIKE, 14),
    ("/sonic/create", "cover_upload_music"): (MODE | SOURCE | {"mv": "sonic-v4"}, 10),
    ("/sonic/create", "concat_music"): (SOURCE, 2),
    ("/sonic/create", "persona_music"): (CREATE | {"persona_id": CLIP}, 10),
    ("/sonic/create", "remaster"): (SOURCE | {"mv": "chirp-v5"}, 10),
    ("/sonic/create", "add_vocals"): (SOURCE | {"mv": "sonic-v5", "lyrics": "La"}, 10),
    ("/sonic/create", "add_instrumental"): (SOURCE | {"mv": "sonic-v5"}, 10),
    ("/sonic/upload-extend", "upload_extend"): (MODE | LIKE | {"url": URL}, 12),
    ("/sonic/upload-cover", "upload_cover"): (MODE | LIKE | {"url": URL}, 16),
    ("/sonic/upload", "upload"): ({"url": URL}, 2),
    ("/sonic/persona", "persona"): (ON_CLIP | {"name": "Nina", "styles": "jazz"}, 1),
    ("/sonic/create-voice", "create_voice"): ({"audio_url": URL}, 4),
    ("/sonic/sample", "sample"): (MODE | CHOP | {"sample_clip_id": CLIP}, 14),
    ("/sonic/mashup", "mashup"): (MODE | {"mashup_clip_ids": [CLIP, OTHER]}, 14),
    ("/sonic/replace-section", "replace_section"): (INFILL, 10),
    ("/sonic/stems/basic", "stems_basic"): (ON_CLIP, 20),
    ("/sonic/stems/full", "stems_full"): (ON_CLIP, 50),
    ("/sonic/bpm", "bpm"): (ON_CLIP, 1),
    ("/sonic/vox", "vox"): (ON_CLIP | {"vocal_start_s": 1, "vocal_end_s": 31}, 1),
    ("/sonic/wav", "wav"): (ON_CLIP, 1),
    ("/sonic/midi", "midi"): (ON_CLIP, 1),
    ("/sonic/aligned-lyrics", "aligned_lyrics"): (ON_CLIP, 1),
    ("/sonic/download", "download"): (ON_CLIP | {"formats": ["mp3", "wav"]}, 2),
    ("/sonic/upsample-tags", "upsample_tags"): ({"tags": "jazz"}, 1),
    ("/sonic/lyrics", "lyrics"): ({"description": "rain"}, 2),
    ("/producer/create", "create_music"): ({"sound": "jazz", "length": 240, "seed": 7}, 10),
    ("/producer/lyrics-create", "make_lyrics"): ({"prompt": "rain"}, 1),
    ("/producer/video-clip", "video_clip"): (ON_CLIP, 5),
    ("/producer/upload", "upload"): ({"audio_url": URL}, 2),
    ("/producer/download", "download"): (ON_CLIP | {"format": "wav"}, 2),
    ("/riffusion/create", "create_music"): (RIFF | {"make_instrumental": False}, 10),
    ("/riffusion/create", "extend_music"): (RIFF | {"continue_at": 10}, 10),
    ("/riffusion/create", "extend_upload_music"): (RIFF | {"continue_at": 10}, 10),
    ("/riffusion/create", "cover_music"): (RIFF, 10),
    ("/riffusion/create", "cover_upload_music"): (RIFF, 10),
    ("/riffusion/create", "replace_music"): (REPLACE, 10),
    ("/riffusion/create", "replace_upload_music"): (REPLACE, 10),
    ("/riffusion/create", "swap_music_sound"): (RIFF, 10),
    ("/riffusion/create", "swap_upload_music_sound"): (RIFF, 10),
    ("/riffusion/create", "swap_music_vocals"): (RIFF, 10),
    ("/riffusion/create", "swap_upload_music_vocals"): (RIFF, 10),
    ("/riffusion/upload", "upload"): ({"url": URL}, 2),
    ("/nuro/create", "vocal"): ({"type": "vocal", "lyrics": "La", "genre": "Pop Rap"}, 10),
    ("/nuro/create", "bgm"): ({"type": "bgm", "description": "rain", "theme": ["love"]}, 10),
}
ACTIVE: dict[str, Any] = {"riffusion": "working", "nuro": "working"}
ROWS = {(row.path, row.name): row for row in TABLE if not row.retired}


def good(key: Key) -> dict[str, Any]:
    path, name = key
    body, _ = GOOD[key]
    return body | ({"task_type": name} if path.endswith("/create") else {})


def named(names: Iterable[Key]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("key", names, ids=lambda key: "-".join(key).strip("/"))


def finish(api: Api, key: Key, change: dict[str, Any] | None = None) -> Answer:
    """Submit a good body, and give the task's last poll."""
    path = key[0]
    task_id = api.post(path, good(key) | (change or {})).json["task_id"]
    api.clock.now += 60
    return api.get(f"/{path.split('/')[1]}/task/{task_id}")


def data(api: Api, key: Key, change: dict[str, Any] | None = None) -> Any:
    return finish(api, key, change).json["data"]


def test_every_row_of_the_table_has_a_good_body_here() -> None:
    assert set(GOOD) == set(ROWS)
    shown = Api().http.get("/_simulator/operations").json
    assert len(shown) == len(TABLE)
    stems = next(row for row in shown if row["path"] == "/sonic/stems/full")
    assert (stems["task_type"], stems["required"], stems["price"]) == (None, ["clip_id"], 50)
    assert {row["path"] for row in shown if row["webhook"] and row["sync"]} == set()
    assert {row["path"] for row in shown if row["retired"]} == {
        "/nuro/create",
        "/producer/create",
        "/riffusion/create",
        "/riffusion/upload",
    }


@named(GOOD)
def test_a_good_body_is_accepted_at_its_price_and_ends_well(key: Key) -> None:
    api = Api(**ACTIVE)
    answer = api.post(key[0], good(key))
    assert answer.status_code == 200
    assert api.credits() == 100_000 - GOOD[key][1]
    assert ("task_id" in answer.json) is not ROWS[key].sync
    if "task_id" in answer.json:
        poll = f"/{key[0].split('/')[1]}/task/{answer.json['task_id']}"
        api.clock.now += 60
        assert api.get(poll).status_code == 200


@named([key for key in GOOD if ROWS[key].required])
def test_each_required_field_is_required(key: Key) -> None:
    api = Api(**ACTIVE)
    for name in ROWS[key].required:
        body = {k: v for k, v in good(key).items() if k not in (name, "lyrics")}
        assert api.post(key[0], body).status_code == 400, name


CREATE_MUSIC, EXTEND = ("/sonic/create", "create_music"), ("/sonic/create", "extend_music")
UPLOAD, PERSONA = ("/sonic/upload", "upload"), ("/sonic/persona", "persona")
COVER_FILE = ("/sonic/upload-cover", "upload_cover")
EXTEND_FILE = ("/sonic/upload-extend", "upload_extend")
SAMPLE, MASHUP = ("/sonic/sample", "sample"), ("/sonic/mashup", "mashup")
SECTION, VOX = ("/sonic/replace-section", "replace_section"), ("/sonic/vox", "vox")
ALIGNED, DOWNLOAD = ("/sonic/aligned-lyrics", "aligned_lyrics"), ("/sonic/download", "download")
LYRICS, VOICE = ("/sonic/lyrics", "lyrics"), ("/sonic/create-voice", "create_voice")
PRODUCER, RIFFUSION = ("/producer/create", "create_music"), ("/riffusion/create", "create_music")
NURO, BGM = ("/nuro/create", "vocal"), ("/nuro/create", "bgm")
V2 = {"version": "v2.0"}
TOO_LONG = "The {} character length should be less than {}."
NO_AUDIO = "Audio URL is not accessible. Please provide a public direct audio file URL."


@pytest.mark.parametrize(
    ("key", "inside", "outside"),
    [
        (CREATE_MUSIC, {"negative_tags": "x" * 200}, {"negative_tags": "x" * 201}),
        (CREATE_MUSIC, {"continue_at": 0.01}, {"continue_at": 0}),
        (CREATE_MUSIC, {"overpainting_start_s": 12}, {"overpainting_start_s": "12"}),
        (CREATE_MUSIC, {"auto_lyrics": True}, {"auto_lyrics": "true"}),
        (CREATE_MUSIC, {"prompt": None, "lyrics": "x"}, {"prompt": None, "lyrics": "x" * 5001}),
        (CREATE_MUSIC, {"duration": 360}, {"duration": 10.5}),
        (CREATE_MUSIC, {"mv": "chirp-v6-wild"}, {"mv": "sonic-v4-5-all"}),
        (("/sonic/create", "remaster"), {"variation_category": "high"}, {"duration": 60}),
        (("/sonic/create", "add_vocals"), {"prompt": "La"}, {"lyrics": ""}),
        (EXTEND_FILE, {"negative_tags": "x" * 300}, {"url": "file:///x"}),
        (COVER_FILE, {"auto_concat": True}, {"duration": 361}),
        (PERSONA, {"name": "x" * 79}, {"name": "x" * 80}),
        (PERSONA, {"styles": "x" * 2000}, {"styles": "x" * 2001}),
        (SAMPLE, {"tags": "x" * 200}, {"tags": "x" * 201}),
        (SAMPLE, {"mv": "sonic-v4-5-all"}, {"url": URL}),
        (SAMPLE, {"chop_sample_end_s": 0.1}, {"chop_sample_end_s": 0}),
        (SAMPLE, {"chop_sample_start_s": 1}, {"chop_sample_start_s": -1}),
        (MASHUP, {"mashup_clip_ids": [CLIP, CLIP]}, {"mashup_clip_ids": [CLIP]}),
        (MASHUP, {"title": "x" * 80}, {"mashup_clip_ids": [CLIP, OTHER, CLIP]}),
        (SECTION, {"infill_lyrics": "x" * 3000}, {"infill_lyrics": "x" * 3001}),
        (SECTION, {"mv": "sonic-v4", "prompt": "x" * 5000}, {"mv": "sonic-v3-5"}),
        (SECTION, {"tags": "x" * 1000}, {"infill_end_s": 0}),
        (VOX, {"vocal_start_s": None}, {"vocal_end_s": 31.5}),
        (DOWNLOAD, {"formats": None}, {"formats": ["flac"]}),
        (LYRICS, {"description": "x" * 119}, {"description": "x" * 120}),
        (PRODUCER, {"seed": "x", "mv": "any"}, {"sound": ""}),
        (PRODUCER, {"bpm": 120, "length": 1}, {"length": 241}),
        (RIFFUSION, {"sound": "x" * 200}, {"sound": "x" * 201}),
        (RIFFUSION, {"mv": "FUZZ-1.0"}, {"mv": "FUZZ-2.0"}),
        (RIFFUSION, {"custom_mode": False, "prompt": "x" * 200}, {"custom_mode": False}),
        (("/riffusion/create", "replace_music"), {"vocal_variation": 1}, {"replace_end_time": 1}),
        (NURO, {"duration": 30}, {"duration": 29}),
        (NURO, {"timbre": "Warm"}, {"timbre": "Cold"}),
        (BGM, {"theme": ["love"] * 5}, {"theme": ["love"] * 6}),
        (BGM, {"duration": 60}, {"duration": 61}),
        (BGM, V2 | {"duration": 120}, V2 | {"duration": 29}),
        (
            BGM,
            V2
            | {"segments": [{"name": "intro", "duration": 5}, {"name": "verse", "duration": 25}]},
            V2 | {"segments": [{"name": "intro", "duration": 29}]},
        ),
    ],
)
def test_a_limit_takes_what_is_at_it_and_refuses_what_is_beyond(
    key: Key, inside: dict[str, Any], outside: dict[str, Any]
) -> None:
    api = Api(**ACTIVE)
    assert api.post(key[0], good(key) | inside).status_code == 200
    assert api.post(key[0], good(key) | outside).status_code == 400


@pytest.mark.parametrize(
    ("key", "change", "message"),
    [
        (LYRICS, {"description": ""}, "description is required."),
        (LYRICS, {"description": "x" * 120}, TOO_LONG.format("description", 120)),
        (PERSONA, {"name": "x" * 80}, TOO_LONG.format("name", 80)),
        (UPLOAD, {"url": "nowhere"}, NO_AUDIO),
    ],
)
def test_a_documented_message_is_used_as_it_stands(
    key: Key, change: dict[str, Any], message: str
) -> None:
    assert Api().post(key[0], good(key) | change).json["message"] == message


def test_the_narrow_side_of_a_contradiction_is_a_setting() -> None:
    body = {"custom_mode": False, "mv": "sonic-v5", "gpt_description_prompt": "x" * 400}
    assert Api().post("/sonic/create", body).status_code == 200
    assert Api(narrow_limits=True).post("/sonic/create", body).status_code == 400


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/nuro/create", {}),
        ("/riffusion/create", {"mv": "FUZZ-1.1"}),
        ("/producer/create", {"task_type": "music_variation"}),
        ("/producer/create", {"task_type": "cover_music"}),
    ],
)
def test_what_is_retired_answers_410_and_is_free(path: str, body: dict[str, Any]) -> None:
    api = Api(error_shape="typed")
    answer = api.post(path, body)
    assert (answer.status_code, answer.json["type"]) == (410, "endpoint_retired")
    assert api.credits() == 100_000


def test_polling_a_retired_family_answers_410_too() -> None:
    api = Api()
    assert [api.get(f"/{f}/task/x").status_code for f in ("nuro", "riffusion")] == [410, 410]
    assert api.get("/producer/task/x").status_code == 404
    assert api.get("/producer/task/").status_code == 400


def test_a_task_is_not_found_under_another_family() -> None:
    api = Api()
    assert api.get(f"/producer/task/{api.task()}").status_code == 404


def test_a_clip_of_yesterday_is_too_old_for_what_works_on_fresh_ones() -> None:
    api = Api()
    for hours, status in ((23, 200), (25, 404)):
        assert (
            api.http.post(f"/_simulator/clips/{CLIP}/age", json={"hours": hours}).status_code == 204
        )
        for path in ("bpm", "vox", "midi", "download"):
            assert api.post(f"/sonic/{path}", ON_CLIP).status_code == status
        assert api.post("/sonic/create", good(("/sonic/create", "remaster"))).status_code == status
        assert api.post("/sonic/wav", ON_CLIP).status_code == 200
    assert api.http.post(f"/_simulator/clips/{CLIP}/age", json={}).status_code == 400


def test_a_clip_ages_with_the_clock_as_fast_as_it_is_set() -> None:
    api = Api(clip_hours=1, old_clip_status=400)
    clip = api.finished().json["data"][0]
    api.clock.now += 3600
    assert api.post("/sonic/bpm", {"clip_id": clip["clip_id"]}).status_code == 400


@pytest.mark.parametrize("key", [SECTION, EXTEND_FILE])
def test_auto_concat_pairs_each_section_with_the_joined_song_once_it_is_there(key: Key) -> None:
    api = Api({"latency_seconds": 10})
    name = "replaced" if key == SECTION else "extended"
    task_id = api.task(key[0], good(key) | {"auto_concat": True})
    api.clock.now += 6
    joining = api.poll(task_id).json["data"]
    assert [(pair[name]["state"], pair["full"]) for pair in joining] == [("succeeded", None)] * 2
    api.clock.now += 6
    clips = [clip for pair in api.poll(task_id).json["data"] for clip in pair.values()]
    assert len({clip["clip_id"] for clip in clips}) == 4
    assert {clip["state"] for clip in clips} == {"succeeded"}


def test_a_submit_that_uploads_shows_its_steps() -> None:
    answer = Api().post("/sonic/upload-cover", good(COVER_FILE)).json
    assert answer["code"] == 200
    assert answer["steps"]["cover"] == {"success": True, "task_id": answer["task_id"]}
    clip_id = answer["steps"]["upload"]["clip_id"]
    assert str(uuid.UUID(clip_id)) == clip_id
    assert "steps" not in Api().post("/sonic/sample", good(SAMPLE)).json
    by_url = {k: v for k, v in good(SAMPLE).items() if k != "sample_clip_id"} | {"url": URL}
    assert set(Api().post("/sonic/sample", by_url).json["steps"]) == {"upload", "sample"}


@pytest.mark.parametrize("status", [200, 400])
@pytest.mark.parametrize(("broken", "price"), [("upload", 0), ("next", 2)])
def test_a_step_that_fails_leaves_no_task_and_costs_what_was_done(
    status: int, broken: str, price: int
) -> None:
    api = Api({"failed_step": broken}, failed_step_status=status)
    answer = api.post("/sonic/upload-cover", good(COVER_FILE))
    name = "upload" if broken == "upload" else "cover"
    assert (answer.status_code, answer.json["failed_step"]) == (status, name)
    assert "task_id" not in answer.json
    assert answer.json["steps"][name]["success"] is False
    assert api.credits() == 100_000 - price


def test_a_submit_that_uploads_takes_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    naps: list[float] = []
    monkeypatch.setattr("simulator.submissions.time.sleep", naps.append)
    api = Api({"upload_seconds": 45})
    for key in (COVER_FILE, EXTEND_FILE, UPLOAD, CREATE_MUSIC, SAMPLE):
        api.post(key[0], good(key))
    assert naps == [45, 45, 45]


def test_an_uploaded_clip_is_named_for_its_file_and_can_be_used() -> None:
    api = Api(strict_clips=True)
    clip_id = api.post("/sonic/upload", {"url": URL}).json["clip_id"]
    stems = api.finished("/sonic/stems/basic", {"clip_id": clip_id}).json["data"]
    assert stems[0]["title"] == "Starts (Vocals)"


def test_a_voice_is_an_object_and_not_a_list() -> None:
    api = Api({"latency_seconds": 10})
    task_id = api.task("/sonic/create-voice", good(VOICE))
    api.clock.now += 6
    assert api.poll(task_id).status_code == 202
    api.clock.now += 6
    assert set(api.poll(task_id).json["data"]) == {"persona_id", "name"}


def test_alignment_gives_each_word_its_time_within_the_song() -> None:
    api = Api()
    song = api.finished(body=CREATE | {"prompt": "[Verse]\nLa la lu"}).json["data"][0]
    words = api.post("/sonic/aligned-lyrics", {"clip_id": song["clip_id"]}).json["data"][
        "alignment"
    ]
    assert [word["word"] for word in words] == ["La", "la", "lu"]
    times = [moment for word in words for moment in (word["start_s"], word["end_s"])]
    assert times == sorted(times)
    assert 0 <= times[0] < times[-1] <= float(song["duration"])


def test_alignment_costs_once_for_each_clip() -> None:
    api = Api({"not_ready_times": 1})
    statuses = [api.post("/sonic/aligned-lyrics", ON_CLIP).status_code for _ in range(3)]
    assert (statuses, api.credits()) == ([202, 200, 200], 100_000 - 1)
    api.post("/sonic/aligned-lyrics", {"clip_id": OTHER})
    api.post("/sonic/aligned-lyrics", {"clip_id": OTHER})
    assert api.credits() == 100_000 - 2


def test_an_instrumental_has_no_lyrics_to_align() -> None:
    api = Api()
    song = api.finished(body=CREATE | {"make_instrumental": True}).json["data"][0]
    assert song["lyrics"] == "[Instrumental]"
    assert api.post("/sonic/aligned-lyrics", {"clip_id": song["clip_id"]}).status_code == 404


def test_bpm_vox_tags_and_files_say_what_is_documented() -> None:
    api = Api({"not_ready_times": 1})
    beats = api.post("/sonic/bpm", ON_CLIP).json["data"]
    assert set(beats) == {"avg_bpm", "max_bpm", "min_bpm"}
    assert 110 <= beats["min_bpm"] <= beats["max_bpm"] <= 132.1
    vox = api.post("/sonic/vox", good(VOX)).json["data"]
    assert (vox["source_clip_id"], vox["vocal_end_s"]) == (CLIP, 31)
    assert (
        "jazz, "
        in api.post("/sonic/upsample-tags", {"tags": "jazz"}).json["data"]["upsampled_tags"]
    )
    assert api.post("/sonic/download", good(DOWNLOAD)).status_code == 202
    files = api.post("/sonic/download", good(DOWNLOAD)).json["data"]["files"]
    assert [file["format"] for file in files] == ["mp3", "wav"]
    assert api.http.get(files[0]["url"]).data[:4] == b"RIFF"


def test_lyrics_come_in_two_versions() -> None:
    first, second = Api().post("/sonic/lyrics", {"description": "rain"}).json["results"]
    assert set(first) == {"title", "lyrics"}
    assert first["lyrics"] != second["lyrics"]


@pytest.mark.parametrize(
    ("submit", "status"),
    [
        ("timeout_504", 504),
        ("upstream_502", 502),
        ("retired_410", 410),
        ("copyright_400", 400),
        ("unreachable_audio_400", 400),
        ("no_subscription_403", 403),
    ],
)
def test_a_refusal_of_any_status_is_free(submit: str, status: int) -> None:
    api = Api({"submit": submit}, error_shape="typed")
    assert api.post("/sonic/lyrics", {"description": "rain"}).status_code == status
    assert (api.credits(), api.books()["tasks"]) == (100_000, [])


@pytest.mark.parametrize(
    ("shape", "body"),
    [
        ("brief", '{"error":"clip not found.","type":"not_found"}'),
        ("text_code", '{"code":"404","message":"clip not found."}'),
        ("html", "<!doctype html><title>404</title><h1>clip not found.</h1>"),
        ("empty", ""),
    ],
)
def test_a_scenario_words_the_errors_of_its_requests(shape: str, body: str) -> None:
    api = Api({"error_shape": shape}, strict_clips=True)
    answer = api.post("/sonic/wav", ON_CLIP)
    assert (answer.status_code, answer.text.strip()) == (404, body)


def test_polls_fail_as_often_as_the_scenario_says() -> None:
    api = Api({"poll_errors": 2})
    task_id = api.task()
    api.clock.now += 60
    assert [api.poll(task_id).status_code for _ in range(3)] == [500, 500, 200]


def test_a_failure_has_the_type_that_the_scenario_gives() -> None:
    api = Api({"outcome": "fail", "failure_type": "forbidden"})
    assert api.finished().json == {"type": "forbidden", "error": "Generation failed"}


def test_a_producer_song_is_one_clip_with_a_file_that_can_be_had() -> None:
    api = Api()
    (song,) = data(api, PRODUCER, {"title": "Starts"})
    assert (song["title"], song["seed"], song["sound"]) == ("Starts", "7", "jazz")
    assert api.http.get(song["wav_url"]).data[:4] == b"RIFF"
    (video,) = data(api, ("/producer/video-clip", "video_clip"))
    assert b"<animateTransform" in api.http.get(video["video_url"]).data
    (words,) = data(api, ("/producer/lyrics-create", "make_lyrics"))
    assert set(words) == {"title", "lyrics"}
    (file,) = data(api, ("/producer/download", "download"))
    assert set(file) == {"audio_url"}
    (upload,) = data(api, ("/producer/upload", "upload"), {"audio_url": None, "url": URL})
    assert upload["title"] == "Starts"


@pytest.mark.parametrize(("outcome", "status"), [("succeed", "SUCCESS"), ("fail", "FAILED")])
def test_a_producer_task_can_be_polled_in_the_words_of_aim(outcome: str, status: str) -> None:
    api = Api({"latency_seconds": 10, "outcome": outcome}, producer_polling="status")
    task_id = api.task("/producer/create", good(PRODUCER))
    seen = []
    for _ in range(3):
        answer = api.get(f"/producer/task/{task_id}")
        seen.append((answer.status_code, answer.json["status"], len(answer.json["data"])))
        api.clock.now += 6
    done = 1 if outcome == "succeed" else 0
    assert seen == [(200, "PENDING", 0), (200, "RUNNING", 0), (200, status, done)]


def test_riffusion_shows_one_song_before_it_shows_two() -> None:
    api = Api({"latency_seconds": 10}, riffusion="working")
    task_id = api.task("/riffusion/create", good(RIFFUSION))
    answers = []
    for _ in range(3):
        answers.append(api.get(f"/riffusion/task/{task_id}"))
        api.clock.now += 6
    assert [answer.status_code for answer in answers] == [202, 200, 200]
    assert answers[1].json["message"] == "processing"
    assert [len(answer.json["data"]) for answer in answers[1:]] == [1, 2]


def test_nuro_is_flat_and_its_progress_climbs() -> None:
    api = Api({"latency_seconds": 10}, nuro="working")
    task_id = api.task("/nuro/create", good(NURO))
    seen = []
    for _ in range(3):
        body = api.get(f"/nuro/task/{task_id}").json
        seen.append((body["status"], body["progress"], bool(body["audio_url"])))
        api.clock.now += 6
    assert seen == [("pending", 2, False), ("running", 50, False), ("succeeded", 100, True)]


def test_lyrics_of_a_song_are_what_was_sent_or_what_its_source_sang() -> None:
    api = Api()
    song = api.finished().json["data"][0]
    assert song["lyrics"] == "La la"
    remaster = good(("/sonic/create", "remaster")) | {"continue_clip_id": song["clip_id"]}
    assert data(api, ("/sonic/create", "remaster"), remaster)[0]["lyrics"] == "La la"
    described = {"custom_mode": False, "mv": "sonic-v5", "gpt_description_prompt": "rain"}
    assert api.finished(body=described).json["data"][0]["lyrics"].startswith("[Verse]")


def test_numbers_that_are_no_json_are_refused() -> None:
    raw = json.dumps(good(EXTEND) | {"continue_at": float("nan")})
    answer = Api().http.post(
        "/api/v1/sonic/create", data=raw, headers={"Authorization": "Bearer sk_simulator"}
    )
    assert answer.status_code == 400


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
EVERYTHING = Api(**ACTIVE)


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(sorted(GOOD)), st.data())
def test_no_body_breaks_the_simulator(key: Key, draw: st.DataObject) -> None:
    names = st.sampled_from([*ROWS[key].fields, "task_type", "type", "use_suno_cdn"])
    change = draw.draw(st.dictionaries(names, JSON, min_size=1, max_size=3))
    answer = EVERYTHING.post(key[0], good(key) | change)
    assert answer.status_code in {200, 400, 402, 404}
