"""Every Redis key of ours, in one table. All start with ``fermata:``.

| key                      | type       | holds                           | lives                  |
|--------------------------|------------|---------------------------------|------------------------|
| fermata:job:<job_id>     | hash       | a job's record, parked message  | settlement + retention |
| fermata:due              | sorted set | job_id by its next moment       | until the job settles  |
| fermata:jobs             | sorted set | job_id by creation              | trimmed by the sweep   |
| fermata:quarantine       | stream     | deliveries that we cannot use   | newest 1,000, 64 MiB   |
| fermata:quarantine:index | hash       | which deliveries those are      | with the stream        |
| fermata:health           | string     | proof that Redis can be written | a minute               |

Times are Unix seconds. The broker's and the result backend's own keys stand beside them.
"""

from typing import Final

DUE: Final = "fermata:due"
JOBS: Final = "fermata:jobs"
QUARANTINE: Final = "fermata:quarantine"
QUARANTINE_INDEX: Final = "fermata:quarantine:index"
QUARANTINE_MAX: Final = 1_000
QUARANTINE_MAX_BYTES: Final = 64 * 1024 * 1024
"""Of bodies, as they are kept: compressed. A thousand webhooks may be a gibibyte."""
HEALTH: Final = "fermata:health"


def job(job_id: str) -> str:
    return f"fermata:job:{job_id}"
