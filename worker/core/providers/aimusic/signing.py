"""One secret per job, and the provider's webhook signature.

A job's secret is derived from the signing key and the job id, so nothing is stored, one
job's secret is useless for another, and the receiver can verify before it reads anything.
"""

import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final

from worker.core.errors import InvalidSignature

SIGNATURE_HEADER: Final = "X-Webhook-Signature"
TIMESTAMP_HEADER: Final = "X-Webhook-Timestamp"
DELIVERY_ID_HEADER: Final = "X-Webhook-Id"

_TIMESTAMP = re.compile(r"[0-9]{1,12}")
_SIGNATURE = re.compile(r"(?i:sha256=)([0-9a-f]{64})")


def derive_secret(signing_key: str, job_id: str) -> str:
    """Derive a job's webhook secret: 64 hexadecimal characters."""
    message = f"fermata webhook v1:{job_id}".encode()
    return hmac.new(signing_key.encode(), message, hashlib.sha256).hexdigest()


def derive_secrets(signing_keys: Sequence[str], job_id: str) -> list[str]:
    """Derive what a job's deliveries may be signed with while signing keys are rotated."""
    return [derive_secret(key, job_id) for key in signing_keys]


def sign(secret: str, timestamp: str, body: bytes) -> str:
    """Sign as the provider does (provider-api.md §5.3): HMAC-SHA256 over ``timestamp.body``."""
    signed = timestamp.encode("ascii") + b"." + body
    return "sha256=" + hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()


def verify(
    headers: Mapping[str, str],
    body: bytes,
    *,
    secrets: Sequence[str],
    now: datetime,
    tolerance: timedelta,
) -> None:
    """Check a delivery's signature over the exact bytes received.

    The tolerance is ours: the provider states none (provider-api.md §5.3).

    Raises InvalidSignature, and nothing else, whatever the bytes.
    """
    timestamp = _timestamp(headers)
    if abs(now.timestamp() - int(timestamp)) > tolerance.total_seconds():
        raise InvalidSignature(f"{TIMESTAMP_HEADER} is outside the tolerance")
    _check(headers, timestamp, body, secrets)


def verify_kept(headers: Mapping[str, str], body: bytes, *, secrets: Sequence[str]) -> None:
    """Check the signature of a delivery that was kept; its age was checked when it arrived.

    Raises InvalidSignature, and nothing else, whatever the bytes.
    """
    _check(headers, _timestamp(headers), body, secrets)


def _timestamp(headers: Mapping[str, str]) -> str:
    timestamp = headers.get(TIMESTAMP_HEADER) or ""
    if not _TIMESTAMP.fullmatch(timestamp):
        raise InvalidSignature(f"{TIMESTAMP_HEADER} is missing or not a Unix time in seconds")
    return timestamp


def _check(headers: Mapping[str, str], timestamp: str, body: bytes, secrets: Sequence[str]) -> None:
    match = _SIGNATURE.fullmatch(headers.get(SIGNATURE_HEADER) or "")
    if not match:
        raise InvalidSignature(f"{SIGNATURE_HEADER} is missing or not sha256=<hex>")
    given = f"sha256={match[1]}"
    if not any(hmac.compare_digest(given, sign(each, timestamp, body)) for each in secrets):
        raise InvalidSignature(f"{SIGNATURE_HEADER} does not match")
