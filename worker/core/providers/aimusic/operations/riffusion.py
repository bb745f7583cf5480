"""Riffusion operations: deprecated by the provider (provider-api-2.md §2.1, §3.10). Polled."""

from collections.abc import Iterator, Mapping
from typing import Any

from worker.core.providers.aimusic import fields
from worker.core.providers.aimusic.operations.row import RIFFUSION_TASK, Operation

_MODELS = ("FUZZ-1.1 Pro", "FUZZ-1.1", "FUZZ-1.0 Pro", "FUZZ-1.0")


class _Song(fields.RequestSchema):
    mv = fields.choice("the model", *_MODELS, load_default="FUZZ-1.1 Pro")
    title = fields.text("the title", limit=80)
    vocal_variation = fields.ratio("how much the voices vary")


class CreateMusic(_Song):
    custom_mode = fields.flag("true: from `lyrics`; false: from `prompt`", required=True)
    prompt = fields.text("a description of the song", limit=200)
    lyrics = fields.text("the words", limit=3000)
    sound = fields.text("the style", limit=200)
    make_instrumental = fields.flag("no voices")

    def rules(self, data: Mapping[str, Any]) -> Iterator[fields.Wrong]:
        yield from super().rules(data)
        if data.get("custom_mode") is False:
            yield from fields.require(data, "prompt", "when custom_mode is false")
        elif data.get("custom_mode") and "make_instrumental" not in data:
            yield from fields.require(data, "make_instrumental", "when custom_mode is true")


class _OnClip(_Song):
    continue_clip_id = fields.clip()
    custom_mode = fields.flag("true: from `lyrics`; false: from `prompt`", load_default=True)
    prompt = fields.text("a description", limit=200)

    def rules(self, data: Mapping[str, Any]) -> Iterator[fields.Wrong]:
        yield from super().rules(data)
        if data.get("custom_mode") is False:
            yield from fields.require(data, "prompt", "when custom_mode is false")


class Extend(_OnClip):
    continue_at = fields.number("where to go on", above=0, unit="s", required=True)
    lyrics = fields.text("the words of the new part", least=1, limit=3000, required=True)
    sound = fields.text("the style", least=1, limit=200, required=True)


class Cover(_OnClip):
    lyrics = fields.text("the words", limit=3000)
    sound = fields.text("the style", limit=200)


class ReplaceSection(_OnClip):
    replace_start_time = fields.number("start of the section", 0, unit="s", required=True)
    replace_end_time = fields.number("end of the section", 0, unit="s", required=True)
    lyrics = fields.text("the words of the section", limit=3000)
    sound = fields.text("the style", limit=200)

    def rules(self, data: Mapping[str, Any]) -> Iterator[fields.Wrong]:
        yield from super().rules(data)
        yield from fields.in_order(data, "replace_start_time", "replace_end_time")


class Swap(_OnClip):
    lyrics = fields.text("the words", least=1, limit=3000, required=True)
    sound = fields.text("what changes", limit=200)


class Upload(fields.RequestSchema):
    url = fields.public_url("a public address of copyright-free audio")


def _create(
    name: str, schema: type[fields.RequestSchema], task_type: str, summary: str
) -> Operation:
    return Operation(
        name=f"riffusion.{name}",
        path="/riffusion/create",
        schema=schema,
        summary=summary,
        fixed={"task_type": task_type},
        clip_field="continue_clip_id" if task_type != "create_music" else None,
        poll_path=RIFFUSION_TASK,
        expected_seconds=60,
        songs=2,
        credits=10,
        retired="sonic." + _INSTEAD.get(name, name),
    )


_INSTEAD = {"swap_sound": "cover", "swap_vocals": "add_vocals"}

ROWS = (
    _create("create_music", CreateMusic, "create_music", "Create a song in two versions."),
    _create("extend", Extend, "extend_music", "Extend a clip from a moment on."),
    _create("cover", Cover, "cover_music", "Cover a clip in another style."),
    _create("replace_section", ReplaceSection, "replace_music", "Replace a section of a clip."),
    _create("swap_sound", Swap, "swap_music_sound", "Change the sound of a clip."),
    _create("swap_vocals", Swap, "swap_music_vocals", "Change the voices of a clip."),
    Operation(
        name="riffusion.upload",
        path="/riffusion/upload",
        schema=Upload,
        summary="Upload a song by its public address; the result's clip is its handle.",
        credits=2,
        deadline_seconds=600,
        retired="sonic.upload",
    ),
)
