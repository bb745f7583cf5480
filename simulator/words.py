"""Write lyrics, put them in time with a song's melody, and embellish tags."""

from __future__ import annotations

import random
import re

from .fields import Body
from .replies import JSON
from .songs import ADJECTIVES, NOUNS, Part, compose

INSTRUMENTAL = "[Instrumental]"  # what takes the place of lyrics (provider-api.md §4.1)
LINES = (
    "I followed the {noun} until the light was gone",
    "Under the {adjective} sky we carried on",
    "Hold the note, hold the {noun}, hold me near",
    "Every {adjective} morning I find you here",
    "Sing it to the {noun}, sing it again",
    "{adjective} and quiet, we wait for the rain",
)


def write_lyrics(seed: str) -> str:
    """Write a verse and a chorus; the same seed always gives the same words."""
    rng = random.Random(f"{seed}/lyrics")
    lines = [
        line.format(noun=rng.choice(NOUNS).lower(), adjective=rng.choice(ADJECTIVES).lower())
        for line in rng.sample(LINES, 4)
    ]
    return "\n".join(("[Verse]", *lines[:2], "[Chorus]", *lines[2:]))


def write_version(seed: str) -> JSON:
    return {"title": compose(seed).title, "lyrics": write_lyrics(seed)}


def lyrics_for(body: Body, clip_id: str, inherited: str) -> str:
    """Choose the lyrics of a new song: those in the request, its source's, or new ones."""
    if body.get("make_instrumental"):
        return ""
    sent = body.get("infill_lyrics") or body.get("prompt") or body.get("lyrics")
    if sent and not body.get("auto_lyrics"):
        return str(sent)
    return inherited or write_lyrics(clip_id)


def align(lyrics: str, source: str) -> list[JSON]:
    """Spread the sung words over the time in which the song's voice is heard (§3.6)."""
    words = re.sub(r"\[[^\]]*\]", " ", lyrics).split()
    song = compose(source)
    notes = song.notes(Part.VOCALS)
    begin, end = song.seconds(notes[0].start), song.seconds(notes[-1].end)
    step = (end - begin) / max(len(words), 1)
    return [
        {
            "word": word,
            "start_s": round(begin + nth * step, 2),
            "end_s": round(begin + (nth + 1) * step, 2),
            "p_align": 0.98,
            "success": True,
        }
        for nth, word in enumerate(words)
    ]


def upsample(tags: str) -> str:
    rng = random.Random(tags)
    more = rng.sample(("warm analogue synths", "tight drums", "close vocals", "wide mix"), 2)
    return ", ".join((tags, f"{rng.choice(ADJECTIVES).lower()} mood", *more))
