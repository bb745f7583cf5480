"""Every Redis key of ours, in one table. All start with ``fermata:``.

| key                      | type       | holds                            | lives                 |
|--------------------------|------------|----------------------------------|-----------------------|
| fermata:job:<job_id>     | hash       | a job's record                   | settlement + retention|
| … <job_id>/message       | string     | the message that started it      | until it has succeeded|
| … <job_id>/timeline      | string     | each turn of the job, as a line  | as long as the record |
| fermata:step:<run>       | string     | which copy of a plain step runs  | a retention           |
| fermata:deaths:<run>     | string     | how often its process died       | to its end            |
| fermata:endings:<flow>   | hash       | branch -> how it ended           | 21 days               |
| fermata:due              | sorted set | job_id by its due time           | until its event       |
| fermata:ready            | sorted set | job_id by when it may be leased  | claim to settlement   |
| fermata:ring             | list       | a word to idle conductors        | until it is heard     |
| fermata:ending           | sorted set | job_id by when it was to end     | until the sweep's turn|
| fermata:leaving          | sorted set | job_ids that are ending now      | until it has ended    |
| fermata:jobs             | sorted set | job_id by creation               | trimmed by the sweep  |
| fermata:pace:<what>      | string     | the time that is free next       | until it has passed   |
| fermata:gate             | hash       | rate, credits, breaker: gate.lua | for ever              |
| … gate:admitted:<class>  | sorted set | job_id by when it was admitted   | on its way to a worker|
| … gate:balance           | string     | a mark: the balance was asked for| to the next time      |
| … gate:history           | list       | when it closed, opened, paused   | the latest 100        |
| fermata:flight           | sorted set | job_id by cost: at the provider  | submission to event   |
| fermata:lanes:<class>    | sorted set | waiting tenants, by their share  | while they wait       |
| fermata:held:<lane>      | sorted set | job_id by when it began to wait  | until admitted        |
| fermata:lanes:paused     | set        | <part>/<lane> that wait aside    | while they wait       |
| … held:paused:<that>     | sorted set | job_id by when it began to wait  | until it is resumed   |
| fermata:wake             | list       | a word to the admissions         | until it is heard     |
| fermata:batch:<batch_id> | hash       | counters of its jobs             | see docs/batches.md   |
| fermata:rows:<batch_id>  | sorted set | row_id by line: submitted rows   | see docs/batches.md   |
| fermata:row_jobs:<batch> | hash       | row_id -> the jobs of the row    | see docs/batches.md   |
| fermata:batches          | sorted set | batch_id by when it was begun    | two retentions        |
| fermata:schedule:<name>  | hash       | a schedule's last runs           | for ever, ten runs    |
| fermata:schedule:<name>: | string     | a due minute that was seen to    | two weeks             |
| fermata:quarantine       | stream     | deliveries that we cannot use    | 1,000, 64 MiB         |
| fermata:quarantine:index | hash       | which deliveries those are       | with the stream       |
| fermata:unreadable       | list       | which of them go first           | with the stream       |
| fermata:states           | set        | <state>:<operation> with jobs    | for ever              |
| … states:<that>          | sorted set | job_id by since when it is there | ended: a retention    |
| fermata:tenants          | set        | tenants with jobs                | as long as these      |
| … tenants:<tenant>       | sorted set | job_id by creation               | trimmed by the sweep  |
| fermata:totals           | hash       | counters that only grow          | for ever              |
| fermata:minutes:<n>      | hash       | counters of the n-th minute      | 25 hours              |
| fermata:days:<n>         | hash       | counters of the n-th day         | 400 days              |
| fermata:turns            | stream     | the latest turns of all jobs     | some 10,000           |
| fermata:deliveries       | stream     | the latest webhooks, and receipts| some 1,000            |
| fermata:indexed          | string     | a mark: these indexes are whole  | for ever              |
| fermata:trimmed          | string     | a mark: they were trimmed        | ten minutes           |
| fermata:workers          | sorted set | worker by its last sign of life  | trimmed by the sweep  |
| fermata:health           | string     | nothing: a test write (SET XX)   | never                 |

Times are Unix seconds. The broker's and the result backend's own keys stand beside them.
"""

from typing import Final

DUE: Final = "fermata:due"
READY: Final = "fermata:ready"
RING: Final = "fermata:ring"
ENDING: Final = "fermata:ending"
LEAVING: Final = "fermata:leaving"
RECORDS: Final = "fermata:job:"
STEPS: Final = "fermata:step:"
DEATHS: Final = "fermata:deaths:"
ENDINGS: Final = "fermata:endings:"
GATE: Final = "fermata:gate"
GATE_HISTORY: Final = "fermata:gate:history"
FLIGHT: Final = "fermata:flight"
LANES: Final = "fermata:lanes:"
HELD: Final = "fermata:held:"
ASIDE: Final = "fermata:lanes:paused"
WAKE: Final = "fermata:wake"
BEFORE_THE_GATE: Final = {
    "gate": GATE,
    "flight": FLIGHT,
    "lanes": LANES,
    "held": HELD,
    "wake": WAKE,
}
"""The gate's keys, as its scripts name them (common/gate.lua)."""
BATCHES: Final = "fermata:batches"
BATCH: Final = "fermata:batch:"
ROWS: Final = "fermata:rows:"
ROW_JOBS: Final = "fermata:row_jobs:"
OF_A_BATCH: Final = {"batch": BATCH, "rows": ROWS, "row_jobs": ROW_JOBS}
"""The keys of a batch that are kept for as long as its jobs go on (common/tally.lua)."""
SCHEDULE: Final = "fermata:schedule:"
POLL_PACE: Final = "fermata:pace:poll"
JOBS: Final = "fermata:jobs"
QUARANTINE: Final = "fermata:quarantine"
QUARANTINE_INDEX: Final = "fermata:quarantine:index"
QUARANTINE_UNREADABLE: Final = "fermata:unreadable"
QUARANTINE_MAX: Final = 1_000
QUARANTINE_MAX_BYTES: Final = 64 * 1024 * 1024
"""The limit for all bodies, as they are stored: compressed. A thousand webhooks may be a gibibyte
without it."""
HEALTH: Final = "fermata:health"
STATES: Final = "fermata:states"
TENANTS: Final = "fermata:tenants"
TOTALS: Final = "fermata:totals"
MINUTES: Final = "fermata:minutes"
DAYS: Final = "fermata:days"
TURNS: Final = "fermata:turns"
DELIVERIES: Final = "fermata:deliveries"
OF_DELIVERIES: Final = {"totals": TOTALS, "deliveries": DELIVERIES}
"""The count of the deliveries, and the latest of them (common/receipts.lua)."""
OF_THE_OVERVIEW: Final = {
    "states": STATES,
    "tenants": TENANTS,
    "totals": TOTALS,
    "minutes": MINUTES,
    "days": DAYS,
    "turns": TURNS,
}
"""What people look at (common/overview.lua)."""
INDEXED: Final = "fermata:indexed"
TRIMMED: Final = "fermata:trimmed"
WORKERS: Final = "fermata:workers"


def job(job_id: str) -> str:
    return RECORDS + job_id


# The message and the timeline are long. A long value would make the record's whole hash leave its
# compact encoding, so each has a key of its own (record.lua).


def message(job_id: str) -> str:
    return f"{job(job_id)}/message"


def timeline(job_id: str) -> str:
    return f"{job(job_id)}/timeline"
