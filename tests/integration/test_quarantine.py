"""The quarantine in a real Valkey: bounded, to the byte, and one place for each delivery."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from structlog.testing import capture_logs

from worker.core import keys
from worker.core.errors import InvalidPayload
from worker.core.job.models import JobId, Kind
from worker.store.quarantine import Quarantine

NOW = 1_763_800_000.0
JOB = JobId("job-1")


def keep(kept: Quarantine, body: bytes = b"{}", /, *, job_id: str = JOB, **headers: str) -> str:
    return kept.keep(Kind.ORPHAN, JobId(job_id), headers, body, "gone", now=NOW)


def keep_unreadable(kept: Quarantine, body: bytes) -> str:
    return kept.keep(Kind.UNREADABLE, JOB, {}, body, "no JSON", now=NOW)


def bodies(kept: Quarantine) -> list[bytes]:
    return [entry.body for entry in kept.entries()]


def counted(redis: Any) -> tuple[int, int, int]:
    """How many entries, how many the index knows, and how many bytes it counts."""
    index = redis.hgetall(keys.QUARANTINE_INDEX)
    return redis.xlen(keys.QUARANTINE), len(index) - 1, int(index["bytes"])


@pytest.mark.parametrize(
    "body",
    [b"", b"\xff\xfe\x00\r\n", bytes(range(256)) * 40, b"x" * 2**20],
    # The id stands in the environment of what a test starts, which has no room for a mebibyte.
    ids=["empty", "no text", "every byte", "a mebibyte"],
)
def test_a_delivery_is_kept_to_the_byte(redis: Any, body: bytes) -> None:
    kept = Quarantine(redis)
    headers = {"X-Webhook-Id": "d-é", "X-Webhook-Signature": "sha256=0"}
    entry_id = kept.keep(Kind.UNREADABLE, JOB, headers, body, "no JSON", now=NOW)
    entry = kept.read(entry_id)
    assert (entry.body, entry.size) == (body, len(body))
    assert entry.headers == headers
    assert (entry.entry_id, entry.at, entry.kind, entry.job_id, entry.why) == (
        entry_id, NOW, Kind.UNREADABLE, JOB, "no JSON",
    )  # fmt: skip
    assert [each.entry_id for each in kept.entries()] == [entry_id]


def test_a_delivery_that_is_repeated_takes_one_place(redis: Any) -> None:
    kept = Quarantine(redis)
    with ThreadPoolExecutor(20) as threads:
        ids = set(threads.map(lambda n: keep(kept, **{"X-Webhook-Id": str(n)}), range(100)))
    assert len(ids) == 1
    assert keep(kept, b"other") not in ids
    assert keep(kept, job_id="job-2") not in ids
    assert counted(redis)[:2] == (3, 3)


def test_the_oldest_go_when_there_are_too_many(redis: Any) -> None:
    kept = Quarantine(redis, max_entries=3)
    for n in range(5):
        keep(kept, str(n).encode())
    assert bodies(kept) == [b"2", b"3", b"4"]
    assert counted(redis)[:2] == (3, 3)


def test_what_nobody_can_read_goes_before_an_orphan(redis: Any) -> None:
    kept = Quarantine(redis, max_entries=4)
    keep(kept, b"song 1"), keep_unreadable(kept, b"? 1"), keep(kept, b"song 2")
    for n in range(2, 9):
        keep_unreadable(kept, f"? {n}".encode())
    assert bodies(kept) == [b"song 1", b"song 2", b"? 7", b"? 8"]
    keep(kept, b"song 3"), keep(kept, b"song 4"), keep(kept, b"song 5")
    assert bodies(kept) == [b"song 2", b"song 3", b"song 4", b"song 5"]
    keep_unreadable(kept, b"the newest always stays"), keep_unreadable(kept, b"? 9")
    assert bodies(kept) == [b"song 3", b"song 4", b"song 5", b"? 9"]
    assert redis.lrange(keys.QUARANTINE_UNREADABLE, 0, -1) == [list(kept.entries())[-1].entry_id]


def test_an_unreadable_entry_that_somebody_deleted_holds_up_no_other(redis: Any) -> None:
    kept = Quarantine(redis, max_entries=2)
    keep(kept, b"song 1")
    redis.xdel(keys.QUARANTINE, keep_unreadable(kept, b"deleted by hand"))
    keep(kept, b"song 2"), keep_unreadable(kept, b"?"), keep(kept, b"song 3")
    assert bodies(kept) == [b"song 2", b"song 3"]


def test_it_is_logged_how_many_there_was_no_room_for(redis: Any) -> None:
    kept = Quarantine(redis, max_bytes=100)
    with capture_logs() as logs:
        for n in range(3):
            keep(kept, str(n).encode())
        assert logs == []
        large = keep(kept, b"".join(str(n).encode() for n in range(200)))
    [said] = logs
    assert said == {
        "event": "quarantine_overflowed", "entry_id": large, "pushed_out": 3, "log_level": "error",
    }  # fmt: skip


def test_the_oldest_go_when_they_are_too_large(redis: Any) -> None:
    kept = Quarantine(redis, max_bytes=100)
    for n in range(5):
        keep(kept, str(n).encode())
    large = b"".join(str(n).encode() for n in range(200))
    assert counted(redis)[2] <= 100
    keep(kept, large)
    assert bodies(kept) == [large], "the newest always stays"
    keep(kept, b"small")
    assert bodies(kept) == [b"small"]
    assert counted(redis)[2] <= 100


def test_what_was_dropped_makes_room_and_can_come_again(redis: Any) -> None:
    kept = Quarantine(redis)
    first, second = keep(kept, b"1"), keep(kept, b"2")
    with ThreadPoolExecutor(8) as threads:
        assert sum(threads.map(lambda _: kept.drop(first, "1-1"), range(8))) == 1
    assert bodies(kept) == [b"2"]
    kept.drop(second)
    assert counted(redis) == (0, 0, 0)
    assert keep(kept, b"1") != first


def test_a_stream_that_somebody_deleted_takes_its_index_with_it(redis: Any) -> None:
    kept = Quarantine(redis)
    keep(kept, b"1"), keep(kept, b"2")
    redis.delete(keys.QUARANTINE)
    keep(kept, b"1")
    assert bodies(kept) == [b"1"]
    assert counted(redis)[:2] == (1, 1)


def test_an_entry_that_somebody_deleted_can_come_again(redis: Any) -> None:
    kept = Quarantine(redis)
    first, _ = keep(kept, b"1"), keep(kept, b"2")
    redis.xdel(keys.QUARANTINE, first)
    keep(kept, b"1")
    assert bodies(kept) == [b"2", b"1"]


def test_the_entries_are_read_page_by_page_and_none_twice(redis: Any) -> None:
    kept = Quarantine(redis)
    ids = [keep(kept, str(n).encode()) for n in range(120)]
    assert [entry.entry_id for entry in kept.entries()] == ids


def test_a_damaged_body_is_one_clear_error(redis: Any) -> None:
    kept = Quarantine(redis)
    for packed in ("", "é", "!", "AAAA"):
        stored = {"at": NOW, "kind": "orphan", "job_id": JOB, "why": "", "bytes": 1}
        damaged = redis.xadd(keys.QUARANTINE, stored | {"headers": "{}", "body": packed})
        with pytest.raises(InvalidPayload, match=damaged):
            _ = kept.read(damaged).body
    assert len(list(kept.entries())) == 4
