"""Make clips: new songs, stems, uploads, and songs that were not made here."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from urllib.parse import urlsplit

from .books import Clip
from .fields import Body
from .instruments import STEMS
from .operations import Operation, Result
from .payloads import stem_type
from .songs import Part, compose
from .words import lyrics_for, write_lyrics


def named_clips(operation: Operation, body: Body) -> Iterator[str]:
    """List the ids of the clips a request is about."""
    for name in operation.sources:
        named = body.get(name)
        if isinstance(named, list):
            yield from map(str, named)
        elif named is not None:
            yield str(named)


def new_clips(
    operation: Operation, body: Body, sources: tuple[Clip, ...], now: float
) -> Iterator[Clip]:
    """Make what a request asks for: stems of its source, or songs."""
    for stem in operation.stems:
        yield _stem(sources[0], stem, now)
    count = operation.clips or (operation.result is Result.UPLOAD)
    for _ in range(count * (2 if operation.pairs(body) else 1)):
        clip_id = str(uuid.uuid4())
        lyrics = lyrics_for(body, clip_id, sources[0].lyrics if sources else "")
        title = body.get("title") or _file_title(operation, body) or compose(clip_id).title
        yield Clip(clip_id, str(title), clip_id, now, lyrics)


def _file_title(operation: Operation, body: Body) -> str:
    """Name an uploaded song for its file."""
    if operation.result is not Result.UPLOAD:
        return ""
    address = str(body.get("audio_url") or body.get("url"))
    return urlsplit(address).path.rpartition("/")[2].partition(".")[0]


def _stem(source: Clip, stem: str, now: float) -> Clip:
    title = f"{source.title} ({stem_type(stem)})"
    lyrics = source.lyrics if Part.VOCALS in STEMS[stem] else ""
    return Clip(str(uuid.uuid4()), title, source.source, now, lyrics, stem)


def found_song(clip_id: str, now: float) -> Clip:
    """Take any UUID for a song that was just made elsewhere."""
    return Clip(clip_id, compose(clip_id).title, clip_id, now, write_lyrics(clip_id))


def is_uuid(text: str) -> bool:
    try:
        return str(uuid.UUID(text)) == text.lower()
    except ValueError:
        return False
