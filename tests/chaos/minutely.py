"""What beat starts: a batch of a few rows every minute, audited as flows of one job each."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.chaos.load import Flow, Kind, Step
from worker.batch import manifest
from worker.core import keys
from worker.core.batch import Row, row_id

if TYPE_CHECKING:
    from redis import Redis

NAME: Final = "minutely"
ROWS: Final = 3
MANIFEST: Final = "minutely.jsonl"
TIMETABLE: Final = "timetable.toml"
SCHEDULE: Final = f"""
[[schedule]]
name = "{NAME}"
cron = "* * * * *"
manifest = "{MANIFEST}"
overlap = "queue"
"""


def write(folder: Path) -> None:
    """Write the timetable and its manifest."""
    operation = {"operation": "sonic.remaster", "mv": "chirp-v5"}
    rows = (operation | {"source": f"{n:08d}-0000-4000-8000-000000000000"} for n in range(ROWS))
    (folder / MANIFEST).write_text("\n".join(map(json.dumps, rows)))
    (folder / TIMETABLE).write_text(SCHEDULE)


class Minutely:
    """The minutes that were due, and the batches that they became."""

    def __init__(self, redis: "Redis", folder: Path) -> None:
        self._redis = redis
        read = manifest.read([(folder / MANIFEST).read_bytes()], form=manifest.Format.JSONL)
        self._rows = [row for row in read if isinstance(row, Row)]

    def flows(self) -> list[Flow]:
        """List the rows of all batches that were begun, each as a flow of its own."""
        return [Flow([self._job(batch, row)]) for batch in self._batches() for row in self._rows]

    def _batches(self) -> list[str]:
        return [str(name) for name in self._redis.zrange(keys.BATCHES, 0, -1)]

    def _job(self, batch_id: str, row: Row) -> Step:
        operation, source = row.plan.operation, str(row.plan.source)
        return Step(row_id(batch_id, row), Kind.JOB, operation=operation, source=source)

    def missing(self) -> list[str]:
        """Name the due minutes that neither became a batch nor were reported as missed."""
        begun = set(self._batches())
        absent = [batch_id for batch_id in self._due() if batch_id not in begun]
        missed = int(self._redis.hget(keys.SCHEDULE + NAME, "missed") or 0)
        return absent if len(absent) > missed else []

    def _due(self) -> Iterator[str]:
        """Name the batches of all minutes from the first one that was seen to, up to the last."""
        seen = self._redis.hget(keys.SCHEDULE + NAME, "seen_until")
        first = min(self._redis.scan_iter(f"{keys.SCHEDULE}{NAME}:*"), default=None)
        if first is None or seen is None:
            return
        minute = datetime.strptime(first.rpartition(":")[2], "%Y%m%dT%H%M%z")
        while minute <= datetime.fromtimestamp(float(seen), UTC):
            yield f"{NAME}-{minute:%Y%m%dT%H%MZ}"
            minute += timedelta(minutes=1)
