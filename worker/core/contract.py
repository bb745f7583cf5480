"""What a producer may rely on. Standard library only, so that a backend can vendor this file.

A producer needs Celery and this contract, none of our code::

    app.send_task("fermata.sonic.remaster", kwargs={...}, queue=QUEUE)
"""

import re
from typing import Final

QUEUE: Final = "fermata"
"""The queue to send every Fermata task to."""

SLOW_QUEUE: Final = "fermata.slow"
"""The queue of what takes a minute, so that it never starves the quick: the operations whose
request alone does (one that is sent to ``fermata`` is passed on by the worker), and
``fermata.archive.store`` (which is not: a producer sends it here)."""

TASK_PREFIX: Final = "fermata."

PARKED: Final = "PARKED"
"""The Celery state of a job that waits for the provider."""

OURS_HEADER: Final = "fermata_claim"
"""Message header: 0 on the message of a record that is published again, to be begun. The version
before this one resumed jobs by messages with 1 and more."""

PRIORITY_HEADER: Final = "fermata_priority"
"""Message header: ``interactive`` (the default) or ``batch``. Follow-ups inherit it."""

TENANT_HEADER: Final = "fermata_tenant"
"""Message header: on whose behalf, where tenants share the provider. Follow-ups inherit it."""

BATCH_HEADER: Final = "fermata_batch"
"""Message header: the batch that a job is part of. Follow-ups inherit it."""

COPY_HEADER: Final = "fermata_copy"
"""Message header: ``<job_id>/<copy>``; tells the copies of a plain step apart that the job's legs
published."""

SCHEDULE_TICK: Final = "fermata.schedule.tick"
SCHEDULE_RUN: Final = "fermata.schedule.run"

DIGEST_HEADER: Final = "fermata_digest"
"""Message header: what was asked for under an idempotency key, so that a key is not used twice."""

JOB_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:~-]{0,127}")
"""A job id stands in a URL: 1 to 128 characters. Celery's own UUIDs always fit."""


PROBE_ID: Final = "fermata-doctor"
"""The job id of deliveries by which `fermata doctor` asks a receiver whether it is ours."""

PROBE_BODY: Final = b"{}"
"""Their body. The provider says more, if some job should have that id."""


def task_name(operation: str) -> str:
    """Name the Celery task of an operation: ``sonic.remaster`` -> ``fermata.sonic.remaster``."""
    return TASK_PREFIX + operation
