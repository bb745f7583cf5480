"""Render songs as WAV, with nothing but arithmetic.

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
from collections.abc import Iterable
from functools import lru_cache
from itertools import accumulate, chain, repeat
from operator import add, mul

from .instruments import DRUM_TIMBRES, INSTRUMENTS, STEMS, Timbre
from .songs import KITS, TICKS, Note, Part, Song, compose

RATE = 22_050  # samples a second, mono, 16 bit
FULL_SCALE = 32_000
RELEASE_SECONDS = 0.02
LOOP_SAMPLES = 400  # at least: pitch is right to about 2 cents
NOISE_SAMPLES = 4096
CACHED_SONGS = 6

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
    """Add parts sample by sample. The shares of all parts sum to 1, so the mix cannot clip."""
    first, *others = parts
    samples: Iterable[int] = first
    for part in others:
        samples = map(add, samples, part)
    return array("h", samples)


@lru_cache(maxsize=CACHED_SONGS * len(Part))
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
    return DRUM_TIMBRES[note.pitch] if part in KITS else INSTRUMENTS[part].timbre


def _polyphony(notes: Iterable[Note]) -> int:
    """Count the most notes that ever sound together."""
    turns = sorted(chain.from_iterable(((n.start, 1), (n.end, -1)) for n in notes))
    return max(accumulate(turn for _, turn in turns))


@lru_cache(maxsize=64)
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


@lru_cache(maxsize=32)
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
