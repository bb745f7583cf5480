"""Sonic operations; `make reference` writes this file from their table.

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


@provider_task(app, "sonic.create_music")
def create_music(
    source: Source = None,
    *,
    custom_mode: bool,
    mv: str = "sonic-v5",
    prompt: str | None = None,
    title: str | None = None,
    tags: str | None = None,
    negative_tags: str | None = None,
    vocal_gender: Literal["f", "m"] | None = None,
    style_weight: float | None = None,
    weirdness_constraint: float | None = None,
    gpt_description_prompt: str | None = None,
    make_instrumental: bool | None = None,
    auto_lyrics: bool | None = None,
    use_suno_cdn: bool = True,
    duration: int | None = None,
    pick: Pick = None,
    extra: dict[str, Any] | None = None,
) -> JSONObject:
    """Create a song in two versions, from lyrics, a description, or the result of
    ``lyrics.generate``; about 2 minutes. 10 credits with v3-5 and v4 in custom mode.

    14 credits; parks until the webhook.

    Args:
        custom_mode: true: ``prompt`` holds the lyrics; false: ``gpt_description_prompt``
            describes the song
        mv: the model: ``sonic-`` or ``chirp-`` and v3-5, v4, v4-5, v4-5-plus, v5, v5-5, v6,
            v6-wild, v6-mini
        prompt: the lyrics: 5,000 characters, 3,000 with v3-5 and v4
        title: the title; up to 80 characters
        tags: the style: 1,000 characters, 200 with v3-5 and v4
        negative_tags: what to avoid; up to 200 characters
        vocal_gender: the voice; v4-5 and later
        style_weight: how closely to follow the style; 0 to 1
        weirdness_constraint: how unusual it may be; 0 to 1
        gpt_description_prompt: a description of the song; up to 400 characters
        make_instrumental: no voices
        auto_lyrics: ``prompt`` describes the lyrics; only with custom_mode
        use_suno_cdn: which addresses the audio gets
        duration: a target; 10 to 360 s

    Example::

        create_music.delay(custom_mode=False, gpt_description_prompt="a calm piano piece")
    """


@provider_task(app, "sonic.extend")
def extend(
    source: Source = None,
    *,
    custom_mode: bool,
    continue_at: float,
    mv: str = "sonic-v5",
    prompt: str | None = None,
    title: str | None = None,
    tags: str | None = None,
    negative_tags: str | None = None,
    vocal_gender: Literal["f", "m"] | None = None,
    style_weight: float | None = None,
    weirdness_constraint: float | None = None,
    gpt_description_prompt: str | None = None,
    make_instrumental: bool | None = None,
    use_suno_cdn: bool = True,
    continue_clip_id: str | None = None,
    audio_weight: float | None = None,
    duration: int | None = None,
    pick: Pick = None,
    extra: dict[str, Any] | None = None,
) -> JSONObject:
    """Extend a clip from a moment on; ``sonic.concat`` joins the parts.

    10 credits; parks until the webhook.

    Args:
        custom_mode: true: ``prompt`` holds the lyrics; false: ``gpt_description_prompt``
            describes the song
        continue_at: where to go on; more than 0 s
        mv: the model: ``sonic-`` or ``chirp-`` and v3-5, v4, v4-5, v4-5-plus, v5, v5-5, v6,
            v6-wild, v6-mini
        prompt: the lyrics: 5,000 characters, 3,000 with v3-5 and v4
        title: the title; up to 80 characters
        tags: the style: 1,000 characters, 200 with v3-5 and v4
        negative_tags: what to avoid; up to 200 characters
        vocal_gender: the voice; v4-5 and later
        style_weight: how closely to follow the style; 0 to 1
        weirdness_constraint: how unusual it may be; 0 to 1
        gpt_description_prompt: a description of the song; up to 400 characters
        make_instrumental: no voices
        use_suno_cdn: which addresses the audio gets
        continue_clip_id: the clip, where it is not the source
        audio_weight: how closely to follow the clip; 0 to 1
        duration: a target; 10 to 360 s

    Example::

        extend.delay("26c9c592-0566-46cf-bb71-91ac1deaa7b5", custom_mode=False, continue_at=10)
    """


@provider_task(app, "sonic.cover")
def cover(
    source: Source = None,
    *,
    custom_mode: bool,
    mv: str = "sonic-v5",
    prompt: str | None = None,
    title: str | None = None,
    tags: str | None = None,
    negative_tags: str | None = None,
    vocal_gender: Literal["f", "m"] | None = None,
    style_weight: float | None = None,
    weirdness_constraint: float | None = None,
    gpt_description_prompt: str | None = None,
    make_instrumental: bool | None = None,
    use_suno_cdn: bool = True,
    continue_clip_id: str | None = None,
    audio_weight: float | None = None,
    duration: int | None = None,
    pick: Pick = None,
    extra: dict[str, Any] | None = None,
) -> JSONObject:
    """Cover a clip in another style. 10 credits with v3-5 and v4 in custom mode.

    14 credits; parks until the webhook.

    Args:
        custom_mode: true: ``prompt`` holds the lyrics; false: ``gpt_description_prompt``
            describes the song
        mv: the model: ``sonic-`` or ``chirp-`` and v3-5, v4, v4-5, v4-5-plus, v5, v5-5, v6,
            v6-wild, v6-mini
        prompt: the lyrics: 5,000 characters, 3,000 with v3-5 and v4
        title: the title; up to 80 characters
        tags: the style: 1,000 characters, 200 with v3-5 and v4
        negative_tags: what to avoid; up to 200 characters
        vocal_gender: the voice; v4-5 and later
        style_weight: how closely to follow the style; 0 to 1
        weirdness_constraint: how unusual it may be; 0 to 1
        gpt_description_prompt: a description of the song; up to 400 characters
        make_instrumental: no voices
        use_suno_cdn: which addresses the audio gets
        continue_clip_id: the clip, where it is not the source
        audio_weight: how closely to follow the clip; 0 to 1
        duration: a target; 10 to 360 s

    Example::

        cover.delay("26c9c592-0566-46cf-bb71-91ac1deaa7b5", custom_mode=False)
    """


@provider_task(app, "sonic.concat")
def concat(
    source: Source = None,
    *,
    use_suno_cdn: bool = True,
    continue_clip_id: str | None = None,
    pick: Pick = None,
    extra: dict[str, Any] | None = None,
) -> JSONObject:
    """Join an extension with what it extends into the whole song.

    2 credits; parks until the webhook.

    Args:
        use_suno_cdn: which addresses the audio gets
        continue_clip_id: the clip that an extend made, where it is not the source

    Example::

        concat.delay("26c9c592-0566-46cf-bb71-91ac1deaa7b5")
    """


@provider_task(app, "sonic.persona_music")
def persona_music(
    source: Source = None,
    *,
    custom_mode: bool,
    mv: str = "sonic-v5",
    prompt: str | None = None,
    title: str | None = None,
    tags: str | None = None,
    negative_tags: str | None = None,
    vocal_gender: Literal["f", "m"] | None = None,
    style_weight: float | None = None,
    weirdness_constraint: float | None = None,
    gpt_description_prompt: str | None = None,
    make_instrumental: bool | None = None,
    auto_lyrics: bool | None = None,
    use_suno_cdn: bool = True,
    duration: int | None = None,
    persona_id: str | None = None,
    pick: Pick = None,
    extra: dict[str, Any] | None = None,
) -> JSONObject:
    """Create a song with the voice of a persona.

    10 credits; parks until the webhook.

    Args:
        custom_mode: true: ``prompt`` holds the lyrics; false: ``gpt_description_prompt``
            describes the song
        mv: the model: ``sonic-`` or ``chirp-`` and v3-5, v4, v4-5, v4-5-plus, v5, v5-5, v6,
            v6-wild, v6-mini
        prompt: the lyrics: 5,000 characters, 3,000 with v3-5 and v4
        title: the title; up to 80 characters
        tags: the style: 1,000 characters, 200 with v3-5 and v4
        negative_tags: what to avoid; up to 200 characters
        vocal_gender: the voice; v4-5 and later
        style_weight: how closely to follow the style; 0 to 1
        weirdness_constraint: how unusual it may be; 0 to 1
        gpt_description_prompt: a description of the song; up to 400 characters
        make_instrumental: no voices
        auto_lyrics: ``prompt`` describes the lyrics; only with custom_mode
        use_suno_cdn: which addresses the audio gets
        duration: a target; 10 to 360 s
        persona_id: the persona, where it is not the source

    Example::

        persona_music.delay(persona_id="0b7b9a52-3c39-4d6e-9f6c-6f0a0f7c2d11", custom_mode=True,
            prompt="[Verse] Hold the note")
    """


@provider_task(app, "sonic.remaster")
def remaster(
    source: Source = None,
    *,
    use_suno_cdn: bool = True,
    mv: str = "sonic-v5",
    continue_clip_id: str | None = None,
    variation_category: Literal["subtle", "normal", "high"] | None = None,
    pick: Pick = None,
    extra: dict[str, Any] | None = None,
) -> JSONObject:
    """Remaster a clip of the last 24 hours in two versions; about 2 minutes.

    10 credits; parks until the webhook.

    Args:
        use_suno_cdn: which addresses the audio gets
        mv: the model: ``sonic-`` or ``chirp-`` and v3-5, v4, v4-5, v4-5-plus, v5, v5-5, v6,
            v6-wild, v6-mini
        continue_clip_id: a clip made through the API in the last 24 hours, where it is not the
            source
        variation_category: how far it may go; documented for v5

    Example::

        remaster.delay("26c9c592-0566-46cf-bb71-91ac1deaa7b5", mv="chirp-v5",
            variation_category="subtle")
    """


@provider_task(app, "sonic.add_vocals")
def add_vocals(
    source: Source = None,
    *,
    prompt: str,
    mv: str = "sonic-v5",
    title: str | None = None,
    tags: str | None = None,
    negative_tags: str | None = None,
    vocal_gender: Literal["f", "m"] | None = None,
    style_weight: float | None = None,
    weirdness_constraint: float | None = None,
    use_suno_cdn: bool = True,
    continue_clip_id: str | None = None,
    audio_weight: float | None = None,
    overpainting_start_s: float | None = None,
    overpainting_end_s: float | None = None,
    pick: Pick = None,
    extra: dict[str, Any] | None = None,
) -> JSONObject:
    """Sing over an instrumental clip that was uploaded in the last 24 hours.

    10 credits; parks until the webhook.

    Args:
        prompt: the lyrics: 5,000 characters, 3,000 with v3-5 and v4
        mv: the model: ``sonic-`` or ``chirp-`` and v3-5, v4, v4-5, v4-5-plus, v5, v5-5, v6,
            v6-wild, v6-mini
        title: the title; up to 80 characters
        tags: the style: 1,000 characters, 200 with v3-5 and v4
        negative_tags: what to avoid; up to 200 characters
        vocal_gender: the voice; v4-5 and later
        style_weight: how closely to follow the style; 0 to 1
        weirdness_constraint: how unusual it may be; 0 to 1
        use_suno_cdn: which addresses the audio gets
        continue_clip_id: a clip uploaded in the last 24 hours, where it is not the source
        audio_weight: how closely to follow the clip; 0 to 1
        overpainting_start_s: start of the part to work on; 0 or more s
        overpainting_end_s: end of the part to work on; 0 or more s

    Example::

        add_vocals.delay("26c9c592-0566-46cf-bb71-91ac1deaa7b5", prompt="[Verse] Hold the note")
    """


@provider_task(app, "sonic.add_instrumental")
def add_instrumental(
    source: Source = None,
    *,
    mv: str = "sonic-v5",
    prompt: str | None = None,
    title: str | None = None,
    tags: str | None = None,
    negative_tags: str | None = None,
    vocal_gender: Literal["f", "m"] | None = None,
    style_weight: float | None = None,
    weirdness_constraint: float | None = None,
    use_suno_cdn: bool = True,
    continue_clip_id: str | None = None,
    audio_weight: float | None = None,
    overpainting_start_s: float | None = None,
    overpainting_end_s: float | None = None,
    pick: Pick = None,
    extra: dict[str, Any] | None = None,
) -> JSONObject:
    """Accompany a clip of voices that was uploaded in the last 24 hours.

    10 credits; parks until the webhook.

    Args:
        mv: the model: ``sonic-`` or ``chirp-`` and v3-5, v4, v4-5, v4-5-plus, v5, v5-5, v6,
            v6-wild, v6-mini
        prompt: the lyrics: 5,000 characters, 3,000 with v3-5 and v4
        title: the title; up to 80 characters
        tags: the style: 1,000 characters, 200 with v3-5 and v4
        negative_tags: what to avoid; up to 200 characters
        vocal_gender: the voice; v4-5 and later
        style_weight: how closely to follow the style; 0 to 1
        weirdness_constraint: how unusual it may be; 0 to 1
        use_suno_cdn: which addresses the audio gets
        continue_clip_id: a clip uploaded in the last 24 hours, where it is not the source
        audio_weight: how closely to follow the clip; 0 to 1
        overpainting_start_s: start of the part to work on; 0 or more s
        overpainting_end_s: end of the part to work on; 0 or more s

    Example::

        add_instrumental.delay("26c9c592-0566-46cf-bb71-91ac1deaa7b5")
    """


@provider_task(app, "sonic.upload_extend")
def upload_extend(
    source: Source = None,
    *,
    custom_mode: bool,
    url: str,
    mv: str = "sonic-v5",
    prompt: str | None = None,
    title: str | None = None,
    tags: str | None = None,
    negative_tags: str | None = None,
    vocal_gender: Literal["f", "m"] | None = None,
    style_weight: float | None = None,
    weirdness_constraint: float | None = None,
    gpt_description_prompt: str | None = None,
    make_instrumental: bool | None = None,
    audio_weight: float | None = None,
    auto_concat: bool | None = None,
    duration: int | None = None,
    continue_at: float | None = None,
    pick: Pick = None,
    extra: dict[str, Any] | None = None,
) -> JSONObject:
    """Upload a song and extend it; the request itself takes 30 to 60 seconds.

    12 credits; parks until the webhook.

    Args:
        custom_mode: true: ``prompt`` holds the lyrics; false: ``gpt_description_prompt``
            describes the song
        url: a public address of the audio: the provider downloads it itself
        mv: the model: ``sonic-`` or ``chirp-`` and v3-5, v4, v4-5, v4-5-plus, v5, v5-5, v6,
            v6-wild, v6-mini
        prompt: the lyrics: 5,000 characters, 3,000 with v3-5 and v4
        title: the title; up to 80 characters
        tags: the style: 1,000 characters, 200 with v3-5 and v4
        negative_tags: what to avoid
        vocal_gender: the voice; v4-5 and later
        style_weight: how closely to follow the style; 0 to 1
        weirdness_constraint: how unusual it may be; 0 to 1
        gpt_description_prompt: a description of the song; up to 400 characters
        make_instrumental: no voices
        audio_weight: how closely to follow the audio; 0 to 1
        auto_concat: also join the result with its source: ``full`` beside it
        duration: a target; 10 to 360 s
        continue_at: where to go on; 0.1 is the start; more than 0 s

    Example::

        upload_extend.delay(custom_mode=False, url="https://example.com/url.mp3")
    """


@provider_task(app, "sonic.upload_cover")
def upload_cover(
    source: Source = None,
    *,
    custom_mode: bool,
    url: str,
    mv: str = "sonic-v5",
    prompt: str | None = None,
    title: str | None = None,
    tags: str | None = None,
    negative_tags: str | None = None,
    vocal_gender: Literal["f", "m"] | None = None,
    style_weight: float | None = None,
    weirdness_constraint: float | None = None,
    gpt_description_prompt: str | None = None,
    make_instrumental: bool | None = None,
    audio_weight: float | None = None,
    auto_concat: bool | None = None,
    duration: int | None = None,
    pick: Pick = None,
    extra: dict[str, Any] | None = None,
) -> JSONObject:
    """Upload a song and cover it; the request itself takes 30 to 60 seconds.

    16 credits; parks until the webhook.

    Args:
        custom_mode: true: ``prompt`` holds the lyrics; false: ``gpt_description_prompt``
            describes the song
        url: a public address of the audio: the provider downloads it itself
        mv: the model: ``sonic-`` or ``chirp-`` and v3-5, v4, v4-5, v4-5-plus, v5, v5-5, v6,
            v6-wild, v6-mini
        prompt: the lyrics: 5,000 characters, 3,000 with v3-5 and v4
        title: the title; up to 80 characters
        tags: the style: 1,000 characters, 200 with v3-5 and v4
        negative_tags: what to avoid
        vocal_gender: the voice; v4-5 and later
        style_weight: how closely to follow the style; 0 to 1
        weirdness_constraint: how unusual it may be; 0 to 1
        gpt_description_prompt: a description of the song; up to 400 characters
        make_instrumental: no voices
        audio_weight: how closely to follow the audio; 0 to 1
        auto_concat: also join the result with its source: ``full`` beside it
        duration: a target; 10 to 360 s

    Example::

        upload_cover.delay(custom_mode=False, url="https://example.com/url.mp3")
    """


@provider_task(app, "sonic.upload")
def upload(
    source: Source = None,
    *,
    url: str,
    pick: Pick = None,
    extra: dict[str, Any] | None = None,
) -> JSONObject:
    """Upload a song by its public address; the result's clip is its handle.

    2 credits; answers at once, or is asked again.

    Args:
        url: a public address of the audio, up to 8 minutes, no copyrighted music

    Example::

        upload.delay(url="https://example.com/url.mp3")
    """


@provider_task(app, "sonic.upload_async")
def upload_async(
    source: Source = None,
    *,
    url: str,
    pick: Pick = None,
    extra: dict[str, Any] | None = None,
) -> JSONObject:
    """Upload a song without waiting for it in the request; otherwise as ``sonic.upload``.

    2 credits; parks, and is polled: it takes no webhook.

    Args:
        url: a public address of the audio, up to 8 minutes, no copyrighted music

    Example::

        upload_async.delay(url="https://example.com/url.mp3")
    """


@provider_task(app, "sonic.create_persona")
def create_persona(
    source: Source = None,
    *,
    name: str,
    clip_id: str | None = None,
    describe: str | None = None,
    styles: str | None = None,
    vox_audio_id: str | None = None,
    vocal_start_s: float | None = None,
    vocal_end_s: float | None = None,
    pick: Pick = None,
    extra: dict[str, Any] | None = None,
) -> JSONObject:
    """Create a persona from a clip, or from the result of ``sonic.vox``: ``data.persona_id``.
    The newest pages mark it unavailable.

    1 credit; answers at once, or is asked again.

    Args:
        name: the persona's name; up to 79 characters
        clip_id: a clip made through the API in the last 24 hours, where it is not the source
        describe: what it is like
        styles: its styles; up to 2000 characters
        vox_audio_id: voices that ``sonic.vox`` took from the clip
        vocal_start_s: start of the voices; 0 or more s
        vocal_end_s: end of the voices; 0 or more s

    Example::

        create_persona.delay("26c9c592-0566-46cf-bb71-91ac1deaa7b5", name="Ada")
    """


@provider_task(app, "sonic.create_voice")
def create_voice(
    source: Source = None,
    *,
    audio_url: str,
    pick: Pick = None,
    extra: dict[str, Any] | None = None,
) -> JSONObject:
    """Create a persona from a recording of one speaker: ``data.persona_id``.

    4 credits; parks until the webhook.

    Args:
        audio_url: MP3 or WAV, longer than 10 s, one clear speaker

    Example::

        create_voice.delay(audio_url="https://example.com/audio_url.mp3")
    """


@provider_task(app, "sonic.sample")
def sample(
    source: Source = None,
    *,
    custom_mode: bool,
    make_instrumental: bool,
    chop_sample_start_s: float,
    chop_sample_end_s: float,
    mv: str = "sonic-v5",
    prompt: str | None = None,
    title: str | None = None,
    tags: str | None = None,
    negative_tags: str | None = None,
    vocal_gender: Literal["f", "m"] | None = None,
    style_weight: float | None = None,
    weirdness_constraint: float | None = None,
    gpt_description_prompt: str | None = None,
    auto_lyrics: bool | None = None,
    audio_weight: float | None = None,
    url: str | None = None,
    sample_clip_id: str | None = None,
    pick: Pick = None,
    extra: dict[str, Any] | None = None,
) -> JSONObject:
    """Create a song around a sample of a clip or of a file.

    14 credits; parks until the webhook.

    Args:
        custom_mode: true: ``prompt`` holds the lyrics; false: ``gpt_description_prompt``
            describes the song
        make_instrumental: no voices
        chop_sample_start_s: start of the sample; 0 or more s
        chop_sample_end_s: end of the sample; 0 or more s
        mv: the model: ``sonic-`` or ``chirp-`` and v3-5, v4, v4-5, v4-5-plus, v5, v5-5, v6,
            v6-wild, v6-mini
        prompt: the lyrics: 5,000 characters, 3,000 with v3-5 and v4
        title: the title; up to 80 characters
        tags: the style; up to 200 characters
        negative_tags: what to avoid
        vocal_gender: the voice; v4-5 and later
        style_weight: how closely to follow the style; 0 to 1
        weirdness_constraint: how unusual it may be; 0 to 1
        gpt_description_prompt: a description of the song; up to 400 characters
        auto_lyrics: ``prompt`` describes the lyrics; only with custom_mode
        audio_weight: how closely to follow the sample; 0 to 1
        url: a public address of the audio, instead of a clip
        sample_clip_id: the clip, where it is not the source

    Example::

        sample.delay("26c9c592-0566-46cf-bb71-91ac1deaa7b5", custom_mode=False,
            make_instrumental=False, chop_sample_start_s=10, chop_sample_end_s=30)
    """


@provider_task(app, "sonic.mashup")
def mashup(
    source: Source = None,
    *,
    custom_mode: bool,
    mv: str = "sonic-v5",
    prompt: str | None = None,
    title: str | None = None,
    tags: str | None = None,
    negative_tags: str | None = None,
    vocal_gender: Literal["f", "m"] | None = None,
    style_weight: float | None = None,
    weirdness_constraint: float | None = None,
    gpt_description_prompt: str | None = None,
    make_instrumental: bool | None = None,
    auto_lyrics: bool | None = None,
    audio_weight: float | None = None,
    mashup_clip_ids: list[str] | None = None,
    pick: Pick = None,
    extra: dict[str, Any] | None = None,
) -> JSONObject:
    """Create a song out of two clips; the source is a list of two results.

    14 credits; parks until the webhook.

    Args:
        custom_mode: true: ``prompt`` holds the lyrics; false: ``gpt_description_prompt``
            describes the song
        mv: the model: ``sonic-`` or ``chirp-`` and v3-5, v4, v4-5, v4-5-plus, v5, v5-5, v6,
            v6-wild, v6-mini
        prompt: the lyrics: 5,000 characters, 3,000 with v3-5 and v4
        title: the title; up to 80 characters
        tags: the style; up to 200 characters
        negative_tags: what to avoid
        vocal_gender: the voice; v4-5 and later
        style_weight: how closely to follow the style; 0 to 1
        weirdness_constraint: how unusual it may be; 0 to 1
        gpt_description_prompt: a description of the song; up to 400 characters
        make_instrumental: no voices
        auto_lyrics: ``prompt`` describes the lyrics; only with custom_mode
        audio_weight: how closely to follow the clips; 0 to 1
        mashup_clip_ids: two clips, where they are not the source; exactly 2

    Example::

        mashup.delay(["26c9c592-0566-46cf-bb71-91ac1deaa7b5",
            "37dac592-0566-46cf-bb71-91ac1deaa7b5"], custom_mode=False)
    """


@provider_task(app, "sonic.replace_section")
def replace_section(
    source: Source = None,
    *,
    infill_start_s: float,
    infill_end_s: float,
    clip_id: str | None = None,
    mv: str = "sonic-v5",
    infill_lyrics: str | None = None,
    prompt: str | None = None,
    title: str | None = None,
    tags: str | None = None,
    negative_tags: str | None = None,
    style_weight: float | None = None,
    weirdness_constraint: float | None = None,
    vocal_gender: Literal["f", "m"] | None = None,
    auto_concat: bool | None = None,
    pick: Pick = None,
    extra: dict[str, Any] | None = None,
) -> JSONObject:
    """Replace a section of a clip; 1 to 3 minutes.

    10 credits; parks until the webhook.

    Args:
        infill_start_s: start of the section; 0 or more s
        infill_end_s: end of the section; 0 or more s
        clip_id: the clip, where it is not the source
        mv: the model: ``sonic-`` or ``chirp-`` and v4, v4-5, v4-5-plus, v5, v5-5, v6, v6-wild,
            v6-mini
        infill_lyrics: the words of the section; up to 3000 characters
        prompt: the lyrics of the whole song, as context; up to 5000 characters
        title: the title; up to 80 characters
        tags: the style; up to 1000 characters
        negative_tags: what to avoid; up to 200 characters
        style_weight: how closely to follow the style; 0 to 1
        weirdness_constraint: how unusual it may be; 0 to 1
        vocal_gender: the voice
        auto_concat: also join the section with its song: ``full`` beside it

    Example::

        replace_section.delay("26c9c592-0566-46cf-bb71-91ac1deaa7b5", infill_start_s=10,
            infill_end_s=30)
    """


@provider_task(app, "sonic.stems_basic")
def stems_basic(
    source: Source = None,
    *,
    clip_id: str | None = None,
    pick: Pick = None,
    extra: dict[str, Any] | None = None,
) -> JSONObject:
    """Split a clip into vocals and instrumental.

    20 credits; parks, and is polled: it takes no webhook.

    Args:
        clip_id: the clip, where it is not the source

    Example::

        stems_basic.delay("26c9c592-0566-46cf-bb71-91ac1deaa7b5")
    """


@provider_task(app, "sonic.stems_full")
def stems_full(
    source: Source = None,
    *,
    clip_id: str | None = None,
    pick: Pick = None,
    extra: dict[str, Any] | None = None,
) -> JSONObject:
    """Split a clip into its instruments, mostly 12; ``stem_type`` names each.

    50 credits; parks, and is polled: it takes no webhook.

    Args:
        clip_id: the clip, where it is not the source

    Example::

        stems_full.delay("26c9c592-0566-46cf-bb71-91ac1deaa7b5")
    """


@provider_task(app, "sonic.bpm")
def bpm(
    source: Source = None,
    *,
    clip_id: str | None = None,
    pick: Pick = None,
    extra: dict[str, Any] | None = None,
) -> JSONObject:
    """Measure the tempo: ``data`` is ``{avg_bpm, max_bpm, min_bpm}``.

    1 credit; answers at once, or is asked again.

    Args:
        clip_id: a clip made through the API in the last 24 hours, where it is not the source

    Example::

        bpm.delay("26c9c592-0566-46cf-bb71-91ac1deaa7b5")
    """


@provider_task(app, "sonic.vox")
def vox(
    source: Source = None,
    *,
    clip_id: str | None = None,
    vocal_start_s: float | None = None,
    vocal_end_s: float | None = None,
    pick: Pick = None,
    extra: dict[str, Any] | None = None,
) -> JSONObject:
    """Take the voices out of a clip, for ``sonic.create_persona``: ``data.vox_audio_id``.

    1 credit; answers at once, or is asked again.

    Args:
        clip_id: a clip made through the API in the last 24 hours, where it is not the source
        vocal_start_s: start of the voices; 0 or more s
        vocal_end_s: end of the voices, at most 30 s later; 0 or more s

    Example::

        vox.delay("26c9c592-0566-46cf-bb71-91ac1deaa7b5")
    """


@provider_task(app, "sonic.wav")
def wav(
    source: Source = None,
    *,
    clip_id: str | None = None,
    pick: Pick = None,
    extra: dict[str, Any] | None = None,
) -> JSONObject:
    """Render a clip as WAV: ``data.wav_url``.

    1 credit; answers at once, or is asked again.

    Args:
        clip_id: the clip, where it is not the source

    Example::

        wav.delay("26c9c592-0566-46cf-bb71-91ac1deaa7b5")
    """


@provider_task(app, "sonic.midi")
def midi(
    source: Source = None,
    *,
    clip_id: str | None = None,
    pick: Pick = None,
    extra: dict[str, Any] | None = None,
) -> JSONObject:
    """Transcribe a song or a stem to MIDI: ``data.midi_url``, and ``data.instruments``, a list
    of ``{name, notes: [{start, end, pitch, velocity}]}`` (seconds, MIDI pitch, 0 to 1).

    1 credit; answers at once, or is asked again.

    Args:
        clip_id: a clip made through the API in the last 24 hours, where it is not the source

    Example::

        midi.delay("26c9c592-0566-46cf-bb71-91ac1deaa7b5")
    """


@provider_task(app, "sonic.lyrics_timeline")
def lyrics_timeline(
    source: Source = None,
    *,
    clip_id: str | None = None,
    pick: Pick = None,
    extra: dict[str, Any] | None = None,
) -> JSONObject:
    """Align the lyrics with the audio: ``data.alignment`` is a list of ``{word, start_s, end_s,
    p_align, success}``. An instrumental has none: RequestRefused. Free after the first time.

    1 credit; answers at once, or is asked again.

    Args:
        clip_id: the clip, where it is not the source

    Example::

        lyrics_timeline.delay("26c9c592-0566-46cf-bb71-91ac1deaa7b5")
    """


@provider_task(app, "sonic.upsample_tags")
def upsample_tags(
    source: Source = None,
    *,
    tags: str,
    pick: Pick = None,
    extra: dict[str, Any] | None = None,
) -> JSONObject:
    """Spell a style out: ``data.upsampled_tags``.

    1 credit; answers at once, or is asked again.

    Args:
        tags: the style to spell out

    Example::

        upsample_tags.delay(tags="waltz")
    """


@provider_task(app, "sonic.download")
def download(
    source: Source = None,
    *,
    clip_id: str | None = None,
    formats: list[str] | None = None,
    pick: Pick = None,
    extra: dict[str, Any] | None = None,
) -> JSONObject:
    """Get a clip as files: ``data.files`` is a list of ``{format, url}``.

    2 credits; answers at once, or is asked again.

    Args:
        clip_id: the clip, where it is not the source
        formats: ``mp3``, ``m4a``, ``wav``

    Example::

        download.delay("26c9c592-0566-46cf-bb71-91ac1deaa7b5")
    """
