"""What a request must have, and what its fields ask of each other (provider-api-2.md §3)."""

from typing import Any

import pytest

from tests.unit.test_fields import BASES, refused
from worker.core.errors import InvalidRequest
from worker.core.providers.aimusic.operations import OPERATIONS
from worker.core.providers.aimusic.submission import check_parameters

CLIP = "11111111-1111-4111-8111-111111111111"
OTHER = "33333333-3333-4333-8333-333333333333"

REQUIRED: dict[str, set[str]] = {
    "sonic.create_music": {"custom_mode"},
    "sonic.extend": {"continue_clip_id", "continue_at", "custom_mode"},
    "sonic.cover": {"continue_clip_id", "custom_mode"},
    "sonic.concat": {"continue_clip_id"},
    "sonic.persona_music": {"persona_id", "custom_mode"},
    "sonic.remaster": {"continue_clip_id"},
    "sonic.add_vocals": {"continue_clip_id", "prompt"},
    "sonic.add_instrumental": {"continue_clip_id"},
    "sonic.upload_extend": {"url", "custom_mode"},
    "sonic.upload_cover": {"url", "custom_mode"},
    "sonic.upload": {"url"},
    "sonic.upload_async": {"url"},
    "sonic.create_persona": {"name", "clip_id"},
    "sonic.create_voice": {"audio_url"},
    "sonic.sample": {
        "sample_clip_id", "chop_sample_start_s", "chop_sample_end_s", "custom_mode",
        "make_instrumental",
    },
    "sonic.mashup": {"mashup_clip_ids", "custom_mode"},
    "sonic.replace_section": {"clip_id", "infill_start_s", "infill_end_s"},
    "sonic.stems_basic": {"clip_id"},
    "sonic.stems_full": {"clip_id"},
    "sonic.bpm": {"clip_id"},
    "sonic.vox": {"clip_id"},
    "sonic.wav": {"clip_id"},
    "sonic.midi": {"clip_id"},
    "sonic.lyrics_timeline": {"clip_id"},
    "sonic.upsample_tags": {"tags"},
    "sonic.download": {"clip_id"},
    "lyrics.generate": {"description"},
    "producer.create_music": {"sound"},
    "producer.make_lyrics": {"prompt"},
    "producer.video_clip": {"clip_id"},
    "producer.upload": {"audio_url"},
    "producer.download": {"clip_id"},
    "account.credits": set(),
    "riffusion.create_music": {"custom_mode"},
    "riffusion.extend": {"continue_clip_id", "continue_at", "lyrics", "sound"},
    "riffusion.cover": {"continue_clip_id"},
    "riffusion.replace_section": {"continue_clip_id", "replace_start_time", "replace_end_time"},
    "riffusion.swap_sound": {"continue_clip_id", "lyrics"},
    "riffusion.swap_vocals": {"continue_clip_id", "lyrics"},
    "riffusion.upload": {"url"},
    "nuro.create_vocal": {"lyrics"},
    "nuro.create_instrumental": {"description"},
}  # fmt: skip


def missing(operation: str) -> set[str]:
    try:
        check_parameters(OPERATIONS[operation], {})
    except InvalidRequest as error:
        return set(error.fields)
    return set()


@pytest.mark.parametrize("operation", OPERATIONS)
def test_an_empty_request_lacks_what_is_documented_as_required(operation: str) -> None:
    assert missing(operation) == REQUIRED[operation]


@pytest.mark.parametrize(
    ("operation", "name"), [(op, name) for op, names in REQUIRED.items() for name in sorted(names)]
)
def test_each_of_them_is_missed_alone(operation: str, name: str) -> None:
    # Where one of two is wanted, both are missing.
    others = {"producer.create_music": "lyrics", "sonic.sample": "url"}
    other = others.get(operation, name) if name in {"sound", "sample_clip_id"} else name
    assert set(refused(operation, **{name: None, other: None})) == {name}


@pytest.mark.parametrize(
    ("operation", "custom"),
    [(op, mode) for op in ("sonic.create_music", "sonic.persona_music") for mode in (True, False)],
)
def test_the_mode_decides_which_words_are_required(operation: str, custom: bool) -> None:
    words = "prompt" if custom else "gpt_description_prompt"
    other = "gpt_description_prompt" if custom else "prompt"
    base = {"custom_mode": custom, words: None, other: "x", "make_instrumental": None}
    assert set(refused(operation, **base)) == {words}
    assert refused(operation, **base | {words: "x"}) == {}


def test_an_instrumental_needs_no_lyrics_but_a_description() -> None:
    silent = {"prompt": None, "gpt_description_prompt": None, "make_instrumental": True}
    assert refused("sonic.create_music", **silent, custom_mode=True) == {}
    wrong = refused("sonic.create_music", **silent, custom_mode=False)
    assert set(wrong) == {"gpt_description_prompt"}


@pytest.mark.parametrize("operation", ["sonic.extend", "sonic.cover", "sonic.upload_cover"])
def test_what_has_a_source_of_its_own_needs_no_words(operation: str) -> None:
    for mode in (True, False):
        changes = {"custom_mode": mode, "prompt": None, "gpt_description_prompt": None}
        assert refused(operation, **changes) == {}


@pytest.mark.parametrize(
    "operation", ["sonic.create_music", "sonic.persona_music", "sonic.sample", "sonic.mashup"]
)
def test_auto_lyrics_needs_custom_mode(operation: str) -> None:
    described = {"custom_mode": False, "gpt_description_prompt": "x"}
    assert set(refused(operation, **described, auto_lyrics=True)) == {"auto_lyrics"}
    assert refused(operation, **described, auto_lyrics=False) == {}
    assert refused(operation, custom_mode=True, prompt="x", auto_lyrics=True) == {}


RANGES = [
    ("sonic.add_vocals", "overpainting_start_s", "overpainting_end_s"),
    ("sonic.add_instrumental", "overpainting_start_s", "overpainting_end_s"),
    ("sonic.create_persona", "vocal_start_s", "vocal_end_s"),
    ("sonic.vox", "vocal_start_s", "vocal_end_s"),
    ("sonic.sample", "chop_sample_start_s", "chop_sample_end_s"),
    ("sonic.replace_section", "infill_start_s", "infill_end_s"),
    ("riffusion.replace_section", "replace_start_time", "replace_end_time"),
]


@pytest.mark.parametrize(("operation", "start", "end"), RANGES)
def test_an_end_comes_after_its_start(operation: str, start: str, end: str) -> None:
    for early, late in ((0, 0.5), (7, 8.25)):
        assert refused(operation, **{start: early, end: late}) == {}
    for early, late in ((0, 0), (8, 8), (8, 7.5)):
        wrong = refused(operation, **{start: early, end: late})
        assert wrong == {end: [f"Must be greater than {start}."]}


def test_every_pair_of_moments_is_in_order() -> None:
    pairs = {
        (row.name, name)
        for row in OPERATIONS.values()
        for name in row.schema().fields
        if name.endswith(("_end_s", "_end_time"))
    }
    assert pairs == {(operation, end) for operation, _, end in RANGES}


def test_one_moment_alone_may_be_given() -> None:
    for operation, start, end in RANGES[:4]:
        assert refused(operation, **{start: 40, end: None}) == {}
        assert refused(operation, **{start: None, end: 40}) == {}


def test_voices_are_taken_from_30_seconds_at_most() -> None:
    assert refused("sonic.vox", vocal_start_s=10, vocal_end_s=40) == {}
    wrong = refused("sonic.vox", vocal_start_s=10, vocal_end_s=40.5)
    assert wrong == {"vocal_end_s": ["Must be at most 30 s after vocal_start_s."]}


def test_a_sample_is_of_a_clip_or_of_a_file() -> None:
    url = "https://files.example/a.mp3"
    assert refused("sonic.sample", url=url, sample_clip_id=None) == {}
    assert refused("sonic.sample", url=None, sample_clip_id=CLIP) == {}
    assert set(refused("sonic.sample", url=url, sample_clip_id=CLIP)) == {"url"}
    assert set(refused("sonic.sample", url=None, sample_clip_id=None)) == {"sample_clip_id"}


@pytest.mark.parametrize("clips", [[], [CLIP], [CLIP, OTHER, CLIP], [CLIP, ""], CLIP])
def test_a_mashup_is_of_two_clips(clips: Any) -> None:
    assert set(refused("sonic.mashup", mashup_clip_ids=clips)) == {"mashup_clip_ids"}
    assert refused("sonic.mashup", mashup_clip_ids=[CLIP, OTHER]) == {}


def test_a_producer_song_has_a_sound_or_lyrics() -> None:
    assert refused("producer.create_music", sound="x", lyrics=None) == {}
    assert refused("producer.create_music", sound=None, lyrics="x") == {}
    assert set(refused("producer.create_music", sound="", lyrics=None)) == {"sound"}


def test_a_riffusion_song_is_described_or_has_a_mode_of_voices() -> None:
    song = {"prompt": None, "make_instrumental": None}
    name = "riffusion.create_music"
    assert set(refused(name, **song, custom_mode=False)) == {"prompt"}
    assert set(refused(name, **song, custom_mode=True)) == {"make_instrumental"}
    for silent in (True, False):
        assert refused(name, custom_mode=True, prompt=None, make_instrumental=silent) == {}


@pytest.mark.parametrize("family", ["sonic", "chirp"])
def test_a_section_is_replaced_by_v4_and_later(family: str) -> None:
    assert set(refused("sonic.replace_section", mv=f"{family}-v3-5")) == {"mv"}
    assert refused("sonic.replace_section", mv=f"{family}-v4", prompt="x" * 5000) == {}


WORDY = ["create_music", "extend", "cover", "persona_music", "add_vocals", "add_instrumental",
         "upload_extend", "upload_cover", "sample", "mashup"]  # fmt: skip


@pytest.mark.parametrize("operation", WORDY)
@pytest.mark.parametrize(("mv", "most"), [("sonic-v4", 3000), ("chirp-v5", 5000)])
def test_every_song_keeps_to_the_limits_of_its_model(operation: str, mv: str, most: int) -> None:
    name, tags = f"sonic.{operation}", 200 if most == 3000 else 1000
    tags = 200 if operation in {"sample", "mashup"} else tags
    assert refused(name, mv=mv, prompt="x" * most, tags="x" * tags) == {}
    wrong = refused(name, mv=mv, prompt="x" * (most + 1), tags="x" * (tags + 1))
    assert set(wrong) == {"prompt", "tags"}


def test_the_limits_of_a_model_are_said_of_its_texts() -> None:
    for operation in WORDY:
        prompt = OPERATIONS[f"sonic.{operation}"].schema().fields["prompt"]
        assert prompt.metadata["doc"].endswith(
            "the lyrics: 5,000 characters, 3,000 with v3-5 and v4"
        )


@pytest.mark.parametrize("formats", [[], ["flac"], ["mp3", "MP3"], "mp3"])
def test_a_download_has_known_formats(formats: Any) -> None:
    assert set(refused("sonic.download", formats=formats)) == {"formats"}


def test_a_field_that_is_wrong_is_not_called_missing_as_well() -> None:
    described = {"custom_mode": False, "gpt_description_prompt": "x" * 401}
    wrong = refused("sonic.create_music", **described)
    assert wrong == {"gpt_description_prompt": ["Longer than maximum length 400."]}


def test_a_wrong_field_of_two_does_not_make_the_other_required() -> None:
    assert set(refused("sonic.sample", url="ftp://x", sample_clip_id=None)) == {"url"}


def test_a_field_that_is_given_by_the_table_cannot_be_passed_beside_it() -> None:
    for name, row in OPERATIONS.items():
        for field in row.fixed:
            with pytest.raises(InvalidRequest, match=field):
                check_parameters(row, BASES[name], extra={field: "x"})


def test_a_riffusion_job_without_custom_mode_needs_a_description() -> None:
    plain = {"custom_mode": False, "prompt": None}
    assert "prompt" in refused("riffusion.cover", **plain)
    assert refused("riffusion.cover", custom_mode=False, prompt="a waltz") == {}
