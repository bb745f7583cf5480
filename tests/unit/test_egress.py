"""Which links may be followed: no spelling of an inner address gets through."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.core.archive import egress
from worker.core.archive.egress import Egress, Origin, is_this_machine
from worker.core.errors import CallFailed

PUBLIC = ["93.184.216.34", "8.8.8.8", "2606:4700::6810:84e5", "2a00:1450:4001:81b::200e"]
INNER = [
    "127.0.0.1",
    "127.255.255.254",
    "0.0.0.0",
    "10.0.0.1",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.1.1",
    "169.254.169.254",
    "100.64.0.1",
    "192.0.0.8",
    "192.0.2.1",
    "192.88.99.1",
    "198.18.0.1",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "239.255.255.250",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::7f00:1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "::ffff:93.184.216.34",
    "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b::5db8:d822",
    "64:ff9b:1::1",
    "100::1",
    "2001::1",
    "2001:10::1",
    "2001:db8::1",
    "2002:7f00:1::",
    "2002:5db8:d822::1",
    "3fff::1",
    "5f00::1",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fe80::1%eth0",
    "fec0::1",
    "ff02::1",
    "2606:4700::1%lo",
]
NO_ADDRESS = ["", "localhost", "2130706433", "0177.0.0.1", "0x7f000001", "127.1", "1.2.3.4 "]
RULE = Egress(("suno.ai", "musicapi-cdn.b-cdn.net"))
SIMULATED = Egress(("suno.ai",), (egress.read_origin("http://127.0.0.1:8001/api/v1"),))


@pytest.mark.parametrize("address", PUBLIC)
def test_a_public_address_is_one(address: str) -> None:
    assert egress.is_public(address)
    assert not egress.is_loopback(address)


@pytest.mark.parametrize("address", INNER + NO_ADDRESS)
def test_no_other_address_is_public(address: str) -> None:
    assert not egress.is_public(address)
    with pytest.raises(CallFailed, match="not one to call"):
        RULE.judge(Origin("https", "cdn1.suno.ai", 443), address)


def test_an_inner_origin_is_called_at_the_address_that_it_names_alone() -> None:
    inner = egress.read_origin("http://10.0.0.5:8080")
    rule = Egress(("example.com",), (inner,), "FERMATA_NOTIFY_HOSTS")
    assert rule.admit("http://10.0.0.5:8080/x?y") == inner
    rule.judge(inner, "10.0.0.5")
    for address in ("10.0.0.6", "169.254.169.254", "8.8.8.8"):
        with pytest.raises(CallFailed, match="not one to call"):
            rule.judge(inner, address)
    for url in ("http://10.0.0.5/", "https://10.0.0.5:8080/", "http://10.0.0.5:8081/"):
        with pytest.raises(CallFailed, match="only https"):
            rule.admit(url)
    with pytest.raises(CallFailed, match="FERMATA_NOTIFY_HOSTS does not name its host"):
        rule.admit("https://example.org/")


@given(st.ip_addresses(v=4))
def test_an_ipv4_address_is_never_public_in_the_clothes_of_ipv6(address: object) -> None:
    dressed = ("::ffff:{}", "::{}", "64:ff9b::{}", "64:ff9b:1::{}", "::ffff:0:{}")
    assert not any(egress.is_public(each.format(address)) for each in dressed)


@pytest.mark.parametrize("address", ["127.0.0.1", "127.3.2.1", "::1"])
def test_loopback_is_where_the_simulator_is(address: str) -> None:
    assert egress.is_loopback(address)


@pytest.mark.parametrize("address", ["::ffff:127.0.0.1", "10.0.0.1", "::1%lo", "", "localhost"])
def test_nothing_else_is_loopback(address: str) -> None:
    assert not egress.is_loopback(address)


@pytest.mark.parametrize(
    ("url", "host", "target"),
    [
        ("https://cdn1.suno.ai/a.mp3?sig=x%20y", "cdn1.suno.ai", "/a.mp3?sig=x%20y"),
        ("HTTPS://CDN1.SUNO.AI./a.mp3#part", "cdn1.suno.ai", "/a.mp3"),
        ("https://suno.ai", "suno.ai", "/"),
        ("https://suno.ai:443/", "suno.ai", "/"),
        ("https://musicapi-cdn.b-cdn.net/a;b", "musicapi-cdn.b-cdn.net", "/a;b"),
    ],
)
def test_a_named_host_is_admitted(url: str, host: str, target: str) -> None:
    admitted = RULE.admit(url)
    assert (admitted.scheme, admitted.host, admitted.port) == ("https", host, 443)
    assert admitted.target == target


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "ftp://suno.ai/a",
        "gopher://suno.ai/",
        "data:audio/mpeg,x",
        "suno.ai/a",
        "//suno.ai/a",
        "",
        "http://cdn1.suno.ai/a.mp3",
        "https://cdn1.suno.ai:22/",
        "https://suno.ai:0/",
        "https://suno.ai:99999/",
        "https://evil.test/a.mp3",
        "https://suno.ai.evil.test/",
        "https://evil.test../",
        "https://.suno.ai/",
        "https://cdn1..suno.ai/",
        "https://./",
        "https://notsuno.ai/",
        "https://evil.b-cdn.net/",
        "https://suno.ai@evil.test/",
        "https://user:secret@suno.ai/",
        "https://evil.test\\@suno.ai/",
        "https://suno.ai\t.evil.test/",
        "https://suno.ai/a\r\nHost: inner",
        "https://suno.ai/a b",
        "https://suno.аi/",
        "https://[::1/",
        "https://[::1]/",
        "https://127.0.0.1/",
        "https://2130706433/",
        "https://0x7f.1/",
        "https://0177.0.0.1/",
        "https:///a.mp3",
        "http://127.0.0.1:8001/a.wav",
    ],
)
def test_nothing_else_is_admitted_and_no_password_is_shown(url: str) -> None:
    with pytest.raises(CallFailed, match="refused") as raised:
        RULE.admit(url)
    assert "secret" not in str(raised.value)
    assert not raised.value.retryable


def test_plain_http_is_for_the_simulator_alone() -> None:
    assert SIMULATED.admit("http://127.0.0.1:8001/media/a.wav").target == "/media/a.wav"
    for other in ("http://127.0.0.1:6379/", "http://localhost:8001/", "https://127.0.0.1:8001/"):
        with pytest.raises(CallFailed):
            SIMULATED.admit(other)


def test_the_simulator_is_looked_for_on_this_machine_and_nothing_else_is() -> None:
    simulator = SIMULATED.admit("http://127.0.0.1:8001/")
    SIMULATED.judge(simulator, "127.0.0.1")
    with pytest.raises(CallFailed):
        SIMULATED.judge(simulator, "93.184.216.34")
    with pytest.raises(CallFailed):
        SIMULATED.judge(SIMULATED.admit("https://suno.ai/"), "127.0.0.1")
    RULE.judge(RULE.admit("https://suno.ai/"), "93.184.216.34")


def test_a_redirect_is_read_as_browsers_read_it() -> None:
    assert egress.redirected("https://suno.ai/a/b", "../c") == "https://suno.ai/c"
    assert egress.redirected("https://suno.ai/a", "//evil.test/") == "https://evil.test/"
    with pytest.raises(CallFailed):
        egress.redirected("https://suno.ai/a", "http://[")


@pytest.mark.parametrize(
    ("url", "seen"),
    [
        ("https://suno.ai/a.mp3?token=secret#x", "suno.ai/a.mp3"),
        ("https://user:secret@suno.ai/a", "suno.ai/a"),
        ("http://[secret", "a link"),
        ("?secret", "a link"),
    ],
)
def test_a_link_is_shown_without_its_secrets(url: str, seen: str) -> None:
    assert egress.shown(url) == seen


@given(st.text())
def test_any_text_is_admitted_or_refused(url: str) -> None:
    with contextlib.suppress(CallFailed):
        assert RULE.admit(url).host.endswith(RULE.hosts)


@pytest.mark.parametrize(
    ("url", "here"),
    [
        ("http://127.0.0.1:8000/healthz", True),
        ("http://127.8.0.1", True),
        ("http://[::1]:8000", True),
        ("http://LOCALHOST:8000", True),
        ("https://localhost./api", True),
        ("https://localhost.example.com", False),
        ("https://127.0.0.1.example.com", False),
        ("https://10.0.0.1", False),
        ("http://[::ffff:127.0.0.1]", False),
        ("redis://", False),
    ],
)
def test_a_url_names_this_very_machine_by_its_address_or_as_localhost(url: str, here: bool) -> None:
    assert is_this_machine(url) is here
