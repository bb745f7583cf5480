"""What can be heard and seen of one song: its takes, and what the jobs after it made of them.

The results of a flow are read as ``docs/operations.md`` describes them: clips in one shape, and in
``data`` the notes, the words in time, the tempo. All of it was written by a stranger, so it is read
tolerantly: what is no note or no link is left out.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from worker.core.archive.links import find_links
from worker.core.job.models import JobId, JSONObject

MOST_JOBS: Final = 50
"""So many jobs after a song are looked at."""
MOST_TRACKS: Final = 24
MOST_NOTES: Final = 20_000
MOST_WORDS: Final = 5_000
_LONGEST: Final = 80
_MOST_LYRICS: Final = 10_000
"""Characters: twice what the longest song has."""


@dataclass(frozen=True, slots=True)
class Part:
    """A job of a flow, and what became of it."""

    job_id: JobId
    operation: str
    after: JobId | None
    """The job that it follows."""
    clip_id: str | None
    """The clip that it worked on."""
    result: JSONObject


@dataclass(frozen=True, slots=True)
class Track:
    """Something to hear: a take, or a stem of one."""

    name: str
    title: str
    job_id: JobId
    clip_id: str
    seconds: float | None
    url: str = field(repr=False)
    """The provider's link, which may end."""
    of: str = ""
    """What a stem was made of."""


@dataclass(frozen=True, slots=True)
class Note:
    """One note. Times are seconds from the beginning of the song."""

    start: float
    end: float
    pitch: int
    """As MIDI counts: 60 is the middle C."""
    velocity: float


@dataclass(frozen=True, slots=True)
class Instrument:
    """The notes of one instrument."""

    name: str
    notes: tuple[Note, ...]
    of: str


@dataclass(frozen=True, slots=True)
class Word:
    """A word of the lyrics, and when it is sung, in seconds."""

    word: str
    start: float
    end: float


@dataclass(frozen=True, slots=True)
class File:
    """A file of the song at the provider."""

    job_id: JobId
    operation: str
    kind: str
    clip_id: str
    of: str
    """The take or stem that it belongs to."""
    url: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Song:
    """A song, and what its flow has brought so far."""

    title: str
    takes: tuple[Track, ...]
    stems: tuple[Track, ...]
    instruments: tuple[Instrument, ...]
    words: tuple[Word, ...]
    lyrics: str
    bpm: float | None
    files: tuple[File, ...]


def parts_of_song(job_id: JobId, flow: Sequence[Part]) -> list[Part]:
    """Choose the jobs of a flow that belong to the song of one of its jobs, the song's own first.

    That is the job itself, or the nearest one before it, that made takes; else the first one that
    did. What another song of the flow was made into belongs to that one.
    """
    known = {part.job_id: part for part in flow}
    line = list(_line(job_id, known))
    own = next((part for part in [*line, *flow] if _takes(part)), line[-1])
    chosen = {own.job_id: own}
    # A job stands behind those that it follows, so one pass finds what follows what was found.
    for part in flow:
        if part.after in chosen and not _takes(part) and len(chosen) <= MOST_JOBS:
            chosen.setdefault(part.job_id, part)
    return list(chosen.values())


def _line(job_id: JobId, known: Mapping[JobId, Part]) -> Iterator[Part]:
    """Yield a job, and those that it follows, the nearest first."""
    seen: set[JobId] = set()
    each = known.get(job_id)
    while each and each.job_id not in seen:
        seen.add(each.job_id)
        yield each
        each = known.get(each.after) if each.after else None


def read_song(parts: Sequence[Part]) -> Song:
    """Read the song of some jobs, the song's own first."""
    takes = tuple(_takes(parts[0])[:MOST_TRACKS])
    # A result that was made of a clip names it by its id alone.
    names = {take.clip_id: take.name for take in takes}
    stems = tuple(stem for part in parts for stem in _stems(part, names))[:MOST_TRACKS]
    names |= {stem.clip_id: stem.name for stem in stems}
    data = [_data(part) for part in parts]
    return Song(
        title=next((track.title for track in (*takes, *stems) if track.title), ""),
        takes=takes,
        stems=stems,
        instruments=tuple(_within_reason(each for part in parts for each in _notes(part, names))),
        words=tuple(next(filter(None, map(_words, data)), []))[:MOST_WORDS],
        lyrics=next(filter(None, map(_lyrics, _clips(parts[0]))), ""),
        bpm=next(filter(None, (_number(each.get("avg_bpm")) for each in data)), None),
        files=tuple(each for part in parts for each in _files(part, names)),
    )


def _data(part: Part) -> JSONObject:
    data = part.result.get("data")
    return data if isinstance(data, dict) else {}


def _clips(part: Part) -> list[JSONObject]:
    return _objects(part.result.get("clips"))


def _audible(part: Part) -> list[JSONObject]:
    succeeded = (clip for clip in _clips(part) if clip.get("state") == "succeeded")
    return [clip for clip in succeeded if _text(clip.get("audio_url"))]


def _is_stem(part: Part, clip: JSONObject) -> bool:
    # Not each stem has a type: some are named by their title alone (provider-api.md §3.6).
    return bool(clip.get("stem_type")) or "stems" in part.operation


def _takes(part: Part) -> list[Track]:
    clips = [clip for clip in _audible(part) if not _is_stem(part, clip)]
    return [_track(part, clip, f"Take {number}") for number, clip in enumerate(clips, 1)]


def _stems(part: Part, names: Mapping[str, str]) -> list[Track]:
    clips = [clip for clip in _audible(part) if _is_stem(part, clip)]
    of = names.get(part.clip_id or "", "")
    return [
        _track(
            part, clip, _text(clip.get("stem_type") or clip.get("title")) or f"Stem {number}", of
        )
        for number, clip in enumerate(clips, 1)
    ]


def _track(part: Part, clip: JSONObject, name: str, of: str = "") -> Track:
    return Track(
        name=name,
        title=_text(clip.get("title")),
        job_id=part.job_id,
        clip_id=_text(clip.get("clip_id")),
        seconds=_number(clip.get("duration_seconds")),
        url=clip["audio_url"],
        of=of,
    )


def _notes(part: Part, names: Mapping[str, str]) -> Iterator[Instrument]:
    for each in _objects(_data(part).get("instruments")):
        notes = [note for one in _objects(each.get("notes")) if (note := _note(one))]
        if notes:
            of = names.get(part.clip_id or "", "")
            ordered = sorted(notes, key=lambda note: (note.start, note.pitch))
            yield Instrument(_text(each.get("name")) or "Instrument", tuple(ordered), of)


def _note(said: JSONObject) -> Note | None:
    start, end = _number(said.get("start")), _number(said.get("end"))
    pitch, velocity = _number(said.get("pitch")), _number(said.get("velocity"))
    if start is None or end is None or pitch is None or not 0 <= pitch <= 127:
        return None
    return Note(start, end, int(pitch), 1.0 if velocity is None else velocity)


def _within_reason(instruments: Iterator[Instrument]) -> Iterator[Instrument]:
    left = MOST_NOTES
    for each in instruments:
        if left > 0:
            yield Instrument(each.name, each.notes[:left], each.of)
        left -= len(each.notes)


def _words(data: JSONObject) -> list[Word]:
    found = []
    for each in _objects(data.get("alignment")):
        start, end = _number(each.get("start_s")), _number(each.get("end_s"))
        if start is not None and end is not None and (word := _text(each.get("word"))):
            found.append(Word(word, start, end))
    return found


def _lyrics(clip: JSONObject) -> str:
    lyrics = clip.get("lyrics")
    return lyrics[:_MOST_LYRICS] if isinstance(lyrics, str) else ""


def _files(part: Part, names: Mapping[str, str]) -> list[File]:
    return [
        File(
            part.job_id,
            part.operation,
            link.kind,
            link.clip_id,
            names.get(link.clip_id, ""),
            link.url,
        )
        for link in find_links(part.result)
    ]


def _objects(value: Any) -> list[JSONObject]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def _number(value: Any) -> float | None:
    # In Python true is a number, and JSON may hold one that is none.
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def _text(value: Any) -> str:
    return value[:_LONGEST] if isinstance(value, str) else ""
