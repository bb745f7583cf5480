"""What of a result is archived, and what the manifest says of it."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from worker.core.archive import links, media
from worker.core.archive.names import DEFAULT_TEMPLATE
from worker.core.errors import ArchiveFailed, InvalidRequest

BEGAN = datetime(2026, 11, 22, 23, 59, 59, tzinfo=UTC)
CDN = "https://cdn1.suno.ai"


def clip(clip_id: str | None = "c1", **fields: Any) -> dict[str, Any]:
    return {"clip_id": clip_id, "state": "succeeded", "title": "Song", **fields}


def result(*clips: Any, **fields: Any) -> dict[str, Any]:
    return {"job_id": "j1", "operation": "sonic.x", "clips": list(clips), "data": {}, **fields}


def named(given: dict[str, Any]) -> list[str]:
    return [each.name for each in links.plan(given, DEFAULT_TEMPLATE, BEGAN)]


def test_a_song_is_its_audio_its_video_and_its_cover() -> None:
    song = clip(audio_url=f"{CDN}/a.mp3", video_url=f"{CDN}/a.mp4", image_url=f"{CDN}/a.jpg")
    other = clip("c2", audio_url=f"{CDN}/b.mp3", video_url=None, image_url="")
    assert named(result(song, other)) == [
        "j1/c1-audio.mp3",
        "j1/c1-video.mp4",
        "j1/c1-image.jpeg",
        "j1/c2-audio.mp3",
    ]


def test_a_stem_is_named_for_what_it_is() -> None:
    stems = [
        clip(f"c{n}", audio_url=f"{CDN}/{n}.mp3", stem_type=each)
        for n, each in enumerate(["vocals", "drums"])
    ]
    assert named(result(*stems)) == ["j1/c0-vocals.mp3", "j1/c1-drums.mp3"]


@pytest.mark.parametrize(
    ("data", "names"),
    [
        ({"wav_url": f"{CDN}/a.wav"}, ["j1/c1-wav.wav"]),
        ({"midi_url": f"{CDN}/a.mid", "instruments": [{"notes": []}]}, ["j1/c1-midi.mid"]),
        ({"midi_url": f"{CDN}/a"}, ["j1/c1-midi.mid"]),
        (
            {"files": [{"format": f, "url": f"{CDN}/a.{f}"} for f in ("mp3", "wav")]},
            ["j1/c1-mp3.mp3", "j1/c1-wav.wav"],
        ),
        ({"url": f"{CDN}/a"}, ["j1/c1-file.mp3"]),
        ({"items": [{"clip_id": "c9", "audio_url": f"{CDN}/9.mp3"}]}, ["j1/c9-audio.mp3"]),
        ({"a_url": f"{CDN}/1", "b": {"a_url": f"{CDN}/2"}}, ["j1/c1-a.mp3", "j1/c1-a-2.mp3"]),
        ({"url": None, "say": CDN, "n": [1, "x"]}, []),
    ],
)
def test_links_in_the_data_belong_to_the_clip(data: Any, names: list[str]) -> None:
    assert named(result(clip(), data=data)) == names


def test_a_link_that_is_given_twice_is_one_file() -> None:
    url = f"{CDN}/song.wav"
    nuro = result(clip(None, audio_url=url), data={"audio_url": url})
    assert named(nuro) == ["j1/clip-audio.wav"]


def test_a_clip_that_failed_has_no_file() -> None:
    failed = clip(audio_url=f"{CDN}/a.mp3") | {"state": "failed"}
    assert named(result(failed, "not a clip")) == []
    assert named({"job_id": "j1", "clips": None}) == []


def test_the_files_of_a_group_are_those_of_all_its_results() -> None:
    one, two = result(), result() | {"job_id": "j2"}
    assert links.results_of([one, [two]]) == [one, two]
    assert links.results_of(one) == [one]


@pytest.mark.parametrize(
    "source", [None, "c1", {}, {"job_id": 1}, {"job_id": "../x"}, [{}], [None]]
)
def test_what_is_no_result_is_refused(source: Any) -> None:
    with pytest.raises(InvalidRequest, match=r"archive\.store"):
        links.results_of(source)


def test_a_manifest_says_where_files_came_from_and_no_signature() -> None:
    (planned,) = links.plan(
        result(clip(audio_url=f"{CDN}/a.mp3?sig=secret")), DEFAULT_TEMPLATE, BEGAN
    )
    entry = links.entry(planned, size=3, sha256="ab", content_type="audio/mpeg", at=BEGAN)
    assert entry == {
        "kind": "audio",
        "clip_id": "c1",
        "source": "cdn1.suno.ai/a.mp3",
        "bytes": 3,
        "sha256": "ab",
        "content_type": "audio/mpeg",
        "at": "2026-11-22T23:59:59+00:00",
    }
    assert "secret" not in repr(planned)


def test_the_files_keep_the_day_of_the_first_run() -> None:
    manifest = links.new_manifest(result(), BEGAN)
    read = links.read_manifest(json.dumps(manifest).encode())
    assert read == manifest
    assert datetime.fromisoformat(read["began_at"]) == BEGAN
    dated = links.plan(result(clip(a_url=CDN)), "{date}/{job_id}{ext}", BEGAN)
    assert dated[0].name == "2026-11-22/j1.mp3"
    assert links.manifest_name("j1") == "j1/manifest.json"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff",
        b"[]",
        b"{}",
        b'{"began_at": 1, "files": {}}',
        b'{"began_at": "x", "files": {}}',
        b'{"began_at": "2026-11-22", "files": {}}',
        b'{"began_at": "2026-11-22T00:00:00Z", "files": []}',
        b'{"began_at": "2026-11-22T00:00:00Z", "files": {"a": {}}}',
    ],
)
def test_a_file_that_is_no_manifest_of_ours_is_left_alone(content: bytes) -> None:
    with pytest.raises(ArchiveFailed, match=r"manifest\.json"):
        links.read_manifest(content)


def test_a_failure_names_the_files_and_the_reasons() -> None:
    missing = [{"name": f"{n}.mp3", "source": "s", "why": "gone"} for n in range(5)]
    error = links.failure(missing, retryable=True)
    assert str(error) == (
        "5 files could not be archived: 0.mp3: gone; 1.mp3: gone; 2.mp3: gone; and 2 more"
    )
    assert error.retryable
    assert error.details["missing"] == missing
    assert not links.failure(missing[:1], retryable=False).retryable
    alone = links.failure(missing[:1], retryable=False)
    assert str(alone) == "1 file could not be archived: 0.mp3: gone"


GENUINE = {
    ".mp3": [b"ID3\x04", b"\xff\xfb\x90", b"\xff\xf3\x40"],
    ".m4a": [b"\0\0\0\x20ftypM4A "],
    ".wav": [b"RIFF\n\n\n\nWAVE"],
    ".mid": [b"MThd"],
    ".mp4": [b"\0\0\0\x18ftypisom"],
    ".jpeg": [b"\xff\xd8\xff\xe0"],
    ".png": [b"\x89PNG\r\n\x1a\n"],
    ".webp": [b"RIFF\0\0\0\0WEBP"],
    ".svg": [
        b"<svg>",
        b'\n<?xml version="1.0"?>\n<svg xmlns="x"',
        b"\xef\xbb\xbf<!-- by hand --> <svg ",
    ],
}
SERVED_AS = [
    "", "Application/Octet-Stream", "binary/octet-stream", "application/force-download",
    "application/x-download", "audio/mp3; charset=utf-8", "AUDIO/X-M4A", "video/mp4", "text/plain",
    "image/jpg", "attachment", ";",
]  # fmt: skip
PAGES = ["text/html", "TEXT/HTML; charset=utf-8", "application/xhtml+xml"]
NO_FILES = [
    b"", b"<!doctype html>", b"<html><svg>", b'<?xml version="1.0"?><Error><Code>AccessDenied',
    b'{"error": "expired"}', b"\xff\xfe<\0h\0t\0m\0l\0", b"PK\x03\x04", b"not found",
]  # fmt: skip


@pytest.mark.parametrize("ext", GENUINE)
def test_a_file_is_what_its_bytes_say_whatever_it_is_served_as(ext: str) -> None:
    expected = media.format_of(f"{CDN}/a{ext.upper()}?x=.exe#.png", "audio")
    assert expected.ext == ext
    for beginning in GENUINE[ext]:
        for served_as in SERVED_AS:
            expected.check(served_as, beginning)


@pytest.mark.parametrize("ext", GENUINE)
def test_a_page_is_no_file_whatever_it_begins_with(ext: str) -> None:
    for page in PAGES:
        with pytest.raises(ArchiveFailed, match="html"):
            media.format_of(f"a{ext}", "audio").check(page, GENUINE[ext][0])


@pytest.mark.parametrize("ext", GENUINE)
def test_bytes_of_another_kind_are_refused_with_what_they_are_served_as(ext: str) -> None:
    expected = media.format_of(f"a{ext}", "audio")
    mp4 = {".m4a", ".mp4"}
    others = [b for kind in GENUINE for b in GENUINE[kind] if kind != ext and {kind, ext} != mp4]
    for beginning in NO_FILES + others:
        with pytest.raises(ArchiveFailed, match=f"begin as {ext[1:]} files do .*'audio/mpeg'"):
            expected.check("audio/mpeg", beginning)


@pytest.mark.parametrize(
    ("link", "kind", "ext"),
    [
        ("a", "wav", ".wav"),
        ("a", "drums", ".mp3"),
        ("a.php", "image", ".jpeg"),
        ("a.jpg", "x", ".jpeg"),
        ("a", "midi", ".mid"),
        ("a.midi", "x", ".mid"),
        ("//[", "video", ".mp4"),
    ],
)
def test_without_a_known_suffix_the_kind_decides(link: str, kind: str, ext: str) -> None:
    assert media.format_of(link, kind).ext == ext


def test_a_stored_file_has_the_media_type_of_its_format_and_not_that_of_its_server() -> None:
    source = "cdn1.suno.ai/a.mp3"
    said = {"kind": "audio", "clip_id": "c1", "source": source, "bytes": 7, "sha256": "0", "at": ""}
    manifest = {"files": {"j1/a": said | {"content_type": "text/javascript"}}}
    (file,) = links.stored_files(manifest)
    assert (file.name, file.bytes, file.media_type) == ("j1/a", 7, "audio/mpeg")


@pytest.mark.parametrize("said", [{}, None, {"kind": "audio", "source": "a.mp3"}])
def test_a_manifest_that_says_too_little_of_a_file_is_not_ours(said: Any) -> None:
    with pytest.raises(ArchiveFailed, match="did not write"):
        links.stored_files({"files": {"j1/a": said}})


def test_a_copy_is_found_by_what_the_link_is_of_and_never_by_its_query() -> None:
    at = {"bytes": 1, "sha256": "", "at": ""}
    kept = links.stored_files(
        {
            "files": {
                f"j1/{clip_id}.wav": {
                    "kind": "wav", "clip_id": clip_id, "source": "cdn1.suno.ai/a.wav", **at
                }
                for clip_id in ("c1", "c2")
            }
        }
    )  # fmt: skip
    urls = {clip_id: f"{CDN}/a.wav?n={clip_id}" for clip_id in ("c1", "c2", "c3")}
    linked = links.find_links(result(*(clip(of, wav_url=url) for of, url in urls.items())))
    found = links.copies(linked, kept)
    assert {url: copy.name for url, copy in found.items()} == {
        urls["c1"]: "j1/c1.wav", urls["c2"]: "j1/c2.wav",
    }  # fmt: skip
