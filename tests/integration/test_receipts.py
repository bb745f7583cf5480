"""The latest deliveries and what became of each, in a real Valkey."""

from datetime import timedelta
from typing import Any

import pytest

from tests.integration.populated import Store
from tests.unit import recorded
from worker.core import keys
from worker.core.errors import InvalidRequest, InvalidSignature
from worker.core.job.models import JobId, Source
from worker.core.job.timing import Policy
from worker.core.overview import Received
from worker.core.providers import chosen
from worker.core.signing import derive_secret
from worker.engine.receive import Deliveries, Receipt
from worker.store.quarantine import Quarantine
from worker.store.readings import Readings
from worker.store.receipts import Receipts
from worker.store.records import Records

KEY = "k" * 32
NOW = 1_763_800_000.0
SONG = recorded.delivery("delivery_completed")
STREAMING = recorded.delivery("delivery_streaming")


class Receiver:
    """The receiver's use case, over a real Valkey."""

    def __init__(self, redis: Any) -> None:
        self.store, self.receipts = Store(redis), Receipts(redis)
        self.number = 0
        self.deliveries = Deliveries(
            records=Records(redis),
            readings=Readings(redis),
            provider=chosen(),
            quarantine=Quarantine(redis),
            signing_keys=[KEY],
            tolerance=timedelta(seconds=300),
            policy=Policy(),
            clock=lambda: NOW,
        )

    def deliver(self, job_id: str, body: bytes) -> Receipt:
        secret = derive_secret(KEY, JobId(job_id))
        scheme, self.number = chosen().scheme, self.number + 1
        headers = scheme.headers(secret, str(int(NOW)), body, delivery_id=f"d-{self.number}")
        return self.deliveries.receive(JobId(job_id), headers, body)

    def waiting(self, job_id: str) -> JobId:
        return self.store.accept(self.store.submit(job_id, "sonic.remaster", at=NOW), at=NOW)

    def newest(self) -> list[Received]:
        return list(self.receipts.newest())


@pytest.fixture
def receiver(redis: Any) -> Receiver:
    return Receiver(redis)


def test_each_delivery_is_listed_with_its_receipt_the_newest_first(receiver: Receiver) -> None:
    job = receiver.waiting("job-1")
    given = [receiver.deliver(job, body) for body in (STREAMING, SONG, SONG)]
    failed = receiver.store.fail(receiver.waiting("job-2"), at=NOW)
    given += [receiver.deliver(failed, SONG), receiver.deliver("gone", SONG)]
    assert [*map(str, given)] == ["progress", "resumed", "without effect", "late", "quarantined"]
    newest = receiver.newest()
    assert [each.receipt for each in newest] == given[::-1]
    assert [each.job_id for each in newest] == ["gone", failed, job, job, job]
    assert [(each.what, each.why) for each in newest[1:]] == [
        ("late", "webhook d-4"),
        ("song.completed again", "webhook d-3"),
        ("claim", "webhook d-2"),
        ("song.streaming", "webhook d-1"),
    ]
    assert "there is no job gone" in newest[0].why
    [entry] = receiver.store.quarantine.entries()
    assert [each.entry_id for each in newest] == [entry.entry_id, None, None, None, None]


def test_a_poll_and_a_note_are_no_deliveries(receiver: Receiver) -> None:
    job = receiver.waiting("job-1")
    receiver.store.records.note(job, now=NOW, what="a note")
    receiver.store.end(job, at=NOW, source=Source.POLL)
    assert receiver.newest() == []


def test_the_list_is_bounded_and_goes_on_where_the_page_before_ended(
    receiver: Receiver, redis: Any
) -> None:
    job = receiver.waiting("job-1")
    for number in range(1300):
        receiver.store.records.note(
            job, now=NOW, what=f"progress {number}", receipt=Receipt.PROGRESS
        )
    newest = receiver.newest()
    assert 1000 <= len(newest) < 1300
    assert newest[0].what == "progress 1299"
    assert list(receiver.receipts.newest(before=newest[6].receipt_id)) == newest[7:]
    assert redis.memory_usage(keys.DELIVERIES) < 400_000
    with pytest.raises(InvalidRequest, match="is no id"):
        list(receiver.receipts.newest(before="x"))


def test_a_forged_delivery_is_not_listed(receiver: Receiver) -> None:
    job = receiver.waiting("job-1")
    with pytest.raises(InvalidSignature):
        receiver.deliveries.receive(job, {}, SONG)
    assert receiver.newest() == []
