"""Adapter: the latest deliveries and what became of them, from one bounded stream.

The scripts that hear of a delivery write there in the same step (``lua/common/receipts.lua``), so a
webhook waits for nothing more.
"""

import json
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final, cast

from worker.core import keys
from worker.core.errors import InvalidRequest
from worker.core.job.models import JobId
from worker.core.overview import Received
from worker.core.wording import shown

if TYPE_CHECKING:
    from redis import Redis

_ID: Final = re.compile(r"[0-9]{1,16}-[0-9]{1,16}")
_PAGE: Final = 100


class Receipts:
    """Reads the latest deliveries. Every method raises StoreUnavailable if Redis is away."""

    def __init__(self, redis: "Redis") -> None:
        self._redis = redis

    def newest(self, *, before: str | None = None) -> Iterator[Received]:
        """Read the deliveries, the newest first, page by page.

        Args:
            before: begin behind the one of this id.

        Raises InvalidRequest if that is no id.
        """
        if before is not None and not _ID.fullmatch(before):
            raise InvalidRequest(f"{shown(before)} is no id of a delivery")
        start = "+" if before is None else f"({before}"
        while page := cast("list[Any]", self._redis.xrevrange(keys.DELIVERIES, start, count=_PAGE)):
            yield from (_received(each, stored) for each, stored in page)
            start = f"({page[-1][0]}"  # "(": before the last entry of this page


def _received(receipt_id: str, stored: dict[str, str]) -> Received:
    said = json.loads(stored["said"] or "{}")  # a note may say nothing
    return Received(
        receipt_id,
        at=int(receipt_id.partition("-")[0]) / 1000,
        job_id=JobId(stored["job"]),
        receipt=stored["receipt"],
        what=said.get("what", ""),
        why=said.get("why", ""),
        entry_id=stored["entry"] or None,
    )
