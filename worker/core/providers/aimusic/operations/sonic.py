"""Sonic operations (provider-api.md §2, provider-api-2.md §2)."""

from typing import Any, Final

from worker.core.providers.aimusic.fields import RequestSchema
from worker.core.providers.aimusic.operations import sonic_requests as request
from worker.core.providers.aimusic.operations.row import SONIC_TASK, Operation

SONG_SECONDS: Final = 150
LYRICS: Final = {"prompt": "results.{pick}.lyrics", "title": "results.{pick}.title"}


def _create(
    name: str, task_type: str, schema: type[RequestSchema], summary: str, **columns: Any
) -> Operation:
    """Make a row of ``POST /sonic/create``: all its task types take the webhook pair."""
    defaults: dict[str, Any] = {"clip_field": "continue_clip_id", "credits": 10}
    return Operation(
        name=f"sonic.{name}",
        path="/sonic/create",
        schema=schema,
        summary=summary,
        fixed={"task_type": task_type},
        poll_path=SONIC_TASK,
        takes_webhook=True,
        expected_seconds=SONG_SECONDS,
        **defaults | columns,
    )


def _task(
    name: str, path: str, schema: type[RequestSchema], summary: str, **columns: Any
) -> Operation:
    """Make a row of an endpoint of its own that starts a task."""
    defaults: dict[str, Any] = {"takes_webhook": True, "expected_seconds": SONG_SECONDS}
    return Operation(
        name=f"sonic.{name}",
        path=f"/sonic/{path}",
        schema=schema,
        summary=summary,
        poll_path=SONIC_TASK,
        **defaults | columns,
    )


def _direct(
    name: str, path: str, schema: type[RequestSchema], summary: str, **columns: Any
) -> Operation:
    """Make a row of an endpoint whose answer is the result."""
    defaults: dict[str, Any] = {"clip_field": "clip_id", "credits": 1, "deadline_seconds": 900}
    return Operation(
        name=f"sonic.{name}",
        path=f"/sonic/{path}",
        schema=schema,
        summary=summary,
        **defaults | columns,
    )


ROWS = (
    _create(
        "create_music", "create_music", request.CreateMusic,
        "Create a song in two versions, from lyrics, a description, or the result of "
        "`lyrics.generate`; about 2 minutes. 10 credits with v3-5 and v4 in custom mode.",
        clip_field=None, carries=LYRICS, credits=14,
    ),
    _create(
        "extend", "extend_music", request.Extend,
        "Extend a clip from a moment on; `sonic.concat` joins the parts.",
    ),
    _create(
        "cover", "cover_music", request.Cover,
        "Cover a clip in another style. 10 credits with v3-5 and v4 in custom mode.",
        credits=14,
    ),
    _create(
        "concat", "concat_music", request.Concat,
        "Join an extension with what it extends into the whole song.", credits=2,
    ),
    _create(
        "persona_music", "persona_music", request.PersonaMusic,
        "Create a song with the voice of a persona.",
        clip_field=None, carries={"persona_id": "persona_id"},
    ),
    _create(
        "remaster", "remaster", request.Remaster,
        "Remaster a clip of the last 24 hours in two versions; about 2 minutes.",
    ),
    _create(
        "add_vocals", "add_vocals", request.AddVocals,
        "Sing over an instrumental clip that was uploaded in the last 24 hours.",
    ),
    _create(
        "add_instrumental", "add_instrumental", request.AddInstrumental,
        "Accompany a clip of voices that was uploaded in the last 24 hours.",
    ),
    _task(
        "upload_extend", "upload-extend", request.UploadExtend,
        "Upload a song and extend it; the request itself takes 30 to 60 seconds.",
        submit_seconds=120, credits=12,
    ),
    _task(
        "upload_cover", "upload-cover", request.UploadCover,
        "Upload a song and cover it; the request itself takes 30 to 60 seconds.",
        submit_seconds=120, credits=16,
    ),
    _direct(
        "upload", "upload", request.Upload,
        "Upload a song by its public address; the result's clip is its handle.",
        clip_field=None, submit_seconds=60, credits=2,
    ),
    _task(
        "upload_async",
        "upload",
        request.Upload,
        "Upload a song without waiting for it in the request; otherwise as `sonic.upload`.",
        takes_webhook=False,
        callback_field="callback_url",
        submit_seconds=60,
        expected_seconds=20,
        credits=2,
    ),
    _direct(
        "create_persona", "persona", request.CreatePersona,
        "Create a persona from a clip, or from the result of `sonic.vox`: `data.persona_id`. "
        "The newest pages mark it unavailable.",
        carries={"vox_audio_id": "vox_audio_id"},
    ),
    _task(
        "create_voice", "create-voice", request.CreateVoice,
        "Create a persona from a recording of one speaker: `data.persona_id`.",
        makes_clips=False, credits=4,
    ),
    _task(
        "sample", "sample", request.Sample,
        "Create a song around a sample of a clip or of a file.",
        clip_field="sample_clip_id", credits=14,
    ),
    _task(
        "mashup", "mashup", request.Mashup,
        "Create a song out of two clips; the source is a list of two results.",
        clip_field="mashup_clip_ids", clips=2, credits=14,
    ),
    _task(
        "replace_section", "replace-section", request.ReplaceSection,
        "Replace a section of a clip; 1 to 3 minutes.", clip_field="clip_id", credits=10,
    ),
    _task(
        "stems_basic", "stems/basic", request.OnClip,
        "Split a clip into vocals and instrumental.",
        clip_field="clip_id", takes_webhook=False, expected_seconds=20, credits=20,
    ),
    _task(
        "stems_full", "stems/full", request.OnClip,
        "Split a clip into its instruments, mostly 12; `stem_type` names each.",
        clip_field="clip_id", takes_webhook=False, expected_seconds=20, credits=50,
    ),
    _direct(
        "bpm", "bpm", request.OnRecentClip,
        "Measure the tempo: `data` is `{avg_bpm, max_bpm, min_bpm}`.",
    ),
    _direct(
        "vox", "vox", request.Vox,
        "Take the voices out of a clip, for `sonic.create_persona`: `data.vox_audio_id`.",
    ),
    _direct("wav", "wav", request.OnClip, "Render a clip as WAV: `data.wav_url`."),
    _direct(
        "midi", "midi", request.OnRecentClip,
        "Transcribe a song or a stem to MIDI: `data.midi_url`, and `data.instruments`, a list "
        "of `{name, notes: [{start, end, pitch, velocity}]}` (seconds, MIDI pitch, 0 to 1).",
        asked_again=True,
    ),
    _direct(
        "lyrics_timeline", "aligned-lyrics", request.OnClip,
        "Align the lyrics with the audio: `data.alignment` is a list of `{word, start_s, end_s, "
        "p_align, success}`. An instrumental has none: RequestRefused. Free after the first time.",
        repeatable=True,
    ),
    _direct(
        "upsample_tags", "upsample-tags", request.UpsampleTags,
        "Spell a style out: `data.upsampled_tags`.", clip_field=None, makes_clips=False,
    ),
    _direct(
        "download", "download", request.Download,
        "Get a clip as files: `data.files` is a list of `{format, url}`.",
        asked_again=True, again_seconds=3, credits=2,
    ),
)  # fmt: skip
