"""Riffusion operations; `make reference` writes this file from their table.

Every task takes ``source`` first: nothing, a clip id, a clip, the result of the task before it in
a chain, or a list of these. ``pick`` chooses the clip of a result (index from 0, or clip id; by
default the first that succeeded), and ``extra`` passes fields to the provider unchecked.

Every task returns ``{"job_id", "operation", "provider_task_id", "clips", "data", "partial"}``
and raises one of :mod:`worker.core.errors`.
"""

from typing import Any, Literal

from worker.app import app
from worker.app.job_task import provider_task
from worker.core.job.models import JSONObject
from worker.core.providers.aimusic.sources import Pick, Source


@provider_task(app, "riffusion.create_music")
def create_music(
    source: Source = None,
    *,
    custom_mode: bool,
    mv: Literal["FUZZ-1.1 Pro", "FUZZ-1.1", "FUZZ-1.0 Pro", "FUZZ-1.0"] = "FUZZ-1.1 Pro",
    title: str | None = None,
    vocal_variation: float | None = None,
    prompt: str | None = None,
    lyrics: str | None = None,
    sound: str | None = None,
    make_instrumental: bool | None = None,
    pick: Pick = None,
    extra: dict[str, Any] | None = None,
) -> JSONObject:
    """Create a song in two versions.

    10 credits; parks, and is polled: it takes no webhook. Retired by the provider: use
    ``sonic.create_music``.

    Args:
        custom_mode: true: from ``lyrics``; false: from ``prompt``
        mv: the model
        title: the title; up to 80 characters
        vocal_variation: how much the voices vary; 0 to 1
        prompt: a description of the song; up to 200 characters
        lyrics: the words; up to 3000 characters
        sound: the style; up to 200 characters
        make_instrumental: no voices

    Example::

        create_music.delay(custom_mode=False, prompt="a calm piano piece")
    """


@provider_task(app, "riffusion.extend")
def extend(
    source: Source = None,
    *,
    continue_at: float,
    lyrics: str,
    sound: str,
    mv: Literal["FUZZ-1.1 Pro", "FUZZ-1.1", "FUZZ-1.0 Pro", "FUZZ-1.0"] = "FUZZ-1.1 Pro",
    title: str | None = None,
    vocal_variation: float | None = None,
    continue_clip_id: str | None = None,
    custom_mode: bool = True,
    prompt: str | None = None,
    pick: Pick = None,
    extra: dict[str, Any] | None = None,
) -> JSONObject:
    """Extend a clip from a moment on.

    10 credits; parks, and is polled: it takes no webhook. Retired by the provider: use
    ``sonic.extend``.

    Args:
        continue_at: where to go on; more than 0 s
        lyrics: the words of the new part; up to 3000 characters
        sound: the style; up to 200 characters
        mv: the model
        title: the title; up to 80 characters
        vocal_variation: how much the voices vary; 0 to 1
        continue_clip_id: the clip, where it is not the source
        custom_mode: true: from ``lyrics``; false: from ``prompt``
        prompt: a description; up to 200 characters

    Example::

        extend.delay("26c9c592-0566-46cf-bb71-91ac1deaa7b5", lyrics="Hold the note", sound="slow
            waltz", continue_at=10)
    """


@provider_task(app, "riffusion.cover")
def cover(
    source: Source = None,
    *,
    mv: Literal["FUZZ-1.1 Pro", "FUZZ-1.1", "FUZZ-1.0 Pro", "FUZZ-1.0"] = "FUZZ-1.1 Pro",
    title: str | None = None,
    vocal_variation: float | None = None,
    continue_clip_id: str | None = None,
    custom_mode: bool = True,
    prompt: str | None = None,
    lyrics: str | None = None,
    sound: str | None = None,
    pick: Pick = None,
    extra: dict[str, Any] | None = None,
) -> JSONObject:
    """Cover a clip in another style.

    10 credits; parks, and is polled: it takes no webhook. Retired by the provider: use
    ``sonic.cover``.

    Args:
        mv: the model
        title: the title; up to 80 characters
        vocal_variation: how much the voices vary; 0 to 1
        continue_clip_id: the clip, where it is not the source
        custom_mode: true: from ``lyrics``; false: from ``prompt``
        prompt: a description; up to 200 characters
        lyrics: the words; up to 3000 characters
        sound: the style; up to 200 characters

    Example::

        cover.delay("26c9c592-0566-46cf-bb71-91ac1deaa7b5")
    """


@provider_task(app, "riffusion.replace_section")
def replace_section(
    source: Source = None,
    *,
    replace_start_time: float,
    replace_end_time: float,
    mv: Literal["FUZZ-1.1 Pro", "FUZZ-1.1", "FUZZ-1.0 Pro", "FUZZ-1.0"] = "FUZZ-1.1 Pro",
    title: str | None = None,
    vocal_variation: float | None = None,
    continue_clip_id: str | None = None,
    custom_mode: bool = True,
    prompt: str | None = None,
    lyrics: str | None = None,
    sound: str | None = None,
    pick: Pick = None,
    extra: dict[str, Any] | None = None,
) -> JSONObject:
    """Replace a section of a clip.

    10 credits; parks, and is polled: it takes no webhook. Retired by the provider: use
    ``sonic.replace_section``.

    Args:
        replace_start_time: start of the section; 0 or more s
        replace_end_time: end of the section; 0 or more s
        mv: the model
        title: the title; up to 80 characters
        vocal_variation: how much the voices vary; 0 to 1
        continue_clip_id: the clip, where it is not the source
        custom_mode: true: from ``lyrics``; false: from ``prompt``
        prompt: a description; up to 200 characters
        lyrics: the words of the section; up to 3000 characters
        sound: the style; up to 200 characters

    Example::

        replace_section.delay("26c9c592-0566-46cf-bb71-91ac1deaa7b5", replace_start_time=10,
            replace_end_time=30)
    """


@provider_task(app, "riffusion.swap_sound")
def swap_sound(
    source: Source = None,
    *,
    lyrics: str,
    mv: Literal["FUZZ-1.1 Pro", "FUZZ-1.1", "FUZZ-1.0 Pro", "FUZZ-1.0"] = "FUZZ-1.1 Pro",
    title: str | None = None,
    vocal_variation: float | None = None,
    continue_clip_id: str | None = None,
    custom_mode: bool = True,
    prompt: str | None = None,
    sound: str | None = None,
    pick: Pick = None,
    extra: dict[str, Any] | None = None,
) -> JSONObject:
    """Change the sound of a clip.

    10 credits; parks, and is polled: it takes no webhook. Retired by the provider: use
    ``sonic.cover``.

    Args:
        lyrics: the words; up to 3000 characters
        mv: the model
        title: the title; up to 80 characters
        vocal_variation: how much the voices vary; 0 to 1
        continue_clip_id: the clip, where it is not the source
        custom_mode: true: from ``lyrics``; false: from ``prompt``
        prompt: a description; up to 200 characters
        sound: what changes; up to 200 characters

    Example::

        swap_sound.delay("26c9c592-0566-46cf-bb71-91ac1deaa7b5", lyrics="Hold the note",
            sound="for a brass band")
    """


@provider_task(app, "riffusion.swap_vocals")
def swap_vocals(
    source: Source = None,
    *,
    lyrics: str,
    mv: Literal["FUZZ-1.1 Pro", "FUZZ-1.1", "FUZZ-1.0 Pro", "FUZZ-1.0"] = "FUZZ-1.1 Pro",
    title: str | None = None,
    vocal_variation: float | None = None,
    continue_clip_id: str | None = None,
    custom_mode: bool = True,
    prompt: str | None = None,
    sound: str | None = None,
    pick: Pick = None,
    extra: dict[str, Any] | None = None,
) -> JSONObject:
    """Change the voices of a clip.

    10 credits; parks, and is polled: it takes no webhook. Retired by the provider: use
    ``sonic.add_vocals``.

    Args:
        lyrics: the words; up to 3000 characters
        mv: the model
        title: the title; up to 80 characters
        vocal_variation: how much the voices vary; 0 to 1
        continue_clip_id: the clip, where it is not the source
        custom_mode: true: from ``lyrics``; false: from ``prompt``
        prompt: a description; up to 200 characters
        sound: what changes; up to 200 characters

    Example::

        swap_vocals.delay("26c9c592-0566-46cf-bb71-91ac1deaa7b5", lyrics="Hold the note",
            sound="a low voice")
    """


@provider_task(app, "riffusion.upload")
def upload(
    source: Source = None,
    *,
    url: str,
    pick: Pick = None,
    extra: dict[str, Any] | None = None,
) -> JSONObject:
    """Upload a song by its public address; the result's clip is its handle.

    2 credits; answers at once, or is asked again. Retired by the provider: use
    ``sonic.upload``.

    Args:
        url: a public address of copyright-free audio

    Example::

        upload.delay(url="https://example.com/url.mp3")
    """
