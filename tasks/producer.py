"""Producer operations; `make reference` writes this file from their table.

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


@provider_task(app, "producer.create_music")
def create_music(
    source: Source = None,
    *,
    sound: str | None = None,
    lyrics: str | None = None,
    title: str | None = None,
    mv: str | None = None,
    seed: str | None = None,
    make_instrumental: bool | None = None,
    bpm: float | None = None,
    length: float | None = None,
    pick: Pick = None,
    extra: dict[str, Any] | None = None,
) -> JSONObject:
    """Create one song with the producer models; 20 to 80 seconds.

    10 credits; parks until the webhook.

    Args:
        sound: the style and the instruments
        lyrics: the words
        title: the title; up to 80 characters
        mv: the model; the provider maps retired names to current ones
        seed: the same seed and request make a similar song
        make_instrumental: no voices; some models ignore it: say so in ``sound``
        bpm: beats per minute; more than 0
        length: a target; 1 to 240 s

    Example::

        create_music.delay(sound="slow waltz, small band")
    """


@provider_task(app, "producer.make_lyrics")
def make_lyrics(
    source: Source = None,
    *,
    prompt: str,
    pick: Pick = None,
    extra: dict[str, Any] | None = None,
) -> JSONObject:
    """Write lyrics; the provider documents neither the field nor the result's shape.

    1 credit; parks, and is polled: it takes no webhook.

    Args:
        prompt: what the lyrics are about

    Example::

        make_lyrics.delay(prompt="a note that is held")
    """


@provider_task(app, "producer.video_clip")
def video_clip(
    source: Source = None,
    *,
    clip_id: str | None = None,
    pick: Pick = None,
    extra: dict[str, Any] | None = None,
) -> JSONObject:
    """Render a music video from a clip; the result's shape is not documented.

    5 credits; parks, and is polled: it takes no webhook.

    Args:
        clip_id: the clip, where it is not the source

    Example::

        video_clip.delay("26c9c592-0566-46cf-bb71-91ac1deaa7b5")
    """


@provider_task(app, "producer.upload")
def upload(
    source: Source = None,
    *,
    audio_url: str,
    pick: Pick = None,
    extra: dict[str, Any] | None = None,
) -> JSONObject:
    """Upload a song by its public address; the result's clip is its handle.

    2 credits; parks until the webhook.

    Args:
        audio_url: a public address of the audio

    Example::

        upload.delay(audio_url="https://example.com/audio_url.mp3")
    """


@provider_task(app, "producer.download")
def download(
    source: Source = None,
    *,
    clip_id: str | None = None,
    format: Literal["mp3", "wav"] = "mp3",
    pick: Pick = None,
    extra: dict[str, Any] | None = None,
) -> JSONObject:
    """Get a producer song as a file: its address is the clip's ``audio_url``.

    2 credits; parks until the webhook.

    Args:
        clip_id: the clip, where it is not the source
        format: the file format

    Example::

        download.delay("26c9c592-0566-46cf-bb71-91ac1deaa7b5")
    """
