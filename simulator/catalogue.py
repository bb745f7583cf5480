"""The clips that a request may name: those made here, and songs from elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from .books import Books, Clip
from .clips import found_song, is_uuid, named_clips
from .fields import Body
from .operations import Operation
from .replies import Refused
from .settings import Settings


class Catalogue:
    """Finds clips. Any UUID is a song, unless the settings say that clips are strict."""

    def __init__(self, settings: Settings, books: Books, clock: Callable[[], float]) -> None:
        self._settings = settings
        self._books = books
        self._clock = clock

    def sources(self, operation: Operation, body: Body) -> tuple[Clip, ...]:
        """Find the clips a request is about. Raises `Refused` if one cannot be used."""
        clips = tuple(map(self._find, named_clips(operation, body)))
        oldest = self._clock() - self._settings.clip_hours * 3600
        if operation.fresh and any(clip.made_at < oldest for clip in clips):
            raise Refused(self._settings.old_clip_status, "The clip is too old.")
        if operation.sung and not all(clip.lyrics for clip in clips):
            raise Refused(404, "The clip has no lyrics.")
        return clips

    def _find(self, clip_id: str) -> Clip:
        known = self._books.clips.get(clip_id)
        if known is None and (self._settings.strict_clips or not is_uuid(clip_id)):
            raise Refused(404, "clip not found.")
        return known or found_song(clip_id, self._clock())

    def age(self, clip_id: str, hours: float) -> None:
        """Make a clip `hours` old, whether it was made here or not."""
        clip = self._books.clips.get(clip_id) or found_song(clip_id, self._clock())
        self._books.keep(replace(clip, made_at=self._clock() - hours * 3600))
