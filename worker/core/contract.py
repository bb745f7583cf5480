"""The names that a producer may rely on.

It imports the standard library only, so that a backend can vendor this file. A producer needs
Celery and this contract, and no other code of ours::

    app.send_task("fermata.sonic.remaster", kwargs={...}, queue=QUEUE)
"""

import re
from typing import Final

QUEUE: Final = "fermata"
"""The queue to send every Fermata task to."""

SLOW_QUEUE: Final = "fermata.slow"
"""The queue of slow tasks, so that they never starve the quick ones. They are the operations whose
request alone takes a minute, and ``fermata.archive.store``. If such an operation is sent to
``fermata``, the worker passes it on; ``fermata.archive.store`` a producer must send here itself."""

TASK_PREFIX: Final = "fermata."

PARKED: Final = "PARKED"
"""The Celery state of a job that waits for the provider."""

OURS_HEADER: Final = "fermata_claim"
"""Message header: 0 on a message that Fermata itself publishes, to begin a job on record. An older
version of Fermata resumed jobs by messages with 1 and more."""

PRIORITY_HEADER: Final = "fermata_priority"
"""Message header: ``interactive`` (the default) or ``batch``. Follow-ups inherit it."""

TENANT_HEADER: Final = "fermata_tenant"
"""Message header: on whose behalf the job runs, if tenants share the provider. Follow-ups inherit
it."""

BATCH_HEADER: Final = "fermata_batch"
"""Message header: the batch that a job is part of. Follow-ups inherit it."""

COPY_HEADER: Final = "fermata_copy"
"""Message header: ``<job_id>/<copy>``. Each leg of the job that publishes a plain step makes a copy
of it; the header tells the copies apart."""

NOTIFY: Final = "fermata.notify"
"""The task that tells a URL that a flow has ended (docs/desk-api.md)."""

SCHEDULE_TICK: Final = "fermata.schedule.tick"
SCHEDULE_RUN: Final = "fermata.schedule.run"

DIGEST_HEADER: Final = "fermata_digest"
"""Message header: a digest of the request under an idempotency key. With it, Fermata refuses the
key for another request."""

JOB_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:~-]{0,127}")
"""A job id stands in a URL, so it is 1 to 128 of these characters. Celery's UUIDs always fit."""


PROBE_ID: Final = "fermata-doctor"
"""The job id of the deliveries by which `fermata doctor` asks whether a receiver is ours."""

PROBE_BODY: Final = b"{}"
"""The body of these deliveries. One of the provider's is never so short, even if a job has this
id."""


def task_name(operation: str) -> str:
    """Name the Celery task of an operation: ``sonic.remaster`` -> ``fermata.sonic.remaster``."""
    return TASK_PREFIX + operation
