"""What is read of a song from the results of its flow, whatever a stranger wrote there."""

from typing import Any

from worker.core import song
from worker.core.job.models import JobId
from worker.core.song import MOST_JOBS, MOST_NOTES, Note, Part, Song, Word


def clip(clip_id: str, **fields: Any) -> dict[str, Any]:
    url = f"https://cdn.test/{clip_id}.mp3"
    return {"clip_id": clip_id, "state": "succeeded", "audio_url": url, **fields}


def part(
    job_id: str, operation: str, after: str | None = None, on: str | None = None, **result: Any
) -> Part:
    return Part(JobId(job_id), operation, JobId(after) if after else None, on, result)


CREATE = part(
    "create", "sonic.create_music", "lyrics",
    clips=[clip("a", title="Night train", lyrics="la la", duration_seconds=143.5), clip("b")],
)  # fmt: skip
STEMS = part(
    "stems", "sonic.stems_full", "create", "a",
    clips=[clip("a-1", stem_type="Drums", title="Night train"), clip("a-2", title="Bass")],
)  # fmt: skip
NOTES = [
    {"start": 1, "end": 2.5, "pitch": 64, "velocity": 0.5},
    {"start": 0, "end": 1, "pitch": 60},
]
FLOW = [
    part("lyrics", "lyrics.generate", clips=[], data={"results": []}),
    CREATE,
    STEMS,
    part("midi", "sonic.midi", "stems", "a-1", clips=[clip("a-1", audio_url=None)],
         data={"midi_url": "https://cdn.test/a-1.mid",
               "instruments": [{"name": "Drums", "notes": NOTES}]}),
    part("bpm", "sonic.bpm", "create", "a", data={"avg_bpm": 121, "max_bpm": 130}),
    part("words", "sonic.lyrics_timeline", "create", "a",
         data={"alignment": [{"word": "la\n", "start_s": 0.5, "end_s": 1, "success": True}]}),
    part("remaster", "sonic.remaster", "create", "a", clips=[clip("c")]),
    part("wav", "sonic.wav", "remaster", "c", data={"wav_url": "https://cdn.test/c.wav"}),
    part("late", "sonic.wav", "create", "b"),
]  # fmt: skip


def jobs(job_id: str, flow: list[Part] = FLOW) -> list[str]:
    return [each.job_id for each in song.parts_of_song(JobId(job_id), flow)]


def read(job_id: str = "create") -> Song:
    return song.read_song(song.parts_of_song(JobId(job_id), FLOW))


def test_a_song_is_the_job_that_made_its_takes_and_what_was_made_of_them() -> None:
    of_create = ["create", "stems", "midi", "bpm", "words", "late"]
    for each in ("create", "midi", "late", "lyrics"):
        assert jobs(each) == of_create, each
    assert jobs("remaster") == jobs("wav") == ["remaster", "wav"]


def test_a_flow_without_takes_is_that_of_its_first_job() -> None:
    stems = part("stems", "sonic.stems_basic", clips=[clip("v"), clip("i")])
    midi = part("midi", "sonic.midi", "stems")
    assert jobs("midi", [stems, midi]) == ["stems", "midi"]
    found = song.read_song([stems, midi])
    assert [each.name for each in found.stems] == ["Stem 1", "Stem 2"]
    assert (found.takes, found.title, found.bpm, found.words) == ((), "", None, ())


def test_jobs_that_follow_each_other_in_a_ring_are_read_once() -> None:
    ring = [part("one", "sonic.wav", "two"), part("two", "sonic.wav", "one")]
    assert jobs("one", ring) == ["two", "one"]


def test_of_a_wide_flow_the_first_jobs_are_read() -> None:
    many = [part(f"wav-{n}", "sonic.wav", "create") for n in range(MOST_JOBS + 9)]
    assert len(jobs("create", [CREATE, *many])) == MOST_JOBS + 1


def test_takes_and_stems_have_names_and_know_what_they_were_made_of() -> None:
    found = read()
    assert found.title == "Night train"
    assert [(each.name, each.seconds) for each in found.takes] == [
        ("Take 1", 143.5),
        ("Take 2", None),
    ]
    assert [(each.name, each.of) for each in found.stems] == [
        ("Drums", "Take 1"),
        ("Bass", "Take 1"),
    ]
    assert found.bpm == 121
    assert found.lyrics == "la la"
    assert found.words == (Word("la\n", 0.5, 1),)


def test_notes_are_in_the_order_in_which_they_sound() -> None:
    (drums,) = read().instruments
    assert (drums.name, drums.of) == ("Drums", "Drums")
    assert drums.notes == (Note(0, 1, 60, 1), Note(1, 2.5, 64, 0.5))


def test_every_file_is_listed_with_its_job_and_clip() -> None:
    kinds = [(each.job_id, each.kind, each.of) for each in read().files]
    assert kinds == [
        ("create", "audio", "Take 1"), ("create", "audio", "Take 2"),
        ("stems", "Drums", "Drums"), ("stems", "audio", "Bass"), ("midi", "midi", "Drums"),
    ]  # fmt: skip


def test_what_is_no_note_no_word_and_no_clip_is_left_out() -> None:
    nonsense = [
        "C4", {}, {"start": 0, "end": 1}, {"start": True, "end": 1, "pitch": 60},
        {"start": 0, "end": float("inf"), "pitch": 60}, {"start": 0, "end": 1, "pitch": 128},
    ]  # fmt: skip
    data = {
        "instruments": [{"name": 7, "notes": [*nonsense, *NOTES]}, {"notes": nonsense}, None],
        "alignment": [None, {"word": "la"}, {"word": 7, "start_s": 0, "end_s": 1}],
        "avg_bpm": "fast",
    }
    clips = [None, clip("a", state="failed"), clip("b", audio_url=7, lyrics=["la"])]
    found = song.read_song([part("job", "sonic.midi", clips=clips, data=data)])
    assert [(each.name, len(each.notes)) for each in found.instruments] == [("Instrument", 2)]
    assert (found.words, found.takes, found.bpm, found.lyrics) == ((), (), None, "")
    assert song.read_song([part("job", "sonic.wav", clips="none", data=[])]).instruments == ()


def test_there_are_never_more_notes_than_a_page_can_draw() -> None:
    many = [{"name": "Synth", "notes": NOTES * (MOST_NOTES // 3)}] * 3
    found = song.read_song([part("job", "sonic.midi", data={"instruments": many})])
    assert sum(len(each.notes) for each in found.instruments) == MOST_NOTES
