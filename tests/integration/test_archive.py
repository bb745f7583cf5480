"""The archive against a real server: what is stored is whole, and stays in its folder."""

import gc
import json
import resource
import threading
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.spec import AbstractBufferedFile

from tests.integration.cdn import (
    CDN,
    SHA256,
    SONG,
    answer,
    archive_of,
    files,
    refused,
    resumable,
    song,
)
from tests.system import wait_until
from worker.archive.files import Archive
from worker.archive.targets import Folder, Remote, open_target
from worker.core.errors import ArchiveFailed, ConfigError

# -- what is stored ---------------------------------------------------------------------------


def test_a_file_is_stored_whole_with_its_hash_and_a_manifest(cdn: CDN, folder: Path) -> None:
    cdn.routes["/a.mp3"] = answer()
    stored = archive_of(cdn, folder).store(song(f"{cdn.url}/a.mp3?sig=secret"))
    (file,) = stored["files"]
    assert (folder / file["name"]).read_bytes() == SONG
    assert (file["bytes"], file["sha256"]) == (len(SONG), SHA256)
    manifest = json.loads((folder / "job/manifest.json").read_text())
    assert stored["manifest"] == f"file://{folder}/job/manifest.json"
    assert manifest["files"]["job/c0-audio.mp3"]["sha256"] == SHA256
    assert "secret" not in json.dumps([manifest, stored])
    assert files(folder) == ["job/c0-audio.mp3", "job/manifest.json"]


@pytest.mark.parametrize("kind", ["application/force-download", "binary/octet-stream", ""])
def test_a_song_is_stored_whatever_it_is_served_as(cdn: CDN, folder: Path, kind: str) -> None:
    cdn.routes["/a.mp3"] = answer(kind=kind)
    (file,) = archive_of(cdn, folder).store(song(f"{cdn.url}/a.mp3"))["files"]
    assert (file["sha256"], file["content_type"]) == (SHA256, kind)


def test_a_server_is_told_nothing_of_us(cdn: CDN, folder: Path, tmp_path: Path) -> None:
    cdn.routes["/a.mp3"] = answer()
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password secret")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NETRC", str(tmp_path / "netrc"))
        patch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
        archive_of(cdn, folder).store(song(f"{cdn.url}/a.mp3"))
    ((_, headers),) = cdn.requests
    assert set(headers) == {"Host", "Accept", "Accept-Encoding", "Connection", "User-Agent"}
    assert headers["Accept-Encoding"] == "identity"


def test_a_group_stores_every_result_and_returns_as_many(cdn: CDN, folder: Path) -> None:
    cdn.routes["/a.mp3"] = answer()
    results = [song(f"{cdn.url}/a.mp3", job_id=each) for each in ("one", "two")]
    stored = archive_of(cdn, folder).store(results)
    assert [each["job_id"] for each in stored] == ["one", "two"]
    assert len(files(folder)) == 4


def test_running_it_twice_finishes_what_is_missing_and_changes_nothing_else(
    cdn: CDN, folder: Path
) -> None:
    cdn.routes["/a.mp3"] = answer()
    cdn.routes["/late.mp3"] = answer(status=404)
    archive, both = archive_of(cdn, folder), song(f"{cdn.url}/a.mp3", f"{cdn.url}/late.mp3")
    with pytest.raises(ArchiveFailed, match=r"late\.mp3: HTTP 404") as raised:
        archive.store(both)
    assert raised.value.retryable
    assert [each["name"] for each in raised.value.details["missing"]] == ["job/c1-audio.mp3"]
    before = (folder / "job/c0-audio.mp3").stat()

    cdn.routes["/late.mp3"] = answer()
    stored = archive.store(both)
    assert archive.store(both) == stored
    assert cdn.paths() == ["/a.mp3", "/late.mp3", "/late.mp3"]
    assert (folder / "job/c0-audio.mp3").stat() == before
    assert len(json.loads((folder / "job/manifest.json").read_text())["files"]) == 2


def test_the_day_of_the_first_run_stays_in_the_names(cdn: CDN, folder: Path) -> None:
    cdn.routes["/a.mp3"] = answer()
    archive = archive_of(cdn, folder)
    dated = partial(Archive, archive.target, archive.downloader, "{date}/{job_id}/{kind}{ext}", 20)
    first = dated(clock=lambda: 0).store(song(f"{cdn.url}/a.mp3"))
    assert dated(clock=lambda: 86400).store(song(f"{cdn.url}/a.mp3")) == first
    assert files(folder) == ["1970-01-01/job/audio.mp3", "job/manifest.json"]


# -- broken off, and gone on with -------------------------------------------------------------


def test_a_download_that_was_cut_goes_on_where_it_stopped(cdn: CDN, folder: Path) -> None:
    cdn.routes["/a.mp3"] = resumable(cut_at=500_000)
    archive = archive_of(cdn, folder)
    assert "bytes came" in refused(archive, f"{cdn.url}/a.mp3", retryable=True)
    assert (folder / "job/.c0-audio.mp3.part").stat().st_size == 500_000

    cdn.routes["/a.mp3"] = resumable()
    stored = archive.store(song(f"{cdn.url}/a.mp3"))
    assert cdn.requests[-1][1]["Range"] == "bytes=500000-"
    assert stored["files"][0]["sha256"] == SHA256
    assert files(folder) == ["job/c0-audio.mp3", "job/manifest.json"]


def test_a_file_that_changed_meanwhile_begins_anew(cdn: CDN, folder: Path) -> None:
    cdn.routes["/a.mp3"] = resumable(cut_at=500_000)
    archive = archive_of(cdn, folder)
    refused(archive, f"{cdn.url}/a.mp3", retryable=True)
    other = SONG[::-1].replace(SONG[:2:-1], SONG[3:])[:-3]
    new = b"ID3" + bytes(700_000) + other[:1000]
    cdn.routes["/a.mp3"] = resumable(etag='"v2"', body=new)
    archive.store(song(f"{cdn.url}/a.mp3"))
    assert (folder / "job/c0-audio.mp3").read_bytes() == new


@pytest.mark.parametrize("damaged", ['"v\n1"', "\udcff", "é", ""])
def test_a_version_that_was_damaged_lets_the_file_begin_anew(
    cdn: CDN, folder: Path, damaged: str
) -> None:
    cdn.routes["/a.mp3"] = resumable(cut_at=500_000)
    archive = archive_of(cdn, folder)
    refused(archive, f"{cdn.url}/a.mp3", retryable=True)
    version = folder / "job/.c0-audio.mp3.part.version"
    version.write_text(damaged, errors="surrogateescape")

    cdn.routes["/a.mp3"] = resumable()
    assert archive.store(song(f"{cdn.url}/a.mp3"))["files"][0]["sha256"] == SHA256


def test_a_title_that_ends_as_a_part_does_is_a_file_of_its_own(cdn: CDN, folder: Path) -> None:
    cdn.routes["/part.mp3"], cdn.routes["/a.mp3"] = answer(), resumable()
    archive = replace(archive_of(cdn, folder), template="{job_id}/{title}")
    two = song(f"{cdn.url}/part.mp3", f"{cdn.url}/a.mp3")
    for clip, title in zip(two["clips"], ("a.part", "a"), strict=True):
        clip["title"] = title
    archive.store(two)
    assert files(folder) == ["job/a", "job/a.part", "job/manifest.json"]


@pytest.mark.parametrize("useless", [
    answer(status=416),
    answer(SONG[5:], status=206, Content_Range=f"bytes 5-{len(SONG) - 1}/{len(SONG)}"),
])  # fmt: skip
def test_a_server_that_cannot_go_on_is_asked_for_the_whole(
    cdn: CDN, folder: Path, useless: Callable[[Any], None]
) -> None:
    cdn.routes["/a.mp3"] = resumable(cut_at=500_000)
    archive = archive_of(cdn, folder)
    refused(archive, f"{cdn.url}/a.mp3", retryable=True)

    def once(handler: Any) -> None:
        (useless if "Range" in handler.headers else answer())(handler)

    cdn.routes["/a.mp3"] = once
    assert archive.store(song(f"{cdn.url}/a.mp3"))["files"][0]["sha256"] == SHA256


def test_two_runs_at_once_do_not_write_one_file(cdn: CDN, folder: Path) -> None:
    archive, held = archive_of(cdn, folder), threading.Event()

    def slow(handler: Any) -> None:
        held.wait(20)
        answer()(handler)

    cdn.routes["/a.mp3"] = slow
    first = threading.Thread(target=archive.store, args=[song(f"{cdn.url}/a.mp3")])
    first.start()
    wait_until(cdn.paths, what="the first run is downloading")
    assert "another run" in refused(archive, f"{cdn.url}/a.mp3", retryable=True)
    held.set()
    first.join()
    assert (folder / "job/c0-audio.mp3").read_bytes() == SONG
    assert cdn.paths() == ["/a.mp3"]


class Multipart(AbstractBufferedFile):  # type: ignore[misc]
    """An upload as the object stores of fsspec have it: in parts, completed by ``commit``."""

    def _initiate_upload(self) -> None:
        self.parts: list[bytes] = []
        self.fs.uploads.append(self.path)

    def _upload_chunk(self, final: bool = False) -> None:
        self.parts.append(self.buffer.getvalue())
        if final and self.autocommit:
            self.commit()

    def commit(self) -> None:
        self.fs.uploads.remove(self.path)
        self.fs.pipe_file(self.path, b"".join(self.parts))

    def discard(self) -> None:
        if self.offset is not None:
            self.fs.uploads.remove(self.path)


class ObjectStore(MemoryFileSystem):  # type: ignore[misc]
    protocol = "test-store"
    store: dict[str, Any] = {}  # noqa: RUF012
    cachable = False

    def __init__(self) -> None:
        super().__init__()
        self.uploads: list[str] = []

    def _open(self, path: str, mode: str = "rb", **options: Any) -> Any:
        if mode == "rb":
            return super()._open(path, mode)
        return Multipart(self, path, mode, 65536, autocommit=options["autocommit"])

    def pipe_file(self, path: str, value: bytes, **_: Any) -> None:
        super()._open(path, "wb").write(value)


@pytest.mark.parametrize("cut_at", [1000, 500_000])
def test_an_object_store_shows_a_file_when_it_is_whole(cdn: CDN, cut_at: int) -> None:
    cdn.routes["/a.mp3"] = resumable(cut_at=cut_at)
    store = ObjectStore()
    archive = archive_of(cdn, Remote(store, f"/{cut_at}/music"))
    refused(archive, f"{cdn.url}/a.mp3", retryable=True)
    gc.collect()
    assert store.find(f"/{cut_at}") == [f"/{cut_at}/music/job/manifest.json"]
    assert store.uploads == [], "an upload that nobody completes is paid for by the month"
    assert not store.transaction.files, "fsspec keeps every file that was ever written"

    cdn.routes["/a.mp3"] = resumable()
    stored = archive.store(song(f"{cdn.url}/a.mp3"))
    assert store.cat_file(f"/{cut_at}/music/job/c0-audio.mp3") == SONG
    assert archive.store(song(f"{cdn.url}/a.mp3")) == stored
    assert [headers.get("Range") for _, headers in cdn.requests] == [None, None]


def test_any_url_of_fsspec_is_a_place(cdn: CDN) -> None:
    cdn.routes["/a.mp3"] = answer()
    stored = archive_of(cdn, open_target("memory://music")).store(song(f"{cdn.url}/a.mp3"))
    assert stored["manifest"] == "memory:///music/job/manifest.json"
    with fsspec.open(stored["files"][0]["url"]) as file:
        assert file.read() == SONG


def test_a_place_that_nothing_reaches_is_a_wrong_setting() -> None:
    with pytest.raises(ConfigError, match="FERMATA_ARCHIVE_URL"):
        open_target("nonsense://music")


# -- where it is written ----------------------------------------------------------------------


def test_no_name_leaves_the_folder(cdn: CDN, folder: Path) -> None:
    cdn.routes["/a.mp3"] = answer()
    hostile = song(f"{cdn.url}/a.mp3", stem_type="../../../../escaped") | {"operation": "../.."}
    hostile["clips"][0]["clip_id"] = "/etc/cron.d/x\x00\ud800"
    archive_of(cdn, folder).store(hostile)
    assert len(files(folder)) == 2
    assert {path.name for path in folder.parent.iterdir()} == {folder.name}


def test_a_link_in_the_archive_is_not_followed_out_of_it(cdn: CDN, folder: Path) -> None:
    cdn.routes["/a.mp3"] = answer()
    outside = folder.parent / "outside"
    outside.mkdir()
    folder.mkdir()
    (folder / "job").symlink_to(outside)
    assert "a link leads out" in refused(archive_of(cdn, folder), f"{cdn.url}/a.mp3")
    with pytest.raises(ArchiveFailed, match="a link leads out"):
        Folder(folder).begin("job/deeper/x")
    assert list(outside.iterdir()) == []

    (folder / "other").mkdir()
    (outside / "precious").write_text("kept")
    for name in ("c0-audio.mp3", ".c0-audio.mp3.part.version"):
        (folder / "other" / name).symlink_to(outside / "precious")
    (folder / "other" / ".c0-audio.mp3.part").symlink_to(outside / "not-there-yet")
    with pytest.raises(ArchiveFailed):
        archive_of(cdn, folder).store(song(f"{cdn.url}/a.mp3", job_id="other"))
    assert [(path.name, path.read_text()) for path in outside.iterdir()] == [("precious", "kept")]


def test_a_place_that_is_full_is_a_clear_error_and_passes(cdn: CDN, folder: Path) -> None:
    cdn.routes["/a.mp3"] = answer()
    archive = archive_of(cdn, folder)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        why = refused(archive, f"{cdn.url}/a.mp3", retryable=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "the archive cannot take c0-audio.mp3: File too large" in why
    assert archive.store(song(f"{cdn.url}/a.mp3"))["files"][0]["sha256"] == SHA256


def test_a_folder_that_cannot_be_made_is_a_clear_error(cdn: CDN, folder: Path) -> None:
    folder.write_text("a file is in the way")
    assert "cannot take" in refused(archive_of(cdn, folder), f"{cdn.url}/a.mp3", retryable=True)


def test_a_manifest_of_a_stranger_is_left_alone(cdn: CDN, folder: Path) -> None:
    (folder / "job").mkdir(parents=True)
    (folder / "job/manifest.json").write_text("{}")
    assert "did not write" in refused(archive_of(cdn, folder), f"{cdn.url}/a.mp3")
    assert (folder / "job/manifest.json").read_text() == "{}"
