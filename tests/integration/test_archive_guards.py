"""What a link cannot do, each tried against a real server."""

import socket
import ssl
import subprocess
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.cdn import (
    CDN,
    LIMIT,
    SHA256,
    SONG,
    answer,
    archive_of,
    endless,
    files,
    refused,
    resumable,
    song,
)
from tests.system import busyness, within
from worker.archive.files import Archive
from worker.core.archive.egress import Egress, Origin
from worker.core.errors import ArchiveFailed

PUBLIC, OTHER_PUBLIC, METADATA = "93.184.216.34", "93.184.216.35", "169.254.169.254"


# -- where it may go --------------------------------------------------------------------------


def elsewhere(cdn: CDN, folder: Path, *answers: list[str], **parts: Any) -> tuple[Archive, Any]:
    """An archive for which ``cdn.test`` has these addresses, one answer after the other."""
    asked = iter(answers)
    called: list[str] = []

    def connect(address: str, _port: int, seconds: float) -> socket.socket:
        called.append(address)
        return socket.create_connection(("127.0.0.1", cdn.port), seconds)

    egress = Egress(("cdn.test",))
    usual: dict[str, Any] = {
        "egress": egress,
        "resolve": lambda *_: next(asked),
        "connect": connect,
    }
    return archive_of(cdn, folder, **usual | parts), called


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
    egress = Egress((), (Origin("http", "cdn.test", cdn.port),))
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
    with within(seconds=15):
        refused(archive, f"{cdn.url}/a.mp3", retryable=True)
    over.set()


def test_a_server_that_drips_does_not_starve_the_others(cdn: CDN, folder: Path) -> None:
    over = threading.Event()

    def drip(handler: Any) -> None:
        while not over.wait(0.05):
            handler.wfile.write(b"H")

    cdn.routes["/drip.mp3"], cdn.routes["/a.mp3"] = drip, answer()
    archive = archive_of(cdn, folder, run_seconds=4 * busyness())
    with pytest.raises(ArchiveFailed, match="1 file "):
        archive.store(song(f"{cdn.url}/drip.mp3", f"{cdn.url}/a.mp3"))
    over.set()
    assert (folder / "job/c1-audio.mp3").read_bytes() == SONG


@pytest.mark.parametrize(
    ("wrong", "why", "retryable"),
    [
        (answer(b"<!doctype html>", kind="text/html"), "text/html", False),
        (answer(b"<!doctype html>"), "begin", False),
        (answer(b""), "begin", False),
        (answer(status=410), "410", False),
        (answer(status=206, Content_Range="bytes 5-9/10"), "206", False),
        (answer(status=206), "206", False),
        (answer(status=206, Content_Range=f"bytes 0-1/{'9' * 5000}"), "206", False),
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
