"""The table of what the provider can be asked to do: a row for each path and task type.

The rows say what is accepted and what it costs; `answers` and `payloads` say what comes back.
Sections are of `provider-api.md`; "part 2" is `provider-api-2.md`, which is newer and wins. Where
the documents leave room, the rows decide so:

* Lengths: prompt 3000 characters with the models before v4-5, else 5000, on every generation;
  gpt_description_prompt 400 (200 with `narrow_limits`, as is 3000 for a mashup's prompt); title 80;
  tags 200 or 1000 by model, but 200 on sample and mashup, and 1000 on replace-section;
  negative_tags 200 on create and replace-section only; description 119; persona name 79.
* Custom mode needs `prompt`, or its alias `lyrics` on create, also for an instrumental; otherwise
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

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from typing import Any

from .fields import (
    OLD_MODELS,
    VERSIONS,
    Address,
    AtLeastOne,
    Body,
    Choice,
    ExactlyOne,
    Field,
    Flag,
    Many,
    Model,
    Number,
    OnlyWith,
    Refuse,
    RequiredWhen,
    Rule,
    Scalar,
    Segments,
    Span,
    Text,
    spell,
)
from .replies import JSON
from .songs import Part
from .vocabulary import (
    BGM_GENRES,
    BGM_MOODS,
    INSTRUMENTS,
    SEGMENTS,
    THEMES,
    VOCAL_GENRES,
    VOCAL_MOODS,
    VOCAL_TIMBRES,
)


class Result(StrEnum):
    """What a finished task shows in `data`."""

    SONGS = "songs"  # or stems
    VOICE = "voice"
    UPLOAD = "upload"
    LYRICS = "lyrics"
    VIDEO = "video"
    FILE = "file"


@dataclass(frozen=True, slots=True)
class Operation:
    """One row. It starts a task, unless it is `sync`; `when` tells rows of one path apart."""

    path: str
    name: str
    fields: Mapping[str, Field]
    required: tuple[str, ...] = ()
    rules: tuple[Rule, ...] = ()
    price: float = 1
    old_price: float | None = None  # in custom mode with the models before v4-5
    when: Mapping[str, object] = field(default_factory=dict)
    clips: int = 0
    stems: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()  # the fields that name clips
    result: Result = Result.SONGS
    webhook: bool = False
    sync: bool = False
    fresh: bool = False  # its clips are from the last 24 h
    sung: bool = False  # its clip has lyrics, or is not found
    may_wait: bool = False  # can answer 202 first
    free_again: bool = False  # costs once for each clip
    section: str = ""  # what `auto_concat` pairs with the joined song (§3.5)
    step: str = ""  # what follows the upload inside the submit (part 2 §3.2)
    lyrics_is_prompt: bool = False
    missing: str = ""  # the provider's words for a required field that is not there
    retired: bool = False

    @property
    def family(self) -> str:
        return self.path.split("/")[1]

    def answers_at_once(self, body: Body) -> bool:
        return self.sync and not body.get("callback_url")

    def pairs(self, body: Body) -> bool:
        return bool(self.section and body.get("auto_concat"))

    def uploads(self, body: Body) -> bool:
        """Say whether a file is fetched while the submit waits (§3.2)."""
        return bool("url" in self.fields and body.get("url"))

    def price_of(self, body: Body) -> float:
        old = body.get("mv") in OLD_MODELS and body.get("custom_mode") is not False
        return self.old_price if old and self.old_price is not None else self.price

    def show(self) -> JSON:
        """Describe the row, for tests that compare it with their own."""
        return {
            "path": f"/api/v1{self.path}",
            "name": self.name,
            "task_type": self.when.get("task_type"),
            "fields": list(self.fields),
            "required": list(self.required),
            "webhook": self.webhook,
            "sync": self.sync,
            "price": self.price,
            "old_price": self.price if self.old_price is None else self.old_price,
            "retired": self.retired,
        }


TEXT, CLIP, FLAG, NUMBER, WEIGHT = Text(), Text(), Flag(), Number(), Number(least=0, most=1)
URL, TITLE, SHORT_TAGS = Address(), Text(80), Text(200)
PROMPT = Text(5000, old=3000, label="prompt")
TARGET_SECONDS = Number(least=10, most=360, whole=True)
AFTER_START = Number(above=0)

HOOK: dict[str, Field] = {"webhook_url": Address(webhook=True), "webhook_secret": TEXT}
GENERATION: dict[str, Field] = {
    "mv": Model(),
    "custom_mode": FLAG,
    "prompt": PROMPT,
    "gpt_description_prompt": Text(400, narrow=200, label="'gpt_description_prompt'"),
    "title": TITLE,
    "tags": Text(1000, old=200),
    "negative_tags": TEXT,
    "make_instrumental": FLAG,
    "vocal_gender": Choice(("f", "m")),
    "style_weight": WEIGHT,
    "weirdness_constraint": WEIGHT,
    "audio_weight": WEIGHT,
    **HOOK,
}
CREATE: dict[str, Field] = GENERATION | {
    "lyrics": PROMPT,
    "negative_tags": Text(200),
    "auto_lyrics": FLAG,
    "continue_clip_id": CLIP,
    "continue_at": AFTER_START,
    "persona_id": TEXT,
    "variation_category": Choice(("subtle", "normal", "high")),
    "overpainting_start_s": NUMBER,
    "overpainting_end_s": NUMBER,
}
UPLOADED: dict[str, Field] = GENERATION | {
    "url": URL,
    "auto_concat": FLAG,
    "duration": TARGET_SECONDS,
}
BLENDED: dict[str, Field] = GENERATION | {
    "mv": Model(spell(*VERSIONS, "v4-5-all")),
    "tags": SHORT_TAGS,
    "auto_lyrics": FLAG,
    "duration": Refuse(),
}
INFILL: dict[str, Field] = {
    "clip_id": CLIP,
    "mv": Model(spell(*VERSIONS) - spell("v3-5")),
    "infill_start_s": Number(least=0),
    "infill_end_s": NUMBER,
    "infill_lyrics": Text(3000),
    "prompt": Text(5000),
    "title": TITLE,
    "tags": Text(1000),
    "negative_tags": Text(200),
    "style_weight": WEIGHT,
    "weirdness_constraint": WEIGHT,
    "vocal_gender": Choice(("f", "m")),
    "auto_concat": FLAG,
    "duration": Refuse(),
    **HOOK,
}
WORDS: tuple[Rule, ...] = (
    RequiredWhen("prompt", "custom_mode", True),
    RequiredWhen("gpt_description_prompt", "custom_mode", False),
)
AUTO_LYRICS = OnlyWith("auto_lyrics", "custom_mode")
MODE = ("custom_mode", "mv")


def _create(
    name: str, *required: str, price: float = 10, words: tuple[Rule, ...] = (), **more: Any
) -> Operation:
    """Make a row of `/sonic/create` (§3.1, part 2 §3.1): one schema, required sets by task type."""
    takes_duration = "custom_mode" in required
    return Operation(
        "/sonic/create",
        name,
        {**CREATE, "duration": TARGET_SECONDS if takes_duration else Refuse()},
        required,
        rules=(*words, AUTO_LYRICS) if takes_duration else (),
        price=price,
        when={"task_type": name},
        sources=("continue_clip_id",),
        webhook=True,
        lyrics_is_prompt=True,
        **{"clips": 2, **more},
    )


def _of_clip(path: str, name: str, *required: str, **more: Any) -> Operation:
    """Make a row that is about one finished clip (§3.4, §3.6)."""
    fields = {"clip_id": CLIP, **more.pop("fields", {})}
    return Operation(path, name, fields, ("clip_id", *required), sources=("clip_id",), **more)


_at_once = partial(_of_clip, sync=True)

EXTEND, COVER = ("continue_clip_id", "continue_at", *MODE), ("continue_clip_id", *MODE)
VOCAL_RANGE: dict[str, Field] = {"vocal_start_s": NUMBER, "vocal_end_s": NUMBER}
FORMATS = ("mp3", "m4a", "wav")

# Prices are the "aim" column of §7.
SONIC = (
    _create("create_music", *MODE, words=WORDS, price=14, old_price=10),
    _create("extend_music", *EXTEND),
    _create("extend_upload_music", *EXTEND),
    _create("cover_music", *COVER, price=14, old_price=10),
    _create("cover_upload_music", *COVER, price=14, old_price=10),
    _create("concat_music", "continue_clip_id", price=2, clips=1),
    _create("persona_music", "persona_id", *MODE, words=WORDS),
    _create("remaster", "continue_clip_id", "mv", fresh=True),
    _create("add_vocals", "continue_clip_id", "mv", "prompt", fresh=True),
    _create("add_instrumental", "continue_clip_id", "mv", fresh=True),
    Operation(
        "/sonic/upload-extend",
        "upload_extend",
        {**UPLOADED, "continue_at": AFTER_START},
        ("url", *MODE),
        price=2 + 10,
        clips=2,
        webhook=True,
        section="extended",
        step="extend",
    ),
    Operation(
        "/sonic/upload-cover",
        "upload_cover",
        UPLOADED,
        ("url", *MODE),
        price=2 + 14,
        old_price=2 + 10,
        clips=2,
        webhook=True,
        step="cover",
    ),
    Operation(
        "/sonic/upload",
        "upload",
        {"url": URL, "callback_url": Address(webhook=True)},
        ("url",),
        price=2,
        result=Result.UPLOAD,
        sync=True,
    ),
    _at_once(
        "/sonic/persona",
        "persona",
        "name",
        fields={
            "name": Text(79, said=80),
            "describe": TEXT,
            "styles": Text(2000),
            "vox_audio_id": TEXT,
            **VOCAL_RANGE,
        },
        fresh=True,
    ),
    Operation(
        "/sonic/create-voice",
        "create_voice",
        {"audio_url": URL, **HOOK},
        ("audio_url",),
        price=4,
        result=Result.VOICE,
        webhook=True,
    ),
    Operation(
        "/sonic/sample",
        "sample",
        {
            **BLENDED,
            "url": URL,
            "sample_clip_id": CLIP,
            "chop_sample_start_s": Number(least=0),
            "chop_sample_end_s": NUMBER,
        },
        ("chop_sample_start_s", "chop_sample_end_s", *MODE, "make_instrumental"),
        rules=(
            ExactlyOne(("url", "sample_clip_id")),
            Span("chop_sample_start_s", "chop_sample_end_s"),
            AUTO_LYRICS,
        ),
        price=14,
        clips=2,
        sources=("sample_clip_id",),
        webhook=True,
        step="sample",
    ),
    Operation(
        "/sonic/mashup",
        "mashup",
        {
            **BLENDED,
            "prompt": Text(5000, old=3000, narrow=3000),
            "mashup_clip_ids": Many(CLIP, 2, 2),
        },
        ("mashup_clip_ids", *MODE),
        rules=(AUTO_LYRICS,),
        price=14,
        old_price=10,
        clips=2,
        sources=("mashup_clip_ids",),
        webhook=True,
    ),
    Operation(
        "/sonic/replace-section",
        "replace_section",
        INFILL,
        ("clip_id", "mv", "infill_start_s", "infill_end_s"),
        rules=(Span("infill_start_s", "infill_end_s"),),
        price=10,
        clips=2,
        sources=("clip_id",),
        section="replaced",
        webhook=True,
    ),
    _of_clip("/sonic/stems/basic", "stems_basic", price=20, stems=("voices", "instrumental")),
    _of_clip("/sonic/stems/full", "stems_full", price=50, stems=tuple(Part)),
    _at_once("/sonic/bpm", "bpm", fresh=True),
    _at_once(
        "/sonic/vox",
        "vox",
        fields=VOCAL_RANGE,
        rules=(Span("vocal_start_s", "vocal_end_s", most=30),),
        fresh=True,
    ),
    _at_once("/sonic/wav", "wav"),
    _at_once("/sonic/midi", "midi", fresh=True, may_wait=True),
    _at_once("/sonic/aligned-lyrics", "aligned_lyrics", sung=True, may_wait=True, free_again=True),
    _at_once(
        "/sonic/download",
        "download",
        fields={"formats": Many(Choice(FORMATS), 1, len(FORMATS))},
        price=2,
        fresh=True,
        may_wait=True,
    ),
    Operation("/sonic/upsample-tags", "upsample_tags", {"tags": TEXT}, ("tags",), sync=True),
    Operation(
        "/sonic/lyrics",
        "lyrics",
        {"description": Text(119, said=120)},
        ("description",),
        price=2,
        sync=True,
        missing="description is required.",
    ),
)

# §3.8, part 2 §3.8. On aim every other task type is 410, cover_music too.
PRODUCER_RETIRED = (
    *("cover_music", "extend_music", "extend_upload_music", "replace_music"),
    *("replace_upload_music", "swap_music_vocals", "swap_music_sound", "music_variation"),
    *("cover", "extend", "extend_upload", "replace", "replace_upload"),
)
PRODUCER = (
    Operation(
        "/producer/create",
        "create_music",
        {
            "sound": TEXT,
            "lyrics": TEXT,
            "title": TITLE,
            "mv": TEXT,
            "seed": Scalar(),
            "bpm": Scalar(),
            "length": Number(least=1, most=240),
            "make_instrumental": FLAG,
            **HOOK,
        },
        rules=(AtLeastOne(("sound", "lyrics")),),
        price=10,
        when={"task_type": "create_music"},
        clips=1,
        webhook=True,
    ),
    *(
        Operation("/producer/create", name, {}, when={"task_type": name}, retired=True)
        for name in PRODUCER_RETIRED
    ),
    Operation(
        "/producer/lyrics-create",
        "make_lyrics",
        {"prompt": TEXT, "description": TEXT},
        rules=(AtLeastOne(("prompt", "description")),),
        result=Result.LYRICS,
    ),
    _of_clip("/producer/video-clip", "video_clip", price=5, result=Result.VIDEO),
    Operation(
        "/producer/upload",
        "upload",
        {"audio_url": URL, "url": URL, **HOOK},
        rules=(AtLeastOne(("audio_url", "url")),),
        price=2,
        result=Result.UPLOAD,
        webhook=True,
    ),
    _of_clip(
        "/producer/download",
        "download",
        fields={"format": Choice(("mp3", "wav")), **HOOK},
        price=2,
        result=Result.FILE,
        webhook=True,
    ),
)

RIFFUSION_FIELDS: dict[str, Field] = {
    "mv": Choice(("FUZZ-1.1 Pro", "FUZZ-1.1", "FUZZ-1.0 Pro", "FUZZ-1.0")),
    "custom_mode": FLAG,
    "prompt": Text(200),
    "lyrics": Text(3000),
    "sound": Text(200),
    "title": TITLE,
    "make_instrumental": FLAG,
    "continue_clip_id": CLIP,
    "continue_at": AFTER_START,
    "replace_start_time": NUMBER,
    "replace_end_time": NUMBER,
    "vocal_variation": WEIGHT,
}


def _riffusion(
    names: tuple[str, ...], *required: str, rules: tuple[Rule, ...] = ()
) -> Iterator[Operation]:
    """Make the rows of a song and of an uploaded one (part 2 §3.10)."""
    for name in names:
        yield Operation(
            "/riffusion/create",
            name,
            RIFFUSION_FIELDS,
            ("custom_mode", *required),
            rules=(RequiredWhen("prompt", "custom_mode", False), *rules),
            price=10,
            when={"task_type": name},
            clips=2,
            sources=("continue_clip_id",),
        )


SOURCE = "continue_clip_id"
RIFFUSION = (
    *_riffusion(("create_music",), rules=(RequiredWhen("make_instrumental", "custom_mode", True),)),
    *_riffusion(("extend_music", "extend_upload_music"), SOURCE, "continue_at", "lyrics", "sound"),
    *_riffusion(("cover_music", "cover_upload_music"), SOURCE),
    *_riffusion(
        ("replace_music", "replace_upload_music"),
        *(SOURCE, "replace_start_time", "replace_end_time"),
        rules=(Span("replace_start_time", "replace_end_time"),),
    ),
    *_riffusion(("swap_music_sound", "swap_upload_music_sound"), SOURCE, "lyrics"),
    *_riffusion(("swap_music_vocals", "swap_upload_music_vocals"), SOURCE, "lyrics"),
    Operation(
        "/riffusion/upload",
        "upload",
        {"url": URL},
        ("url",),
        price=2,
        result=Result.UPLOAD,
        sync=True,
    ),
)


def _any_of(words: tuple[str, ...]) -> Field:
    return Many(Choice(words), 0, 5)


_nuro = partial(Operation, "/nuro/create", price=10, clips=1, webhook=True)
NURO = (  # part 2 §3.9
    _nuro(
        "vocal",
        {
            "lyrics": Text(2000),
            "gender": Choice(("Female", "Male")),
            "genre": Choice(VOCAL_GENRES),
            "mood": Choice(VOCAL_MOODS),
            "timbre": Choice(VOCAL_TIMBRES),
            "duration": Number(least=30, most=240, whole=True),
            **HOOK,
        },
        ("lyrics",),
        when={"type": "vocal"},
    ),
    _nuro(
        "bgm",
        {
            "description": Text(200),
            "duration": Number(least=30, most=120, whole=True),
            **HOOK,
        },
        ("description",),
        rules=(Segments(SEGMENTS),),
        when={"type": "bgm", "version": "v2.0"},
    ),
    _nuro(
        "bgm",
        {
            "version": Choice(("v1.0",)),
            "description": TEXT,
            "genre": _any_of(BGM_GENRES),
            "mood": _any_of(BGM_MOODS),
            "instrument": _any_of(INSTRUMENTS),
            "theme": _any_of(THEMES),
            "duration": Number(least=1, most=60, whole=True),
            **HOOK,
        },
        ("description",),
        when={"type": "bgm"},
    ),
)

OPERATIONS = (*SONIC, *PRODUCER, *RIFFUSION, *NURO)
