"""The simulator's songs: stems that sum to the mix, and MIDI that says what the JSON says."""

import io
import wave
from array import array

import mido
import pytest

from simulator.audio import RATE, mix, render_wav
from simulator.instruments import INSTRUMENTS, STEMS, VOICES, instrument_name
from simulator.midi import render_midi, report_notes
from simulator.songs import Part, compose, duration_seconds

CLIP = "26c9c592-0566-46cf-bb71-91ac1deaa7b5"
OTHER = "30264033-2b01-43a7-8779-2a834b067486"


def samples(clip_id: str, stem: str = "") -> "array[int]":
    with wave.open(io.BytesIO(render_wav(clip_id, stem))) as wav:
        assert (wav.getnchannels(), wav.getsampwidth(), wav.getframerate()) == (1, 2, RATE)
        return array("h", wav.readframes(wav.getnframes()))


def midi_notes(content: bytes) -> dict[str, list[tuple[float, float, int, float]]]:
    """Read a MIDI file back to `{track name: [(start, end, pitch, velocity)]}`."""
    file = mido.MidiFile(file=io.BytesIO(content))
    tempo = file.tracks[0][0].tempo
    found = {}
    for track in file.tracks[1:]:
        ticks, sounding, notes = 0, {}, []
        for message in track:
            ticks += message.time
            now = mido.tick2second(ticks, file.ticks_per_beat, tempo)
            if message.type == "note_on":
                sounding[message.note] = (now, message.velocity / 127)
            elif message.type == "note_off":
                start, velocity = sounding.pop(message.note)
                notes.append((start, now, message.note, velocity))
        assert not sounding
        found[track.name] = sorted(notes, key=lambda note: (note[0], note[2]))
    return found


def test_twelve_stems_sum_to_the_mix_sample_by_sample() -> None:
    assert mix(samples(CLIP, part) for part in Part) == samples(CLIP)


def test_vocals_and_instrumental_sum_to_the_mix_sample_by_sample() -> None:
    assert mix([samples(CLIP, "voices"), samples(CLIP, "instrumental")]) == samples(CLIP)


def test_every_stem_is_audible_and_nothing_can_clip() -> None:
    assert sum(instrument.share for instrument in INSTRUMENTS.values()) == pytest.approx(1)
    assert all(max(map(abs, samples(CLIP, part))) > 300 for part in Part)
    assert max(map(abs, samples(CLIP))) < 32_000


def test_a_song_lasts_as_long_as_its_clip_says() -> None:
    assert len(samples(CLIP)) / RATE == pytest.approx(duration_seconds(CLIP), abs=1 / RATE)
    assert 7 < duration_seconds(CLIP) < 9


def test_a_song_depends_on_its_clip_id_alone() -> None:
    first = render_midi(CLIP)
    compose.cache_clear()
    assert render_midi(CLIP) == first
    assert render_midi(OTHER) != first


@pytest.mark.parametrize("stem", STEMS)
def test_the_midi_file_holds_the_notes_that_are_reported(stem: str) -> None:
    written = midi_notes(render_midi(CLIP, stem))
    reported = report_notes(CLIP, stem)
    assert list(written) == [instrument["name"] for instrument in reported]
    for instrument in reported:
        notes = [
            tuple(n[k] for k in ("start", "end", "pitch", "velocity")) for n in instrument["notes"]
        ]
        assert notes
        for ours, theirs in zip(notes, written[instrument["name"]], strict=True):
            assert ours == pytest.approx(theirs, abs=1e-3)


def test_no_note_of_a_song_outlasts_it() -> None:
    for clip_id in (CLIP, OTHER):
        ends = [n["end"] for i in report_notes(clip_id) for n in i["notes"]]
        assert max(ends) <= duration_seconds(clip_id) + 1e-4


def test_the_two_stem_split_shares_out_every_part_once() -> None:
    assert sorted((*VOICES, *STEMS["instrumental"])) == sorted(Part)
    assert instrument_name(Part.BACKING_VOCALS) == "Backing Vocals"
