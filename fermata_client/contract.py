"""The names that the client and Fermata's workers agree on. A test compares them with theirs."""

import re
import uuid
from typing import Final, Literal

QUEUE: Final = "fermata"
SLOW_QUEUE: Final = "fermata.slow"
ARCHIVE: Final = "archive.store"
"""The task that may end a branch of a flow. It is no job: it has no record."""
TASK_PREFIX: Final = "fermata."

PRIORITY_HEADER: Final = "fermata_priority"
TENANT_HEADER: Final = "fermata_tenant"

Priority = Literal["interactive", "batch"]
TENANT: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,63}")

JOB_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:~-]{0,127}")
"""A job id stands in a URL."""

RECORDS: Final = "fermata:job:"
"""With the job id after it: the Redis key of a job's record, a hash."""

FIELDS: Final = ("state", "operation", "progress", "result", "error")
"""The fields of a record that a client may read. The last three are JSON, or missing."""

CANCELLED_BY: Final = "cancelled_by"
"""The one field that a client may write, and only if there is no record yet."""

CANCELLATION_SECONDS: Final = 14 * 86400
"""How long that mark waits for its job."""

CANCEL_COMMAND: Final = "fermata_cancel"
"""The remote-control command that Fermata's workers have beside Celery's own."""

_IDS: Final = uuid.UUID("6c1f2b1e-5d0a-5c39-9f0e-0d3a8b6f4c11")


def job_id_of_key(idempotency_key: str | uuid.UUID) -> str:
    """Return the id of the job that is enqueued under an idempotency key."""
    return str(uuid.uuid5(_IDS, f"key:{idempotency_key}"))


def job_id_after(job_id: str, branch: str) -> str:
    """Return the id of a follow-up in a flow; branches count from 0, ``then`` comes before."""
    return str(uuid.uuid5(_IDS, f"after:{job_id}:{branch}"))
