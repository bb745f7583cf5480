"""Sonic operations. A declaration is a signature and a docstring; ProviderTask runs it.

Every task takes ``source`` first (nothing, a clip id, a clip, the result of the task before it
in a chain, or a list of these), ``pick`` (which clip of the source: index from 0, or clip id;
default the first that succeeded) and ``extra`` (fields passed to the provider unchecked).

Every task returns ``{"job_id", "operation", "provider_task_id", "clips", "data", "partial"}``.
It raises InvalidRequest before anything is sent; RequestRefused or OutOfCredits when the
provider says no; TaskFailed when it gives up; DeadlineExceeded; SubmissionUnconfirmed when
nobody knows whether it accepted.
"""

from typing import Any, Literal

from worker.app import app
from worker.core.clips import Pick, Source
from worker.core.models import JSONObject
from worker.provider_task import provider_task

Extra = dict[str, Any] | None


@provider_task(app, "sonic.create_music")
def create_music(
    source: Source = None,
    *,
    custom_mode: bool,
    mv: str = "sonic-v5",
    prompt: str | None = None,
    gpt_description_prompt: str | None = None,
    title: str | None = None,
    tags: str | None = None,
    negative_tags: str | None = None,
    make_instrumental: bool | None = None,
    auto_lyrics: bool | None = None,
    vocal_gender: Literal["f", "m"] | None = None,
    style_weight: float | None = None,
    weirdness_constraint: float | None = None,
    duration: int | None = None,
    use_suno_cdn: bool = True,
    extra: Extra = None,
) -> JSONObject:
    """Create a song in two versions; about 2 minutes, 14 credits (10 with v3-5 and v4, custom).

    Args:
        source: takes no clip; after another task in a chain, use ``.si(…)``.
        custom_mode: true: ``prompt`` holds the lyrics; false: ``gpt_description_prompt``
            describes the song.
        mv: the model, ``sonic-v3-5`` to ``sonic-v6`` (or ``chirp-…``).
        prompt: lyrics, up to 5,000 characters (3,000 with v3-5 and v4).
        gpt_description_prompt: up to 400 characters.
        title: up to 80 characters.
        tags: the style, up to 1,000 characters (200 with v3-5 and v4).
        negative_tags: up to 200 characters.
        auto_lyrics: with custom_mode: ``prompt`` describes the lyrics.
        style_weight, weirdness_constraint: 0 to 1.
        duration: a target in seconds, 10 to 360.

    ``create_music.delay(custom_mode=False, gpt_description_prompt="a calm piano piece")``
    """


@provider_task(app, "sonic.remaster")
def remaster(
    source: Source = None,
    *,
    continue_clip_id: str | None = None,
    mv: str = "sonic-v5",
    variation_category: Literal["subtle", "normal", "high"] | None = None,
    use_suno_cdn: bool = True,
    pick: Pick = None,
    extra: Extra = None,
) -> JSONObject:
    """Remaster a clip of the last 24 hours; two versions, about 2 minutes, 10 credits.

    Args:
        continue_clip_id: the clip, where it is not the source.
        mv: the model; the provider's page sends ``chirp-v5``.
        variation_category: how far it may go; documented for v5 only.

    ``remaster.delay("26c9c592-…", mv="chirp-v5", variation_category="subtle")``
    """


@provider_task(app, "sonic.stems_basic")
def stems_basic(
    source: Source = None, *, clip_id: str | None = None, pick: Pick = None, extra: Extra = None
) -> JSONObject:
    """Split a clip into vocals and instrumental; 20 credits. Takes no webhook: it is polled.

    ``(remaster.s("26c9c592-…") | stems_basic.s()).delay()``
    """


@provider_task(app, "sonic.stems_full")
def stems_full(
    source: Source = None, *, clip_id: str | None = None, pick: Pick = None, extra: Extra = None
) -> JSONObject:
    """Split a clip into its instruments, mostly 12; 50 credits. Takes no webhook: it is polled.

    ``(remaster.s("26c9c592-…") | stems_full.s()).delay()``
    """


@provider_task(app, "sonic.wav")
def wav(
    source: Source = None, *, clip_id: str | None = None, pick: Pick = None, extra: Extra = None
) -> JSONObject:
    """Render a clip as WAV; 1 credit. Its address is ``data["wav_url"]``.

    ``wav.delay("26c9c592-…").get()["data"]["wav_url"]``
    """


@provider_task(app, "sonic.midi")
def midi(
    source: Source = None, *, clip_id: str | None = None, pick: Pick = None, extra: Extra = None
) -> JSONObject:
    """Transcribe a song or a stem of the last 24 hours to MIDI; 1 credit.

    ``data`` holds ``midi_url`` and ``instruments``: ``[{"name", "notes": [{"start", "end",
    "pitch", "velocity"}]}]``, times in seconds, pitch as in MIDI, velocity 0 to 1. While the
    provider is still building it, the job waits parked and asks again.

    ``midi.delay("26c9c592-…").get()["data"]["midi_url"]``
    """
