"""Render songs as WAV, MIDI and cover art, with nothing but arithmetic.

The provider serves MP3 (`provider-api.md` §8). The simulator serves WAV under `.wav` names, because
the standard library can write it, and because stems in WAV can be checked to the sample: the stems
of a song add up to exactly its mix.
"""

from __future__ import annotations

import io
import math
import random
import threading
import wave
from array import array
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate, chain, repeat
from operator import add, mul

import mido  # type: ignore[import-untyped]

from .songs import TICKS, TICKS_PER_BEAT, Note, Part, Song, compose

RATE = 22_050  # samples a second, mono, 16 bit
FULL_SCALE = 32_000
RELEASE_SECONDS = 0.02
LOOP_SAMPLES = 400  # at least: pitch is right to about 2 cents
NOISE_SAMPLES = 4096
DRUM_CHANNEL = 9

# What may be downloaded of a song, by the name that follows the clip id. No name: the mix.
STEMS: Mapping[str, tuple[Part, ...]] = {
    "": tuple(Part),
    **{part.value: (part,) for part in Part},
    "voices": (Part.VOCALS, Part.BACKING_VOCALS),
    "instrumental": tuple(p for p in Part if p not in (Part.VOCALS, Part.BACKING_VOCALS)),
}


@dataclass(frozen=True, slots=True)
class Timbre:
    """How a part sounds: strength of each harmonic, share of noise, attack and decay in seconds."""

    harmonics: tuple[float, ...] = (1.0,)
    noise: float = 0.0
    attack: float = 0.005
    decay: float = 10.0


@dataclass(frozen=True, slots=True)
class Instrument:
    """A part's General MIDI program, its share of the mix (they sum to 1), and its timbre."""

    program: int
    share: float
    timbre: Timbre


INSTRUMENTS: Mapping[Part, Instrument] = {
    Part.VOCALS: Instrument(54, 0.17, Timbre((1, 0.6, 0.4, 0.3, 0.1), attack=0.04)),
    Part.BACKING_VOCALS: Instrument(52, 0.06, Timbre((1, 0.3, 0.2), attack=0.08)),
    Part.DRUMS: Instrument(0, 0.18, Timbre()),
    Part.BASS: Instrument(33, 0.13, Timbre((1, 0.5, 0.25, 0.1), decay=0.5)),
    Part.GUITAR: Instrument(25, 0.09, Timbre((1, 0.7, 0.5, 0.3, 0.2, 0.1), decay=0.35)),
    Part.KEYBOARD: Instrument(4, 0.09, Timbre((1, 0.2, 0.3, 0, 0.1), decay=0.8)),
    Part.PERCUSSION: Instrument(0, 0.05, Timbre()),
    Part.STRINGS: Instrument(48, 0.07, Timbre((1, 0.5, 0.33, 0.25, 0.2), attack=0.25)),
    Part.SYNTH: Instrument(81, 0.05, Timbre((1, 0, 0.33, 0, 0.2, 0, 0.14), decay=0.2)),
    Part.FX: Instrument(97, 0.03, Timbre((1,), noise=0.7, attack=1.6)),
    Part.BRASS: Instrument(61, 0.05, Timbre((1, 0.8, 0.7, 0.5, 0.4, 0.2), attack=0.03)),
    Part.WOODWINDS: Instrument(73, 0.03, Timbre((1, 0.1, 0.05), noise=0.05, attack=0.05)),
}
DRUM_TIMBRES: Mapping[int, Timbre] = {
    36: Timbre((1, 0.4), attack=0.001, decay=0.09),
    38: Timbre((0.4, 1), noise=0.7, attack=0.001, decay=0.07),
    42: Timbre(noise=1, attack=0.001, decay=0.02),
    54: Timbre(noise=1, attack=0.002, decay=0.05),
    70: Timbre(noise=1, attack=0.01, decay=0.02),
}

_rendering = threading.Lock()  # two downloads of one song render it once


def render_wav(clip_id: str, stem: str = "") -> bytes:
    """Render the mix (no `stem`) or one of `STEMS` as a WAV file."""
    with _rendering:
        samples = mix(_part_samples(clip_id, part) for part in STEMS[stem])
    file = io.BytesIO()
    with wave.open(file, "wb") as wav:
        wav.setnchannels(1)
        wav.setsampwidth(2)
        wav.setframerate(RATE)
        wav.writeframes(samples.tobytes())
    return file.getvalue()


def mix(parts: Iterable[array[int]]) -> array[int]:
    """Add parts sample by sample. Shares of the mix leave each its headroom: nothing clips."""
    return array("h", map(sum, zip(*parts, strict=True)))


@lru_cache(maxsize=8 * len(Part))
def _part_samples(clip_id: str, part: Part) -> array[int]:
    song = compose(clip_id)
    notes = song.notes(part)
    level = FULL_SCALE * INSTRUMENTS[part].share / _polyphony(notes) / 127
    samples = array("d", bytes(8 * _frames(song, TICKS)))
    for note in notes:
        tone = _tone(_timbre(part, note), note.pitch, _frames(song, note.end - note.start))
        begin = _frames(song, note.start)
        end = min(begin + len(tone), len(samples))
        louder = map(mul, tone, repeat(level * note.velocity))
        samples[begin:end] = array("d", map(add, samples[begin:end], louder))
    return array("h", map(int, samples))


def _frames(song: Song, ticks: int) -> int:
    return round(song.seconds(ticks) * RATE)


def _timbre(part: Part, note: Note) -> Timbre:
    return _drum(part, note.pitch) or INSTRUMENTS[part].timbre


def _drum(part: Part, key: int) -> Timbre | None:
    return DRUM_TIMBRES[key] if part in (Part.DRUMS, Part.PERCUSSION) else None


def _polyphony(notes: Iterable[Note]) -> int:
    """Count the most notes that ever sound together."""
    turns = sorted(chain.from_iterable(((n.start, 1), (n.end, -1)) for n in notes))
    return max(accumulate(turn for _, turn in turns))


@lru_cache(maxsize=256)
def _tone(timbre: Timbre, pitch: int, frames: int) -> array[float]:
    """Make one note at full velocity, between -1 and 1, silent at both ends."""
    loop = _loop(timbre, pitch)
    wave_form = loop * (frames // len(loop) + 1)
    return array("d", map(mul, wave_form[:frames], _envelope(timbre, frames)))


@lru_cache(maxsize=256)
def _loop(timbre: Timbre, pitch: int) -> array[float]:
    """Make a stretch of sound, in whole periods, that can be repeated without a click."""
    period = RATE / (440 * 2 ** ((pitch - 69) / 12))
    periods = math.ceil((NOISE_SAMPLES if timbre.noise else LOOP_SAMPLES) / period)
    length = round(periods * period)
    turn = 2 * math.pi * periods / length
    noise = random.Random(pitch)
    samples = [
        (1 - timbre.noise) * sum(a * math.sin(n * turn * i) for n, a in _harmonics(timbre))
        + timbre.noise * noise.uniform(-1, 1)
        for i in range(length)
    ]
    peak = max(map(abs, samples))
    return array("d", (sample / peak for sample in samples))


def _harmonics(timbre: Timbre) -> Iterable[tuple[int, float]]:
    return enumerate(timbre.harmonics, start=1)


@lru_cache(maxsize=256)
def _envelope(timbre: Timbre, frames: int) -> array[float]:
    fade = math.exp(-1 / (timbre.decay * RATE))
    levels = array("d", accumulate(repeat(fade, frames - 1), mul, initial=1.0))
    attack = min(round(timbre.attack * RATE), frames // 2)
    release = min(round(RELEASE_SECONDS * RATE), frames // 2)
    for i in range(attack):
        levels[i] *= i / attack
    for i in range(release):
        levels[-1 - i] *= i / release
    return levels


def render_midi(clip_id: str, stem: str = "") -> bytes:
    """Write the song, or one stem, as a standard MIDI file with a track for each part."""
    song = compose(clip_id)
    file = mido.MidiFile(ticks_per_beat=TICKS_PER_BEAT)
    tempo = mido.MetaMessage("set_tempo", tempo=song.microseconds_per_beat, time=0)
    file.tracks.append(mido.MidiTrack([tempo]))
    pitched = (channel for channel in range(16) if channel != DRUM_CHANNEL)
    for part in STEMS[stem]:
        channel = DRUM_CHANNEL if part in (Part.DRUMS, Part.PERCUSSION) else next(pitched)
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


def report_notes(clip_id: str, stem: str = "") -> list[dict[str, object]]:
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


def instrument_name(part: str) -> str:
    """Say a part's name as people do: `backing_vocals` is "Backing Vocals"."""
    return "FX" if part == Part.FX else part.replace("_", " ").title()


def render_cover(clip_id: str) -> bytes:
    """Draw a cover for the song (SVG; the provider's is a JPEG)."""
    rng = random.Random(f"{clip_id}/cover")
    hue = rng.randrange(360)
    rings = "".join(
        f'<circle cx="{rng.randrange(512)}" cy="{rng.randrange(512)}" r="{rng.randrange(40, 220)}"'
        f' fill="hsl({hue + rng.randrange(80)} 70% 60%)" opacity=".55"/>'
        for _ in range(7)
    )
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 512 512">'
        f'<rect width="512" height="512" fill="hsl({hue} 60% 25%)"/>{rings}</svg>'
    ).encode()
