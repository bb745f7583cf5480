"""The table of the provider's operations: a row for each path and task type.

A row says which requests are accepted, and their price; `answers` and `payloads` word the answers.
Sections are of `provider-api.md`; "part 2" is `provider-api-2.md`, which is newer and wins. If the
documents leave a question open, the rows decide it so:

* Lengths: prompt 3000 characters with the models before v4-5, else 5000, on every generation;
  gpt_description_prompt 400 (200 with `narrow_limits`, as is 3000 for a mashup's prompt); title 80;
  tags 200 or 1000 by model, but 200 on sample and mashup, and 1000 on replace-section;
  negative_tags 200 on create and replace-section only; description 119; persona name 79.
* Custom mode needs `prompt`, or its alias `lyrics` on create, but for an instrumental; otherwise
  gpt_description_prompt is needed. This is so for create and persona music only; cover, extend,
  upload-*, sample and mashup document no such need. `auto_lyrics` is for custom mode.
* `vocal_gender` is taken with every model. Seconds have no bounds but those that are written:
  continue_at is above 0, a sample and an infill start at 0 or later and end after the start, a
  vox range is 30 s at most. What an operation does not know is ignored, but for `duration`.
* `sonic-v4-5-all` is for sample and mashup; replace-section takes no v3-5.
* Producer: any `mv`; `task_type` may be left out; the prompt of lyrics-create, whose name no
  document gives, is `prompt` or `description`; video-clip takes `clip_id`. No webhooks for both.
* Riffusion: `mv` may be left out. Its required sets beyond create, extend and swap vocals are
  inferred from the shared schema. `make_instrumental` is required to create from lyrics.
* Nuro: a lyric has no least length; a v2.0 description has 200 characters.
* A concat makes one song, every other sonic generation two (§8).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from . import vocabulary
from .fields import (
    VERSIONS,
    Address,
    AnyOf,
    Choice,
    Field,
    Flag,
    Many,
    Model,
    Number,
    OnlyWith,
    Refuse,
    RequiredWhen,
    Scalar,
    Segments,
    Span,
    Text,
    spell,
)
from .operations import Operation, Result
from .songs import Part

Fields = dict[str, Field]

TEXT, FLAG, NUMBER, FROM_0, ABOVE_0 = Text(), Flag(), Number(), Number(least=0), Number(above=0)
WEIGHT, SCALAR, URL, TITLE = Number(0, 1), Scalar(), Address(), Text(80)
PROMPT, TARGET_SECONDS = Text(5000, old=3000, label="prompt"), Number(10, 360, whole=True)

HOOK: Fields = {"webhook_url": Address(webhook=True), "webhook_secret": TEXT}
VOCAL_RANGE: Fields = {"vocal_start_s": NUMBER, "vocal_end_s": NUMBER}
TASTE: Fields = HOOK | {
    "title": TITLE,
    "vocal_gender": Choice(("f", "m")),
    "style_weight": WEIGHT,
    "weirdness_constraint": WEIGHT,
}
GENERATION: Fields = TASTE | {
    "mv": Model(),
    "custom_mode": FLAG,
    "prompt": PROMPT,
    "gpt_description_prompt": Text(400, narrow=200, label="'gpt_description_prompt'"),
    "tags": Text(1000, old=200),
    "negative_tags": TEXT,
    "make_instrumental": FLAG,
    "audio_weight": WEIGHT,
}
CREATE: Fields = GENERATION | {
    "lyrics": PROMPT,
    "negative_tags": Text(200),
    "auto_lyrics": FLAG,
    "continue_clip_id": TEXT,
    "continue_at": ABOVE_0,
    "persona_id": TEXT,
    "variation_category": Choice(("subtle", "normal", "high")),
    "overpainting_start_s": NUMBER,
    "overpainting_end_s": NUMBER,
}
FILE: Fields = GENERATION | {"url": URL, "auto_concat": FLAG, "duration": TARGET_SECONDS}
BLEND: Fields = GENERATION | {
    "mv": Model(spell(*VERSIONS, "v4-5-all")),
    "tags": Text(200),
    "auto_lyrics": FLAG,
    "duration": Refuse(),
}
SAMPLE: Fields = BLEND | {
    "url": URL,
    "sample_clip_id": TEXT,
    "chop_sample_start_s": FROM_0,
    "chop_sample_end_s": NUMBER,
}
MASHUP: Fields = BLEND | {
    "prompt": Text(5000, old=3000, narrow=3000),
    "mashup_clip_ids": Many(TEXT, 2, 2),
}
INFILL: Fields = TASTE | {
    "clip_id": TEXT,
    "mv": Model(spell(*VERSIONS) - spell("v3-5")),
    "infill_start_s": FROM_0,
    "infill_end_s": NUMBER,
    "infill_lyrics": Text(3000),
    "prompt": Text(5000),
    "tags": Text(1000),
    "negative_tags": Text(200),
    "auto_concat": FLAG,
    "duration": Refuse(),
}
PERSONA: Fields = VOCAL_RANGE | {
    "name": Text(79, said=80),
    "describe": TEXT,
    "styles": Text(2000),
    "vox_audio_id": TEXT,
}
PRODUCER_SONG: Fields = HOOK | {
    "sound": TEXT,
    "lyrics": TEXT,
    "title": TITLE,
    "mv": TEXT,
    "seed": SCALAR,
    "bpm": SCALAR,
    "length": Number(1, 240),
    "make_instrumental": FLAG,
}
RIFFUSION_SONG: Fields = {
    "mv": Choice(("FUZZ-1.1 Pro", "FUZZ-1.1", "FUZZ-1.0 Pro", "FUZZ-1.0")),
    "custom_mode": FLAG,
    "prompt": Text(200),
    "lyrics": Text(3000),
    "sound": Text(200),
    "title": TITLE,
    "make_instrumental": FLAG,
    "continue_clip_id": TEXT,
    "continue_at": ABOVE_0,
    "replace_start_time": NUMBER,
    "replace_end_time": NUMBER,
    "vocal_variation": WEIGHT,
}
VOCAL: Fields = HOOK | {
    "lyrics": Text(2000),
    "gender": Choice(("Female", "Male")),
    "genre": Choice(vocabulary.VOCAL_GENRES),
    "mood": Choice(vocabulary.VOCAL_MOODS),
    "timbre": Choice(vocabulary.VOCAL_TIMBRES),
    "duration": Number(30, 240, whole=True),
}
BGM: Fields = HOOK | {
    "version": Choice(("v1.0",)),
    "description": TEXT,
    "genre": Many(Choice(vocabulary.BGM_GENRES), 0, 5),
    "mood": Many(Choice(vocabulary.BGM_MOODS), 0, 5),
    "instrument": Many(Choice(vocabulary.INSTRUMENTS), 0, 5),
    "theme": Many(Choice(vocabulary.THEMES), 0, 5),
    "duration": Number(1, 60, whole=True),
}
BGM_V2: Fields = HOOK | {"description": Text(200), "duration": Number(30, 120, whole=True)}

MODE, SOURCE = ("custom_mode", "mv"), "continue_clip_id"
EXTEND, COVER = (SOURCE, "continue_at", *MODE), (SOURCE, *MODE)
CHOP = ("chop_sample_start_s", "chop_sample_end_s")
SECTION = ("infill_start_s", "infill_end_s")
REPLACED = ("replace_start_time", "replace_end_time")
FORMATS = ("mp3", "m4a", "wav")
WORDS = (
    RequiredWhen("prompt", "custom_mode", True, spared="make_instrumental"),
    RequiredWhen("gpt_description_prompt", "custom_mode", False),
)
DESCRIBED = RequiredWhen("prompt", "custom_mode", False)
AUTO_LYRICS = OnlyWith("auto_lyrics", "custom_mode")


def _row(path: str, fields: Fields, *required: str, name: str = "", **more: Any) -> Operation:
    """Make a row, which is named for the end of its path unless it has another name."""
    name = name or "_".join(path.split("/")[2:]).replace("-", "_")
    return Operation(path, name, fields, required, **more)


def _of_clip(path: str, fields: Fields | None = None, *required: str, **more: Any) -> Operation:
    """Make a row about one finished clip (§3.4, §3.6)."""
    fields = {"clip_id": TEXT, **(fields or {})}
    return _row(path, fields, "clip_id", *required, sources=("clip_id",), **more)


def _create(name: str, *required: str, **more: Any) -> Operation:
    """Make a row of `/sonic/create` (§3.1, part 2 §3.1): one schema, required sets by task type."""
    fields = CREATE | {"duration": TARGET_SECONDS if "custom_mode" in required else Refuse()}
    more = {"price": 10, "clips": 2, "when": {"task_type": name}, "sources": (SOURCE,), **more}
    row = partial(_row, "/sonic/create", fields, *required, name=name, webhook=True)
    return row(lyrics_is_prompt=True, **more)


def _riffusion(name: str, *required: str, **more: Any) -> Iterator[Operation]:
    """Make the rows of a song and of an uploaded one (part 2 §3.10), which take no webhooks."""
    head, music, tail = name.partition("music")
    for each in (name, f"{head}upload_{music}{tail}"):
        row = partial(_row, "/riffusion/create", RIFFUSION_SONG, "custom_mode", *required)
        more = {"rules": (DESCRIBED,), "sources": (SOURCE,), **more}
        yield row(name=each, price=10, when={"task_type": each}, clips=2, **more)


_at_once = partial(_of_clip, sync=True)
_task = partial(_row, webhook=True)
_songs = partial(_task, clips=2)
_upload = partial(_row, price=2, result=Result.UPLOAD)
_nuro = partial(_task, "/nuro/create", price=10, clips=1)

# Prices are the "aim" column of §7.
SONIC = (
    _create("create_music", *MODE, rules=(*WORDS, AUTO_LYRICS), price=14, old_price=10),
    _create("extend_music", *EXTEND, rules=(AUTO_LYRICS,)),
    _create("extend_upload_music", *EXTEND, rules=(AUTO_LYRICS,)),
    _create("cover_music", *COVER, rules=(AUTO_LYRICS,), price=14, old_price=10),
    _create("cover_upload_music", *COVER, rules=(AUTO_LYRICS,), price=14, old_price=10),
    _create("concat_music", SOURCE, price=2, clips=1),
    _create("persona_music", "persona_id", *MODE, rules=(*WORDS, AUTO_LYRICS)),
    _create("remaster", SOURCE, "mv", fresh=True),
    _create("add_vocals", SOURCE, "mv", "prompt", fresh=True),
    _create("add_instrumental", SOURCE, "mv", fresh=True),
    _songs(
        "/sonic/upload-extend",
        FILE | {"continue_at": ABOVE_0},
        "url",
        *MODE,
        price=2 + 10,
        section="extended",
        step="extend",
    ),
    _songs("/sonic/upload-cover", FILE, "url", *MODE, price=2 + 14, old_price=2 + 10, step="cover"),
    _upload("/sonic/upload", {"url": URL, "callback_url": Address(webhook=True)}, "url", sync=True),
    _at_once("/sonic/persona", PERSONA, "name", fresh=True),
    _task(
        "/sonic/create-voice", {"audio_url": URL, **HOOK}, "audio_url", price=4, result=Result.VOICE
    ),
    _songs(
        "/sonic/sample",
        SAMPLE,
        *CHOP,
        *MODE,
        "make_instrumental",
        rules=(AnyOf(("url", "sample_clip_id"), only_one=True), Span(*CHOP), AUTO_LYRICS),
        price=14,
        sources=("sample_clip_id",),
        step="sample",
    ),
    _songs(
        "/sonic/mashup",
        MASHUP,
        "mashup_clip_ids",
        *MODE,
        rules=(AUTO_LYRICS,),
        price=14,
        old_price=10,
        sources=("mashup_clip_ids",),
    ),
    _songs(
        "/sonic/replace-section",
        INFILL,
        "clip_id",
        "mv",
        *SECTION,
        rules=(Span(*SECTION),),
        price=10,
        sources=("clip_id",),
        section="replaced",
    ),
    _of_clip("/sonic/stems/basic", price=20, stems=("voices", "instrumental")),
    _of_clip("/sonic/stems/full", price=50, stems=tuple(Part)),
    _at_once("/sonic/bpm", fresh=True),
    _at_once(
        "/sonic/vox",
        VOCAL_RANGE,
        rules=(Span("vocal_start_s", "vocal_end_s", most=30),),
        fresh=True,
    ),
    _at_once("/sonic/wav"),
    _at_once("/sonic/midi", fresh=True, may_wait=True),
    _at_once("/sonic/aligned-lyrics", sung=True, may_wait=True, free_again=True),
    _at_once(
        "/sonic/download",
        {"formats": Many(Choice(FORMATS), 1, 3)},
        price=2,
        fresh=True,
        may_wait=True,
    ),
    _row("/sonic/upsample-tags", {"tags": TEXT}, "tags", sync=True),
    _row(
        "/sonic/lyrics",
        {"description": Text(119, said=120)},
        "description",
        price=2,
        sync=True,
        missing="description is required.",
    ),
)

# §3.8, part 2 §3.8. On aim every other task type is 410, cover_music too.
RETIRED = (
    *("cover_music", "extend_music", "extend_upload_music", "replace_music"),
    *("replace_upload_music", "swap_music_vocals", "swap_music_sound", "music_variation"),
    *("cover", "extend", "extend_upload", "replace", "replace_upload"),
)
PRODUCER = (
    _task(
        "/producer/create",
        PRODUCER_SONG,
        name="create_music",
        when={"task_type": "create_music"},
        rules=(AnyOf(("sound", "lyrics")),),
        price=10,
        clips=1,
    ),
    *(
        _row("/producer/create", {}, name=name, when={"task_type": name}, retired=True)
        for name in RETIRED
    ),
    _row(
        "/producer/lyrics-create",
        {"prompt": TEXT, "description": TEXT},
        name="make_lyrics",
        rules=(AnyOf(("prompt", "description")),),
        result=Result.LYRICS,
    ),
    _of_clip("/producer/video-clip", price=5, result=Result.VIDEO),
    _upload(
        "/producer/upload",
        {"audio_url": URL, "url": URL, **HOOK},
        rules=(AnyOf(("audio_url", "url")),),
        webhook=True,
    ),
    _of_clip(
        "/producer/download",
        {"format": Choice(("mp3", "wav")), **HOOK},
        price=2,
        result=Result.FILE,
        webhook=True,
    ),
)
FROM_LYRICS = RequiredWhen("make_instrumental", "custom_mode", True)
RIFFUSION = (
    next(_riffusion("create_music", rules=(DESCRIBED, FROM_LYRICS))),
    *_riffusion("extend_music", SOURCE, "continue_at", "lyrics", "sound"),
    *_riffusion("cover_music", SOURCE),
    *_riffusion("replace_music", SOURCE, *REPLACED, rules=(DESCRIBED, Span(*REPLACED))),
    *_riffusion("swap_music_sound", SOURCE, "lyrics"),
    *_riffusion("swap_music_vocals", SOURCE, "lyrics"),
    _upload("/riffusion/upload", {"url": URL}, "url", sync=True),
)
NURO = (  # part 2 §3.9
    _nuro(VOCAL, "lyrics", name="vocal", when={"type": "vocal"}),
    _nuro(
        BGM_V2,
        "description",
        name="bgm",
        rules=(Segments(vocabulary.SEGMENTS),),
        when={"type": "bgm", "version": "v2.0"},
    ),
    _nuro(BGM, "description", name="bgm", when={"type": "bgm"}),
)
TABLE = (*SONIC, *PRODUCER, *RIFFUSION, *NURO)
