"""Adapter: the quarantine of authentic deliveries that cannot be used, in a Redis stream.

The receiver keeps a delivery here if it cannot be parsed, or if its job has no record. Such a
delivery may hold a song that was paid for, and the provider does not send it for ever. ``fermata
quarantine`` lists, replays, adopts and drops the entries. Their number and size are bounded,
because the provider decides what comes.
"""

import base64
import hashlib
import json
import re
import zlib
from collections.abc import Iterator, Mapping
from typing import Any, Final, cast

import structlog
from redis import Redis

from worker.core import keys
from worker.core.errors import InvalidRequest
from worker.core.job.models import Entry, JobId, Kind
from worker.core.signing import ID_LIMIT
from worker.core.wording import shown
from worker.store.scripts import Script

log = structlog.get_logger()

_ENTRY_ID: Final = re.compile(r"[0-9]{1,16}-[0-9]{1,16}")
_KEYS: Final = {
    "quarantine": keys.QUARANTINE,
    "index": keys.QUARANTINE_INDEX,
    "unreadable": keys.QUARANTINE_UNREADABLE,
}
_PAGE: Final = 50


class Quarantine:
    """The kept deliveries, bounded by number and by bytes (:mod:`worker.core.keys`).

    Every method raises StoreUnavailable if Redis cannot be reached or will not write.
    """

    def __init__(
        self,
        redis: "Redis",
        *,
        max_entries: int = keys.QUARANTINE_MAX,
        max_bytes: int = keys.QUARANTINE_MAX_BYTES,
    ) -> None:
        self._redis = redis
        self._limits = (max_entries, max_bytes)
        self._keep = Script(redis, "keep_entry")
        self._drop = Script(redis, "drop_entries")

    def keep(
        self,
        kind: Kind,
        job_id: JobId,
        headers: Mapping[str, str],
        body: bytes,
        why: str,
        *,
        now: float,
    ) -> str:
        """Keep a delivery whose signature was verified; returns its entry's id.

        Args:
            headers: the headers that are evidence; the beginning of each is kept.

        The same bytes for the same job are kept once. The delivery's own id does not count: the
        provider does not sign it, so a copied delivery with many made-up ids could fill the stream.
        """
        packed = base64.b64encode(zlib.compress(body)).decode()
        kept = {name: value[:ID_LIMIT] for name, value in headers.items()}
        fields = {
            "at": now,
            "kind": kind,
            "job_id": job_id,
            "why": why,
            "bytes": len(body),
            "headers": json.dumps(kept),
            "body": packed,
        }
        pairs = [part for pair in fields.items() for part in pair]
        most, most_bytes = self._limits
        entry_id, pushed_out = self._keep(
            **_KEYS,
            **keys.OF_DELIVERIES,
            job_id=job_id,
            said=json.dumps({"what": "quarantined", "why": why}),
            fingerprint=_fingerprint(job_id, body),
            size=len(packed),
            most=most,
            most_bytes=most_bytes,
            is_unreadable=int(kind is Kind.UNREADABLE),
            fields=pairs,
        )
        if pushed_out:
            log.error("quarantine_overflowed", entry_id=entry_id, pushed_out=pushed_out)
        return cast(str, entry_id)

    def entries(self, *, after: str | None = None) -> Iterator[Entry]:
        """Read the entries, the oldest first, page by page.

        Args:
            after: begin behind the entry of this id.

        Raises InvalidRequest if that is no id.
        """
        if after is not None and not _ENTRY_ID.fullmatch(after):
            raise InvalidRequest(f"{shown(after)} is no id of an entry")
        start = "-" if after is None else f"({after}"
        while page := cast(list[Any], self._redis.xrange(keys.QUARANTINE, start, count=_PAGE)):
            yield from (_entry(entry_id, stored) for entry_id, stored in page)
            start = f"({page[-1][0]}"  # "(": after the last entry of this page

    def counts(self) -> dict[Kind, int]:
        """Count the entries by kind; none of them is read."""
        with self._redis.pipeline(transaction=False) as pipe:
            pipe.xlen(keys.QUARANTINE)
            pipe.llen(keys.QUARANTINE_UNREADABLE)
            entries, unreadable = pipe.execute()
        # An operator may have deleted the stream by hand: the list beside it is then out of date.
        unreadable = min(unreadable, entries)
        return {Kind.UNREADABLE: unreadable, Kind.ORPHAN: entries - unreadable}

    def newest(self, limit: int) -> list[Entry]:
        """Read the newest entries, the newest first."""
        found = cast(list[Any], self._redis.xrevrange(keys.QUARANTINE, count=limit))
        return [_entry(entry_id, stored) for entry_id, stored in found]

    def read(self, entry_id: str) -> Entry:
        """Read one entry.

        Raises InvalidRequest if there is none.
        """
        if _ENTRY_ID.fullmatch(entry_id):
            found = cast(list[Any], self._redis.xrange(keys.QUARANTINE, entry_id, entry_id))
            if found:
                return _entry(*found[0])
        raise InvalidRequest(
            f"there is no entry {entry_id!r} in quarantine: see `fermata quarantine list`"
        )

    def drop(self, *entry_ids: str) -> int:
        """Drop entries; returns how many of them were there."""
        return cast(int, self._drop(**_KEYS, ids=entry_ids))


def _fingerprint(job_id: JobId, body: bytes) -> str:
    return hashlib.sha256(job_id.encode() + b"\n" + body).hexdigest()


def _entry(entry_id: str, stored: Mapping[str, str]) -> Entry:
    return Entry(
        entry_id=entry_id,
        at=float(stored["at"]),
        kind=Kind(stored["kind"]),
        job_id=JobId(stored["job_id"]),
        why=stored["why"],
        size=int(stored["bytes"]),
        headers=json.loads(stored["headers"]),
        packed=stored["body"],
    )
