"""Compose a short song in twelve parts. The same clip id always gives the same notes."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

TICKS_PER_BEAT = 480
STEPS_PER_BAR = 16
TICKS_PER_STEP = TICKS_PER_BEAT // 4
BARS = 4
TICKS = BARS * STEPS_PER_BAR * TICKS_PER_STEP

MAJOR = (0, 2, 4, 5, 7, 9, 11)
MINOR = (0, 2, 3, 5, 7, 8, 10)
PROGRESSIONS = {  # the scale degree of each bar's chord
    MAJOR: ((0, 4, 5, 3), (5, 3, 0, 4), (0, 5, 3, 4), (0, 3, 1, 4)),
    MINOR: ((0, 5, 2, 6), (0, 3, 5, 4), (0, 6, 5, 6), (5, 6, 0, 0)),
}
ADJECTIVES = ("Amber", "Distant", "Electric", "Golden", "Hollow", "Midnight", "Paper", "Silver")
NOUNS = ("Avenue", "Harbour", "Lanterns", "Mirrors", "Rain", "Satellites", "Summer", "Tide")


class Part(StrEnum):
    """The twelve stems of `/sonic/stems/full` (`provider-api.md` §8)."""

    VOCALS = "vocals"
    BACKING_VOCALS = "backing_vocals"
    DRUMS = "drums"
    BASS = "bass"
    GUITAR = "guitar"
    KEYBOARD = "keyboard"
    PERCUSSION = "percussion"
    STRINGS = "strings"
    SYNTH = "synth"
    FX = "fx"
    BRASS = "brass"
    WOODWINDS = "woodwinds"


@dataclass(frozen=True, slots=True)
class Note:
    """One note: start and end in ticks, pitch and velocity as MIDI has them."""

    start: int
    end: int
    pitch: int
    velocity: int


# A voicing gives the scale degrees to sound at the nth note of a bar, over the chord on `degree`.
Voicing = Callable[[random.Random, int, int], tuple[int, ...]]


def _melody(rng: random.Random, degree: int, nth: int) -> tuple[int, ...]:
    steps = (0, 2, 4) if nth == 0 else (-1, 0, 1, 2, 3, 4, 5)
    return (degree + rng.choice(steps),)


def _root(_rng: random.Random, degree: int, _nth: int) -> tuple[int, ...]:
    return (degree,)


def _triad(_rng: random.Random, degree: int, _nth: int) -> tuple[int, ...]:
    return (degree, degree + 2, degree + 4)


def _third(_rng: random.Random, degree: int, _nth: int) -> tuple[int, ...]:
    return (degree + 2, degree + 4)


def _arpeggio(_rng: random.Random, degree: int, nth: int) -> tuple[int, ...]:
    return (degree + (0, 2, 4, 7)[nth % 4],)


@dataclass(frozen=True, slots=True)
class Role:
    """How a part plays: rhythms to choose from (`x` strikes, `-` holds), chords, octave, bars."""

    rhythms: tuple[str, ...]
    voicing: Voicing
    octave: int
    velocity: int
    bars: tuple[int, ...] = (0, 1, 2, 3)


ROLES: Mapping[Part, Role] = {
    Part.VOCALS: Role(
        ("x---x-x-x---x-x-", "..x-x-x-x-----x-", "x-x-x---..x-x---"), _melody, 5, 104
    ),
    Part.BACKING_VOCALS: Role(("x-------x-------", "....x-----------"), _third, 5, 80, (1, 3)),
    Part.BASS: Role(("x-----x-x---x-x-", "x-x-x-x-x-x-x-x-", "x---..x-x---x---"), _root, 2, 100),
    Part.GUITAR: Role(("x-..x-x-..x-x-..", "x--x--x---x-x---"), _triad, 4, 84),
    Part.KEYBOARD: Role(("x-------x-------", "x---------x-----"), _triad, 4, 76),
    Part.STRINGS: Role(("x---------------",), _triad, 5, 70),
    Part.SYNTH: Role(("x.x.x.x.x.x.x.x.", "xxxxxxxxxxxxxxxx"), _arpeggio, 5, 72),
    Part.FX: Role(("x---------------",), _root, 6, 90, (3,)),
    Part.BRASS: Role(("............x-x-", "..........x-x---"), _triad, 4, 92, (1, 3)),
    Part.WOODWINDS: Role(("........x-x-x---", "........x-----x-"), _melody, 6, 78),
}

# Unpitched parts: for each General MIDI drum key, the rhythms to choose from.
KITS: Mapping[Part, Mapping[int, tuple[str, ...]]] = {
    Part.DRUMS: {
        36: ("x-......x-......", "x-....x-x-......", "x-..x-..x-..x-.."),
        38: ("....x-......x-..", "....x-....x-x-.."),
        42: ("x.x.x.x.x.x.x.x.", "..x...x...x...x."),
    },
    Part.PERCUSSION: {54: ("....x.......x...", "..x...x...x...x."), 70: ("x.xxx.xxx.xxx.xx",)},
}


@dataclass(frozen=True, slots=True)
class Song:
    """The frame that all parts share: a name, a tempo, a key and a chord for each bar."""

    clip_id: str
    title: str
    microseconds_per_beat: int
    key: int
    scale: tuple[int, ...]
    chords: tuple[int, ...]

    def seconds(self, ticks: int) -> float:
        return ticks / TICKS_PER_BEAT * self.microseconds_per_beat / 1e6

    def pitch(self, octave: int, degree: int) -> int:
        octaves, step = divmod(degree, len(self.scale))
        return 12 * (octave + octaves) + self.key + self.scale[step]

    def notes(self, part: Part) -> tuple[Note, ...]:
        """Write one part, in the order of its notes."""
        rng = random.Random(f"{self.clip_id}/{part}")
        notes = self._beat(KITS[part], rng) if part in KITS else self._play(ROLES[part], rng)
        return tuple(sorted(notes, key=lambda note: (note.start, note.pitch)))

    def _beat(self, kit: Mapping[int, tuple[str, ...]], rng: random.Random) -> Iterator[Note]:
        for key, rhythms in kit.items():
            rhythm = rng.choice(rhythms)
            for bar in range(BARS):
                for start, end in _strikes(rhythm, bar):
                    yield Note(start, end, key, _accent(100, start))

    def _play(self, role: Role, rng: random.Random) -> Iterator[Note]:
        rhythm = rng.choice(role.rhythms)
        for bar in role.bars:
            for nth, (start, end) in enumerate(_strikes(rhythm, bar)):
                for degree in role.voicing(rng, self.chords[bar], nth):
                    pitch = self.pitch(role.octave, degree)
                    yield Note(start, end, pitch, _accent(role.velocity, start))


@lru_cache(maxsize=1024)
def compose(clip_id: str) -> Song:
    """Decide a song from its clip id; its parts are written when they are asked for."""
    rng = random.Random(clip_id)
    scale = rng.choice((MAJOR, MINOR))
    return Song(
        clip_id=clip_id,
        title=f"{rng.choice(ADJECTIVES)} {rng.choice(NOUNS)}",
        microseconds_per_beat=60_000_000 // rng.randint(110, 132),
        key=rng.randrange(-5, 7),
        scale=scale,
        chords=rng.choice(PROGRESSIONS[scale]),
    )


def duration_seconds(clip_id: str) -> float:
    """Say how long the song lasts: four bars, about eight seconds."""
    return compose(clip_id).seconds(TICKS)


def _strikes(rhythm: str, bar: int) -> Iterator[tuple[int, int]]:
    """Find each strike of a rhythm, with the steps it is held, in ticks from the song's start."""
    for step, mark in enumerate(rhythm):
        if mark == "x":
            held = len(rhythm[step + 1 :]) - len(rhythm[step + 1 :].lstrip("-"))
            start = (bar * STEPS_PER_BAR + step) * TICKS_PER_STEP
            yield start, start + (1 + held) * TICKS_PER_STEP


def _accent(velocity: int, start: int) -> int:
    """Play notes between the beats a little softer."""
    return velocity if start % TICKS_PER_BEAT == 0 else velocity - 14
