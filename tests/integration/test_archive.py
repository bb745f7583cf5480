"""The archive against real servers: what is stored is whole, and what is hostile is refused."""

import contextlib
import gc
import hashlib
import http.server
import json
import resource
import socket
import ssl
import subprocess
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.spec import AbstractBufferedFile

from tests.system import wait_until
from worker.archive import Archive
from worker.core.egress import Egress, Origin
from worker.core.errors import ArchiveFailed, ConfigError
from worker.core.names import DEFAULT_TEMPLATE
from worker.download import Downloader
from worker.targets import Folder, Remote, Target, open_target

SONG = b"ID3" + bytes(range(256)) * 4096
SHA256 = hashlib.sha256(SONG).hexdigest()
LIMIT = 8 * 1024 * 1024
PUBLIC, OTHER_PUBLIC, METADATA = "93.184.216.34", "93.184.216.35", "169.254.169.254"


class CDN:
    """A real server on loopback: each path is a function that answers."""

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self.routes: dict[str, Callable[[http.server.BaseHTTPRequestHandler], None]] = {}
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.sent = 0
        cdn = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                cdn.requests.append((self.path, dict(self.headers.items())))
                self.close_connection = True
                with contextlib.suppress(OSError):
                    cdn.routes[self.path.partition("?")[0]](self)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        if context:
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self._server.daemon_threads = True
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign]
        self.port: int = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def paths(self) -> list[str]:
        return [path for path, _ in self.requests]


def answer(
    body: bytes = SONG, *, status: int = 200, kind: str = "audio/mpeg", **headers: str
) -> Callable[[Any], None]:
    def respond(handler: Any) -> None:
        handler.send_response(status)
        given = {"Content-Type": kind, "Content-Length": str(len(body))}
        for name, value in (given | {k.replace("_", "-"): v for k, v in headers.items()}).items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(body)

    return respond


def endless(cdn: CDN, *, length: int | None, total: int = 10 * 1024**3) -> Callable[[Any], None]:
    """A body of 10 GB, with a length or chunked."""

    def respond(handler: Any) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", "audio/mpeg")
        chunk = b"ID3" + bytes(65533)
        if length is None:
            handler.send_header("Transfer-Encoding", "chunked")
            chunk = b"%x\r\n%b\r\n" % (len(chunk), chunk)
        else:
            handler.send_header("Content-Length", str(length))
        handler.end_headers()
        while cdn.sent < total:
            handler.wfile.write(chunk)
            cdn.sent += len(chunk)

    return respond


def resumable(
    *, etag: str = '"v1"', cut_at: int | None = None, body: bytes = SONG
) -> Callable[[Any], None]:
    """A server that takes Range and If-Range, and may break off in the middle."""

    def respond(handler: Any) -> None:
        asked = handler.headers.get("Range", "")
        begin = int(asked[6:-1]) if asked and handler.headers.get("If-Range") == etag else 0
        handler.send_response(206 if begin else 200)
        handler.send_header("Content-Type", "audio/mpeg")
        handler.send_header("ETag", etag)
        handler.send_header("Content-Length", str(len(body) - begin))
        if begin:
            handler.send_header("Content-Range", f"bytes {begin}-{len(body) - 1}/{len(body)}")
        handler.end_headers()
        handler.wfile.write(body[begin:cut_at])

    return respond


@pytest.fixture
def cdn() -> Iterator[CDN]:
    cdn = CDN()
    yield cdn
    cdn.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "the archive"


def archive_of(
    cdn: CDN, target: Target | Path, *, run_seconds: float = 20, **parts: Any
) -> Archive:
    """An archive that takes a server of the test for the simulator."""
    egress = Egress(("cdn.test",), Origin("http", "127.0.0.1", cdn.port))
    tls = ssl.create_default_context()
    downloader = Downloader(
        **{"egress": egress, "tls": tls, "connect_seconds": 5, "max_bytes": LIMIT} | parts
    )
    place = Folder(target) if isinstance(target, Path) else target
    return Archive(place, downloader, DEFAULT_TEMPLATE, run_seconds)


def song(*urls: str, job_id: str = "job", **clip: Any) -> dict[str, Any]:
    clips = [
        {"clip_id": f"c{n}", "state": "succeeded", "audio_url": url, **clip}
        for n, url in enumerate(urls)
    ]
    return {
        "job_id": job_id,
        "operation": "sonic.remaster",
        "provider_task_id": "p",
        "clips": clips,
    }


def refused(archive: Archive, *urls: str, retryable: bool = False) -> str:
    """Store what must not be stored; returns why not, and nothing of it is there."""
    with pytest.raises(ArchiveFailed) as raised:
        archive.store(song(*urls))
    assert raised.value.retryable is retryable
    return str(raised.value)


def files(folder: Path) -> list[str]:
    found = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return sorted(str(path) for path in found)


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
    dated = partial(Archive, archive.target, archive.downloader, "{date}/{job_id}{ext}", 20)
    first = dated(clock=lambda: 0).store(song(f"{cdn.url}/a.mp3"))
    assert dated(clock=lambda: 86400).store(song(f"{cdn.url}/a.mp3")) == first
    assert files(folder) == ["1970-01-01/job.mp3", "job/manifest.json"]


# -- broken off, and gone on with -------------------------------------------------------------


def test_a_download_that_was_cut_goes_on_where_it_stopped(cdn: CDN, folder: Path) -> None:
    cdn.routes["/a.mp3"] = resumable(cut_at=500_000)
    archive = archive_of(cdn, folder)
    assert "bytes came" in refused(archive, f"{cdn.url}/a.mp3", retryable=True)
    assert (folder / "job/c0-audio.mp3.part").stat().st_size == 500_000

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


class Multipart(AbstractBufferedFile):
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


class ObjectStore(MemoryFileSystem):
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


# -- where it may go --------------------------------------------------------------------------


def elsewhere(cdn: CDN, folder: Path, *answers: list[str], **parts: Any) -> tuple[Archive, Any]:
    """An archive for which ``cdn.test`` has these addresses, one answer after the other."""
    asked = iter(answers)
    called: list[str] = []

    def connect(address: str, _port: int, seconds: float) -> socket.socket:
        called.append(address)
        return socket.create_connection(("127.0.0.1", cdn.port), seconds)

    egress = Egress(("cdn.test",))
    parts = {"egress": egress, "resolve": lambda *_: next(asked), "connect": connect} | parts
    return archive_of(cdn, folder, **parts), called


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "10.0.0.1", METADATA, "::1", "fd00::1", "64:ff9b::a00:1"]
)
def test_a_name_with_an_inner_address_is_refused(cdn: CDN, folder: Path, address: str) -> None:
    for addresses in ([address], [PUBLIC, address]):
        archive, called = elsewhere(cdn, folder, addresses)
        assert address in refused(archive, "https://cdn.test/a.mp3")
        assert called == []
    assert cdn.requests == []


@pytest.mark.parametrize(
    "url",
    ["file:///etc/passwd", "http://127.0.0.1:1/", f"http://{METADATA}/latest", "https://[::1]/a.mp3",
     "https://2130706433/a.mp3", "https://evil.test/a.mp3", "http://cdn.test/a.mp3"],
)  # fmt: skip
@pytest.mark.parametrize("by_redirect", [False, True])
def test_a_link_elsewhere_is_refused_after_a_redirect_too(
    cdn: CDN, folder: Path, url: str, by_redirect: bool
) -> None:
    cdn.routes["/a.mp3"] = answer(status=302, Location=url)
    assert "refused" in refused(archive_of(cdn, folder), f"{cdn.url}/a.mp3" if by_redirect else url)
    assert files(folder) == ["job/manifest.json"]
    assert len(cdn.requests) == by_redirect


def test_a_redirect_to_where_we_may_go_is_followed(cdn: CDN, folder: Path) -> None:
    cdn.routes["/a.mp3"] = answer(status=307, Location="b.mp3?x=1")
    cdn.routes["/b.mp3"] = answer()
    archive_of(cdn, folder).store(song(f"{cdn.url}/a.mp3"))
    assert cdn.paths() == ["/a.mp3", "/b.mp3?x=1"]


def test_redirects_come_to_an_end(cdn: CDN, folder: Path) -> None:
    cdn.routes["/a.mp3"] = answer(status=302, Location="/a.mp3")
    assert "redirects" in refused(archive_of(cdn, folder), f"{cdn.url}/a.mp3")
    assert len(cdn.requests) == 6


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for cdn.test, which is its own authority; made here, for this run."""
    folder = tmp_path_factory.mktemp("tls")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
         "-nodes", "-days", "1", "-subj", "/CN=cdn.test", "-addext", "subjectAltName=DNS:cdn.test",
         "-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")],
        check=True, capture_output=True,
    )  # fmt: skip
    return folder


@pytest.fixture
def secure(authority: Path) -> Iterator[CDN]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority / "cert.pem", authority / "key.pem")
    cdn = CDN(context)
    yield cdn
    cdn.close()


def test_a_dns_answer_that_changes_changes_nothing(
    secure: CDN, authority: Path, folder: Path
) -> None:
    """The judged address is the one that is connected to; TLS still wants the name."""
    secure.routes["/a.mp3"] = answer()
    tls = ssl.create_default_context(cafile=authority / "cert.pem")
    archive, called = elsewhere(secure, folder, [PUBLIC], [METADATA], tls=tls)
    assert archive.store(song("https://cdn.test/a.mp3"))["files"][0]["sha256"] == SHA256
    assert called == [PUBLIC]
    assert secure.requests[0][1]["Host"] == "cdn.test"

    again, called = elsewhere(secure, folder, [METADATA], tls=tls)
    with pytest.raises(ArchiveFailed, match=METADATA):
        again.store(song("https://cdn.test/a.mp3", job_id="again"))
    assert called == []


def test_the_system_is_asked_for_a_name_once(
    cdn: CDN, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cdn.routes["/a.mp3"] = answer()
    genuine, asked = socket.getaddrinfo, []

    def rebinding(host: str, *args: Any, **options: Any) -> Any:
        if host != "cdn.test":
            return genuine(host, *args, **options)
        asked.append(host)
        return genuine("127.0.0.1" if len(asked) == 1 else METADATA, *args, **options)

    monkeypatch.setattr(socket, "getaddrinfo", rebinding)
    egress = Egress((), Origin("http", "cdn.test", cdn.port))
    archive_of(cdn, folder, egress=egress).store(song(f"http://cdn.test:{cdn.port}/a.mp3"))
    assert asked == ["cdn.test"]


def test_a_certificate_of_another_name_is_refused(
    secure: CDN, authority: Path, folder: Path
) -> None:
    tls = ssl.create_default_context(cafile=authority / "cert.pem")
    egress = Egress(("other.test",))
    archive, _ = elsewhere(secure, folder, [PUBLIC], tls=tls, egress=egress)
    assert "certificate" in refused(archive, "https://other.test/a.mp3")
    stranger, _ = elsewhere(secure, folder, [PUBLIC])
    assert "certificate" in refused(stranger, "https://cdn.test/a.mp3")
    assert secure.requests == []


def test_the_next_address_is_tried_where_one_does_not_answer(cdn: CDN, folder: Path) -> None:
    cdn.routes["/a.mp3"] = answer()
    tried: list[str] = []

    def connect(address: str, port: int, seconds: float) -> socket.socket:
        tried.append(address)
        if address == "127.0.0.2":
            raise ConnectionRefusedError
        return socket.create_connection((address, port), seconds)

    two = archive_of(cdn, folder, resolve=lambda *_: ["127.0.0.2", "127.0.0.1"], connect=connect)
    two.store(song(f"{cdn.url}/a.mp3"))
    assert tried == ["127.0.0.2", "127.0.0.1"]
    none = archive_of(cdn, folder / "b", resolve=lambda *_: ["127.0.0.2"], connect=connect)
    assert "ConnectionRefusedError" in refused(none, f"{cdn.url}/a.mp3", retryable=True)


# -- what it takes ----------------------------------------------------------------------------


@pytest.mark.parametrize("length", [None, 10 * 1024**3])
def test_a_body_of_10_gb_is_refused_early_and_in_little_memory(
    cdn: CDN, folder: Path, length: int | None
) -> None:
    cdn.routes["/a.mp3"] = endless(cdn, length=length)
    archive = archive_of(cdn, folder)
    tracemalloc.start()
    assert "FERMATA_ARCHIVE_MAX_BYTES" in refused(archive, f"{cdn.url}/a.mp3")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < LIMIT / 2
    # What was sent and not read fits into the buffers of the connection.
    assert cdn.sent < (LIMIT if length else 4 * LIMIT)
    assert files(folder) == ["job/manifest.json"]


@pytest.mark.parametrize("encoding", ["gzip", "br", "identity, gzip"])
def test_a_decompression_bomb_is_not_opened(cdn: CDN, folder: Path, encoding: str) -> None:
    cdn.routes["/a.mp3"] = answer(b"\x1f\x8b" + bytes(1000), Content_Encoding=encoding)
    assert "compressed" in refused(archive_of(cdn, folder), f"{cdn.url}/a.mp3")


def test_a_body_that_may_have_been_cut_is_refused(cdn: CDN, folder: Path) -> None:
    def unmeasured(handler: Any) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Type: audio/mpeg\r\n\r\n" + SONG)

    cdn.routes["/a.mp3"] = unmeasured
    assert "cut" in refused(archive_of(cdn, folder), f"{cdn.url}/a.mp3")


@pytest.mark.parametrize("where", ["headers", "body"])
def test_a_server_that_drips_is_cut_off(cdn: CDN, folder: Path, where: str) -> None:
    over = threading.Event()

    def drip(handler: Any) -> None:
        if where == "body":
            handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\nID3")
        while not over.wait(0.05):
            handler.wfile.write(b"X" if where == "body" else b"H")

    cdn.routes["/a.mp3"] = drip
    archive = archive_of(cdn, folder, run_seconds=0.5)
    began = time.monotonic()
    refused(archive, f"{cdn.url}/a.mp3", retryable=True)
    assert time.monotonic() - began < 15
    over.set()


@pytest.mark.parametrize(
    ("wrong", "why", "retryable"),
    [
        (answer(b"<!doctype html>", kind="text/html"), "text/html", False),
        (answer(b"<!doctype html>"), "begin", False),
        (answer(b""), "begin", False),
        (answer(status=410), "410", False),
        (answer(status=503), "503", True),
        (answer(status=403), "403", True),
        (resumable(cut_at=700), "bytes came", True),
    ],
)
def test_what_is_not_the_file_is_not_stored(
    cdn: CDN, folder: Path, wrong: Callable[[Any], None], why: str, retryable: bool
) -> None:
    cdn.routes["/a.mp3"] = wrong
    assert why in refused(archive_of(cdn, folder), f"{cdn.url}/a.mp3", retryable=retryable)
    assert "job/c0-audio.mp3" not in files(folder)


# -- where it is written ----------------------------------------------------------------------


def test_no_name_leaves_the_folder(cdn: CDN, folder: Path) -> None:
    cdn.routes["/a.mp3"] = answer()
    hostile = song(f"{cdn.url}/a.mp3", stem_type="../../../../escaped") | {"operation": "../.."}
    hostile["clips"][0]["clip_id"] = "/etc/cron.d/x\x00"
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

    (folder / "other").mkdir()
    (outside / "precious").write_text("kept")
    for name in ("c0-audio.mp3", "c0-audio.mp3.part.version"):
        (folder / "other" / name).symlink_to(outside / "precious")
    (folder / "other" / "c0-audio.mp3.part").symlink_to(outside / "not-there-yet")
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
