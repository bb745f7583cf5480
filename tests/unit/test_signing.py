"""The provider's signature: the worked examples, and whatever a stranger may send."""

import base64
import hashlib
import hmac
import json
import re
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit import recorded
from worker.core.errors import InvalidSignature
from worker.core.providers.aimusic.signing import SCHEME
from worker.core.signing import ID_LIMIT, Scheme, derive_secret, derive_secrets

SIGNATURE_HEADER, TIMESTAMP_HEADER = SCHEME.signature_header, SCHEME.timestamp_header

SECRET = "whsec_test_0123456789"
TIMESTAMP = "1763800000"
TOLERANCE = timedelta(seconds=300)
SIGNED = "sha256=1f4e670b95fc8e720a783e5364ab50bb16bbecd3b0593a7287e09257db01a605"

# provider-api.md §5.4: secret, timestamp, sample, signature.
VECTORS = {
    "completed": (SECRET, TIMESTAMP, "signed_completed", SIGNED),
    "failed": (
        SECRET,
        TIMESTAMP,
        "signed_failed",
        "sha256=f2f66c4e7c40739538dfcf3f9daac1fb59469f9de8be1fd138ad57e8479b537d",
    ),
    "minimal": (
        "secret",
        "1700000000",
        "signed_minimal",
        "sha256=88d901b5a89c20c8f55f40f70e8748f440883b6d56c674564010717dfee4b728",
    ),
}


def check(
    body: bytes,
    signature: str,
    *,
    timestamp: str = TIMESTAMP,
    secrets: tuple[str, ...] = (SECRET,),
    now: float = 1763800000,
) -> None:
    headers = {TIMESTAMP_HEADER: timestamp, SIGNATURE_HEADER: signature}
    moment = datetime.fromtimestamp(now, UTC)
    SCHEME.verify(headers, body, secrets=secrets, now=moment, tolerance=TOLERANCE)


@pytest.mark.parametrize("vector", VECTORS)
def test_every_documented_vector_verifies(vector: str) -> None:
    secret, timestamp, sample, signature = VECTORS[vector]
    body = recorded.raw(sample)
    check(body, signature, timestamp=timestamp, secrets=(secret,), now=int(timestamp))
    assert SCHEME.sign(secret, timestamp, body) == signature


def test_the_documented_body_is_kept_to_the_byte() -> None:
    body = recorded.raw("signed_completed")
    digest = "7378fc7039a81001efa2dc6e8b3972aa2865d9a7a7e294505ccf8f38d42553e2"
    assert (len(body), hashlib.sha256(body).hexdigest()) == (622, digest)


@pytest.mark.parametrize(
    ("separators", "length", "signature"),
    [
        (
            (",", ":"),
            618,
            "sha256=20fd5ebee27c4e5392a40f2ad03139963e1fc91d8830e27686f74af1815893ca",
        ),
        (
            (", ", ": "),
            658,
            "sha256=77d53b85220482affbae537f8dfa052a8eb4b5a48e20341c24336f71d90509d3",
        ),
    ],
)
def test_a_body_that_was_parsed_and_written_again_does_not_verify(
    separators: tuple[str, str], length: int, signature: str
) -> None:
    body = recorded.raw("signed_completed")
    again = json.dumps(json.loads(body), separators=separators, ensure_ascii=False).encode()
    assert len(again) == length
    check(again, signature)
    with pytest.raises(InvalidSignature):
        check(again, SIGNED)
    with pytest.raises(InvalidSignature):
        check(body, signature)


@pytest.mark.parametrize(
    "legacy",
    [
        "acc048b1785ecb6349d693792abeb41a04dbec36f8e1e8ddeaa2bc091bfb7e66",
        "sha256=acc048b1785ecb6349d693792abeb41a04dbec36f8e1e8ddeaa2bc091bfb7e66",
    ],
)
def test_the_older_signature_over_the_body_alone_does_not_verify(legacy: str) -> None:
    with pytest.raises(InvalidSignature):
        check(recorded.raw("signed_completed"), legacy)


def test_a_signature_by_another_secret_does_not_verify() -> None:
    with pytest.raises(InvalidSignature):
        check(recorded.raw("signed_completed"), SIGNED, secrets=("whsec_test_0123456788",))


@pytest.mark.parametrize("position", [0, 1, 2])
def test_any_of_several_secrets_verifies(position: int) -> None:
    secrets = ["another", "a third", "a fourth"]
    secrets[position] = SECRET
    check(recorded.raw("signed_completed"), SIGNED, secrets=tuple(secrets))


def test_without_a_secret_nothing_verifies() -> None:
    with pytest.raises(InvalidSignature):
        check(recorded.raw("signed_completed"), SIGNED, secrets=())


@pytest.mark.parametrize("off", [-300, 0, 300])
def test_a_timestamp_at_the_edge_of_the_tolerance_verifies(off: int) -> None:
    check(recorded.raw("signed_completed"), SIGNED, now=1763800000 + off)


@pytest.mark.parametrize("off", [-301, -300.5, 300.5, 301, 10**9])
def test_a_timestamp_beyond_the_tolerance_does_not_verify(off: float) -> None:
    with pytest.raises(InvalidSignature, match="tolerance"):
        check(recorded.raw("signed_completed"), SIGNED, now=1763800000 + off)


@pytest.mark.parametrize("prefix", ["sha256=", "SHA256=", "Sha256="])
def test_the_prefix_may_be_written_in_either_case(prefix: str) -> None:
    check(recorded.raw("signed_completed"), prefix + SIGNED.removeprefix("sha256="))


@pytest.mark.parametrize(
    "signature",
    ["", "sha256=", SIGNED[7:], SIGNED[:-1], SIGNED + "0", SIGNED + "\n", f" {SIGNED}",
     "sha512=" + SIGNED[7:], "sha256=" + SIGNED[7:].upper(), "sha256=" + "é" * 64],
)  # fmt: skip
def test_a_signature_of_another_form_is_refused(signature: str) -> None:
    with pytest.raises(InvalidSignature):
        check(recorded.raw("signed_completed"), signature)


@pytest.mark.parametrize(
    "timestamp",
    ["", "now", "-1763800000", "+1763800000", "1763800000.0", " 1763800000", "1763800000\n",
     "1_763_800_000", "１７６３８０００００", "²", "9" * 5000],
)  # fmt: skip
def test_a_timestamp_that_is_not_unix_seconds_is_refused(timestamp: str) -> None:
    with pytest.raises(InvalidSignature, match="Unix time"):
        check(recorded.raw("signed_completed"), SIGNED, timestamp=timestamp)


@pytest.mark.parametrize("missing", [SIGNATURE_HEADER, TIMESTAMP_HEADER])
def test_a_missing_header_is_refused(missing: str) -> None:
    headers = {SIGNATURE_HEADER: SIGNED, TIMESTAMP_HEADER: TIMESTAMP}
    del headers[missing]
    now = datetime.fromtimestamp(1763800000, UTC)
    with pytest.raises(InvalidSignature, match=missing):
        SCHEME.verify(headers, b"{}", secrets=[SECRET], now=now, tolerance=TOLERANCE)


header_values = st.one_of(
    st.text(max_size=80),
    st.integers(-(10**13), 10**13).map(str),
    st.text("0123456789abcdefA", min_size=63, max_size=65).map("sha256={}".format),
)


@given(
    st.dictionaries(st.sampled_from([SIGNATURE_HEADER, TIMESTAMP_HEADER, "Host"]), header_values),
    st.binary(max_size=200),
    st.lists(st.text(alphabet=st.characters(codec="utf-8")), max_size=3),
    st.integers(0, 10**11),
)
def test_whatever_a_stranger_sends_is_refused_with_one_error(
    headers: dict[str, str], body: bytes, secrets: list[str], now: int
) -> None:
    moment = datetime.fromtimestamp(now, UTC)
    with pytest.raises(InvalidSignature):
        SCHEME.verify(headers, body, secrets=secrets, now=moment, tolerance=timedelta(days=365_000))


@given(st.text(alphabet=st.characters(codec="utf-8")), st.integers(0, 10**11), st.binary())
def test_a_signed_body_always_verifies(secret: str, timestamp: int, body: bytes) -> None:
    signature = SCHEME.sign(secret, str(timestamp), body)
    check(body, signature, timestamp=str(timestamp), secrets=("other", secret), now=timestamp)


@given(st.binary(min_size=1), st.data(), st.integers(1, 255))
def test_one_flipped_byte_never_verifies(body: bytes, data: st.DataObject, flip: int) -> None:
    at = data.draw(st.integers(0, len(body) - 1))
    flipped = body[:at] + bytes([body[at] ^ flip]) + body[at + 1 :]
    with pytest.raises(InvalidSignature):
        check(flipped, SCHEME.sign(SECRET, TIMESTAMP, body))


@given(st.integers(0, 63), st.integers(1, 15))
def test_one_flipped_digit_of_the_signature_never_verifies(at: int, flip: int) -> None:
    digits = list(SIGNED.removeprefix("sha256="))
    digits[at] = f"{int(digits[at], 16) ^ flip:x}"
    with pytest.raises(InvalidSignature):
        check(recorded.raw("signed_completed"), "sha256=" + "".join(digits))


@given(st.integers(-300, 300).filter(bool))
def test_another_timestamp_under_the_same_signature_never_verifies(off: int) -> None:
    with pytest.raises(InvalidSignature):
        check(recorded.raw("signed_completed"), SIGNED, timestamp=str(1763800000 + off))


def test_a_jobs_secret_depends_on_the_key_and_on_the_job() -> None:
    secrets = {derive_secret(key, job) for key in ("k1", "k2") for job in ("j1", "j2")}
    assert len(secrets) == 4
    assert all(re.fullmatch("[0-9a-f]{64}", secret) for secret in secrets)
    assert derive_secret("k1", "j1") == derive_secret("k1", "j1")


def test_no_error_repeats_the_secret_or_the_right_signature() -> None:
    wrong = "sha256=" + "0" * 64
    with pytest.raises(InvalidSignature) as raised:
        check(recorded.raw("signed_completed"), wrong)
    said = repr(raised.value) + str(raised.value.to_json())
    assert SECRET not in said
    assert SIGNED[7:] not in said


def test_every_signing_key_gives_the_job_a_secret_in_the_same_order() -> None:
    assert derive_secrets(["new", "old"], "job-1") == [
        derive_secret("new", "job-1"),
        derive_secret("old", "job-1"),
    ]


def test_a_delivery_that_was_kept_verifies_whatever_its_age() -> None:
    body = recorded.raw("signed_completed")
    headers = {TIMESTAMP_HEADER: TIMESTAMP, SIGNATURE_HEADER: SIGNED}
    SCHEME.verify_kept(headers, body, secrets=["another", SECRET])


@pytest.mark.parametrize(
    "change",
    [{TIMESTAMP_HEADER: "1763800001"}, {TIMESTAMP_HEADER: ""}, {SIGNATURE_HEADER: ""},
     {SIGNATURE_HEADER: "sha256=" + "0" * 64}],
)  # fmt: skip
def test_a_delivery_that_was_kept_and_changed_does_not_verify(change: dict[str, str]) -> None:
    headers = {TIMESTAMP_HEADER: TIMESTAMP, SIGNATURE_HEADER: SIGNED} | change
    with pytest.raises(InvalidSignature):
        SCHEME.verify_kept(headers, recorded.raw("signed_completed"), secrets=[SECRET])


@given(st.dictionaries(st.sampled_from([SIGNATURE_HEADER, TIMESTAMP_HEADER]), header_values),
       st.binary(max_size=200))  # fmt: skip
def test_whatever_was_kept_is_refused_with_one_error(headers: dict[str, str], body: bytes) -> None:
    with pytest.raises(InvalidSignature):
        SCHEME.verify_kept(headers, body, secrets=[SECRET])


# -- another scheme: Standard Webhooks signs the id too, and writes in Base64 ----------------------

STANDARD = Scheme(
    id_header="webhook-id",
    timestamp_header="webhook-timestamp",
    signature_header="webhook-signature",
    prefix="v1,",
    signs_id=True,
    in_base64=True,
)


def test_another_scheme_is_nothing_but_other_data() -> None:
    digest = hmac.new(SECRET.encode(), b"msg_1." + TIMESTAMP.encode() + b".{}", hashlib.sha256)
    headers = {
        "webhook-id": "msg_1",
        "webhook-timestamp": TIMESTAMP,
        "webhook-signature": "v1," + base64.b64encode(digest.digest()).decode(),
    }
    assert STANDARD.headers(SECRET, TIMESTAMP, b"{}", delivery_id="msg_1") == headers
    now = datetime.fromtimestamp(int(TIMESTAMP), UTC)
    STANDARD.verify(headers, b"{}", secrets=["other", SECRET], now=now, tolerance=TOLERANCE)
    for name in headers:
        with pytest.raises(InvalidSignature):
            STANDARD.verify_kept(headers | {name: "msg_2"}, b"{}", secrets=[SECRET])
    long = STANDARD.headers(SECRET, TIMESTAMP, b"{}", delivery_id="m" * (ID_LIMIT + 1))
    with pytest.raises(InvalidSignature, match="longer"):
        STANDARD.verify_kept(long, b"{}", secrets=[SECRET])
