"""Which parts make up each stem, and how each part sounds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .songs import Part

VOICES = (Part.VOCALS, Part.BACKING_VOCALS)

# The parts in each file of a song, by the name that follows the clip id. No name: the mix.
STEMS: Mapping[str, tuple[Part, ...]] = {
    "": tuple(Part),
    **{part.value: (part,) for part in Part},
    "voices": VOICES,
    "instrumental": tuple(part for part in Part if part not in VOICES),
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


def instrument_name(part: str) -> str:
    """Say a part's name as people do: `backing_vocals` is "Backing Vocals"."""
    return "FX" if part == Part.FX else part.replace("_", " ").title()
