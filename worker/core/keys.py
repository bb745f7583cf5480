"""Every Redis key of ours, in one table. All start with ``fermata:``.

| key                  | type       | holds                              | lives                  |
|----------------------|------------|------------------------------------|------------------------|
| fermata:job:<job_id> | hash       | a job's record and parked message  | settlement + retention |
| fermata:due          | sorted set | job_id by its next moment          | until the job settles  |
| fermata:jobs         | sorted set | job_id by creation                 | trimmed by the sweep   |
| fermata:pace:<what>  | string     | the moment that is free next       | until it has passed    |
| fermata:quarantine   | stream     | authentic deliveries we cannot use | newest 1,000           |
| fermata:health       | string     | proof that Redis can be written    | a minute               |

Times are Unix seconds. The broker's and the result backend's own keys stand beside them.
"""

from typing import Final

DUE: Final = "fermata:due"
POLL_PACE: Final = "fermata:pace:poll"
JOBS: Final = "fermata:jobs"
QUARANTINE: Final = "fermata:quarantine"
QUARANTINE_MAX: Final = 1_000
HEALTH: Final = "fermata:health"


def job(job_id: str) -> str:
    return f"fermata:job:{job_id}"
