"""Write songs as standard MIDI files, and list the same notes as `/sonic/midi` does."""

from __future__ import annotations

import io
from collections.abc import Iterable
from itertools import chain
from typing import Any

import mido

from .instruments import INSTRUMENTS, STEMS, instrument_name
from .songs import KITS, TICKS_PER_BEAT, Note, Part, Song, compose

DRUM_CHANNEL = 9


def render_midi(clip_id: str, stem: str = "") -> bytes:
    """Write the song, or one stem, as a standard MIDI file with a track for each part."""
    song = compose(clip_id)
    file = mido.MidiFile(ticks_per_beat=TICKS_PER_BEAT)
    tempo = mido.MetaMessage("set_tempo", tempo=song.microseconds_per_beat, time=0)
    file.tracks.append(mido.MidiTrack([tempo]))
    pitched = (channel for channel in range(16) if channel != DRUM_CHANNEL)
    for part in STEMS[stem]:
        channel = DRUM_CHANNEL if part in KITS else next(pitched)
        file.tracks.append(_midi_track(part, song.notes(part), channel))
    buffer = io.BytesIO()
    file.save(file=buffer)
    return buffer.getvalue()


def _midi_track(part: Part, notes: Iterable[Note], channel: int) -> mido.MidiTrack:
    name = mido.MetaMessage("track_name", name=instrument_name(part), time=0)
    program = INSTRUMENTS[part].program
    track = mido.MidiTrack([name, mido.Message("program_change", channel=channel, program=program)])
    events = chain.from_iterable(
        ((n.end, "note_off", n.pitch, 0), (n.start, "note_on", n.pitch, n.velocity)) for n in notes
    )
    now = 0
    for tick, kind, pitch, velocity in sorted(events):
        message = mido.Message(kind, channel=channel, note=pitch, velocity=velocity)
        track.append(message.copy(time=tick - now))
        now = tick
    return track


def report_notes(clip_id: str, stem: str = "") -> list[dict[str, Any]]:
    """List the notes of the MIDI file as `/sonic/midi` does (`provider-api.md` §3.6)."""
    song = compose(clip_id)
    return [
        {"name": instrument_name(part), "notes": [_note(song, n) for n in song.notes(part)]}
        for part in STEMS[stem]
    ]


def _note(song: Song, note: Note) -> dict[str, object]:
    return {
        "start": round(song.seconds(note.start), 4),
        "end": round(song.seconds(note.end), 4),
        "pitch": note.pitch,
        "velocity": round(note.velocity / 127, 3),
    }
