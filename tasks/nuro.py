"""Nuro operations; `make reference` writes this file from their table.

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


@provider_task(app, "nuro.create_vocal")
def create_vocal(
    source: Source = None,
    *,
    lyrics: str,
    gender: Literal["Female", "Male"] | None = None,
    genre: str | None = None,
    mood: str | None = None,
    timbre: str | None = None,
    duration: int | None = None,
    pick: Pick = None,
    extra: dict[str, Any] | None = None,
) -> JSONObject:
    """Create a song with a voice.

    10 credits; parks until the webhook. Retired by the provider: use ``sonic.create_music``.

    Args:
        lyrics: the words; up to 2000 characters
        gender: the voice
        genre: the genre
        mood: the mood
        timbre: the timbre of the voice
        duration: a target; 30 to 240 s

    Example::

        create_vocal.delay(lyrics="Hold the note")
    """


@provider_task(app, "nuro.create_instrumental")
def create_instrumental(
    source: Source = None,
    *,
    description: str,
    genre: list[str] | None = None,
    mood: list[str] | None = None,
    instrument: list[str] | None = None,
    theme: list[str] | None = None,
    duration: int | None = None,
    pick: Pick = None,
    extra: dict[str, Any] | None = None,
) -> JSONObject:
    """Create background music.

    10 credits; parks until the webhook. Retired by the provider: use ``producer.create_music``.

    Args:
        description: what it should sound like
        genre: genres; up to 5
        mood: moods; up to 5
        instrument: instruments; up to 5
        theme: themes; up to 5
        duration: a target; 1 to 60 s

    Example::

        create_instrumental.delay(description="a calm piano piece")
    """
