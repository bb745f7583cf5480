"""What is told when a flow has ended: a signed message, as Standard Webhooks has it.

It names the flow, the job that decided its end, and the type of the error. It holds no words of a
song and no links: whoever is told asks the desk for these.
"""

import base64
import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from worker.core.signing import Scheme

SCHEME: Final = Scheme(
    "webhook-id", "webhook-timestamp", "webhook-signature",
    prefix="v1,", signs_id=True, in_base64=True,
)  # fmt: skip
TYPE: Final = "flow.ended"
_IDS: Final = uuid.UUID("0b1c7c0e-6a0e-5f0b-9d53-5a1f2f1f7a64")
_MARK: Final = "whsec_"
_SECRET_BYTES: Final = range(24, 65)


@dataclass(frozen=True, slots=True)
class End:
    """How one branch of a flow has ended: by its last job, or by one that failed."""

    job_id: str
    error_type: str | None = None

    def to_text(self) -> str:
        return json.dumps([self.job_id, self.error_type])


def read_end(text: str) -> End:
    """Read what ``End.to_text`` has written."""
    return End(*json.loads(text))


@dataclass(frozen=True, slots=True)
class Notice:
    """A flow has ended; its branches ended so."""

    flow_id: str
    ends: Sequence[End]

    @property
    def message_id(self) -> str:
        """The same each time that this end is told: if a job is retried, its flow ends anew."""
        told = "\n".join([self.flow_id, *(end.to_text() for end in self.ends)])
        return f"msg_{uuid.uuid5(_IDS, told)}"

    def body(self, *, now: float) -> bytes:
        """Write the message."""
        # One that failed decides, whichever branch ended last.
        decisive = next((end for end in self.ends if end.error_type), self.ends[-1])
        message = {
            "type": TYPE,
            "timestamp": datetime.fromtimestamp(now, UTC).isoformat(timespec="seconds"),
            "data": {
                "flow_id": self.flow_id,
                "job_id": decisive.job_id,
                "state": "failed" if decisive.error_type else "succeeded",
                "error_type": decisive.error_type,
            },
        }
        return json.dumps(message).encode()

    def headers(self, secret: bytes, body: bytes, *, now: float) -> dict[str, str]:
        """Sign the message."""
        signed = SCHEME.headers(secret, str(int(now)), body, delivery_id=self.message_id)
        return {"Content-Type": "application/json", **signed}


def read_secret(text: str) -> bytes:
    """Read a secret as Standard Webhooks writes it. Raises ValueError."""
    try:
        secret = base64.b64decode(text.removeprefix(_MARK), validate=True)
    except ValueError:
        secret = b""
    if not text.startswith(_MARK) or len(secret) not in _SECRET_BYTES:
        raise ValueError("Must be whsec_ and 24 to 64 random bytes in Base64.")
    return secret
