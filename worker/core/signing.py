"""One secret per job, and the check of a webhook's signature by the provider's scheme.

We derive a job's secret from the signing key and the job id. So no secret is stored, the secret of
one job is useless for another, and the receiver can verify a delivery before it reads anything.
"""

import base64
import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from worker.core.errors import InvalidSignature

ID_LIMIT: Final = 256
"""As much of a header is kept with a delivery that cannot be used (``store/quarantine.py``)."""

_TIMESTAMP: Final = re.compile(r"[0-9]{1,12}")


@dataclass(frozen=True, slots=True)
class Scheme:
    """How a provider signs a delivery: HMAC-SHA256 over ``timestamp.body``, in three headers.

    The names of headers are spelled as WSGI hands them over: ``X-Webhook-Id``.
    """

    id_header: str
    """This header has the delivery's own id."""
    timestamp_header: str
    """This header has the time of the signature, in Unix seconds."""
    signature_header: str
    prefix: str
    """The text before the digest, in upper or lower case."""
    signs_id: bool = False
    """The signature is over ``id.timestamp.body``."""
    in_base64: bool = False
    """The digest is written in Base64; else in hexadecimal digits, in lower case."""
    event_header: str = ""
    """Names the event, for people; nothing depends on it."""

    @property
    def all_headers(self) -> tuple[str, ...]:
        """The headers of a delivery that are evidence of its origin."""
        return (self.signature_header, self.timestamp_header, self.id_header, self.event_header)

    def sign(
        self, secret: str | bytes, timestamp: str, body: bytes, *, delivery_id: str = ""
    ) -> str:
        """Sign as the provider does; returns the value of the signature header."""
        signed = timestamp.encode("ascii") + b"." + body
        if self.signs_id:
            signed = delivery_id.encode("latin-1", "replace") + b"." + signed
        key = secret.encode() if isinstance(secret, str) else secret
        digest = hmac.new(key, signed, hashlib.sha256).digest()
        return self.prefix + (base64.b64encode(digest).decode() if self.in_base64 else digest.hex())

    def headers(
        self, secret: str | bytes, timestamp: str, body: bytes, *, delivery_id: str
    ) -> dict[str, str]:
        """Return the three headers of a delivery, as the provider sends them."""
        return {
            self.id_header: delivery_id,
            self.timestamp_header: timestamp,
            self.signature_header: self.sign(secret, timestamp, body, delivery_id=delivery_id),
        }

    def verify(
        self,
        headers: Mapping[str, str],
        body: bytes,
        *,
        secrets: Sequence[str],
        now: datetime,
        tolerance: timedelta,
    ) -> None:
        """Check a delivery's signature over the exact bytes received.

        Raises InvalidSignature, and nothing else, whatever the bytes.
        """
        timestamp = self._timestamp(headers)
        if abs(now.timestamp() - int(timestamp)) > tolerance.total_seconds():
            raise InvalidSignature(f"{self.timestamp_header} is outside the tolerance")
        self._check(headers, timestamp, body, secrets)

    def verify_kept(
        self, headers: Mapping[str, str], body: bytes, *, secrets: Sequence[str]
    ) -> None:
        """Check the signature of a delivery that was kept; its age was checked when it arrived.

        Raises InvalidSignature, and nothing else, whatever the bytes.
        """
        self._check(headers, self._timestamp(headers), body, secrets)

    def _timestamp(self, headers: Mapping[str, str]) -> str:
        timestamp = headers.get(self.timestamp_header) or ""
        if not _TIMESTAMP.fullmatch(timestamp):
            raise InvalidSignature(
                f"{self.timestamp_header} is missing or not a Unix time in seconds"
            )
        return timestamp

    def _check(
        self, headers: Mapping[str, str], timestamp: str, body: bytes, secrets: Sequence[str]
    ) -> None:
        given, length = headers.get(self.signature_header) or "", len(self.prefix)
        if given[:length].lower() != self.prefix.lower():
            raise InvalidSignature(
                f"{self.signature_header} is missing or does not begin with {self.prefix}"
            )
        # Compare bytes: compare_digest raises a TypeError for text that is not ASCII.
        if self.signs_id and len(headers.get(self.id_header) or "") > ID_LIMIT:
            # Quarantine cuts headers: a longer id could never be verified again.
            raise InvalidSignature(f"{self.id_header} is longer than {ID_LIMIT} characters")
        digest = given[length:].encode("utf-8", "replace")
        delivery_id = (headers.get(self.id_header) or "") if self.signs_id else ""
        for secret in secrets:
            # A delivery of a job that was submitted before a rotation is signed with an older key.
            expected = self.sign(secret, timestamp, body, delivery_id=delivery_id)
            if hmac.compare_digest(digest, expected[length:].encode()):
                return
        raise InvalidSignature(f"{self.signature_header} does not match")


def derive_secret(signing_key: str, job_id: str) -> str:
    """Derive a job's webhook secret: 64 hexadecimal characters."""
    message = f"fermata webhook v1:{job_id}".encode()
    return hmac.new(signing_key.encode(), message, hashlib.sha256).hexdigest()


def derive_secrets(signing_keys: Sequence[str], job_id: str) -> list[str]:
    """Derive a job's secrets, one for each signing key: keys may be in rotation."""
    return [derive_secret(key, job_id) for key in signing_keys]
