"""A delivery in quarantine, as it was kept."""

import base64
import zlib

import pytest

from worker.core.errors import InvalidPayload
from worker.core.job.models import Entry, JobId, Kind

BODY = b'{"event": "song.completed"}'


def entry(packed: bytes) -> Entry:
    return Entry("1-0", 1.0, Kind.ORPHAN, JobId("job-1"), "gone", len(BODY), {}, packed.decode())


def test_its_body_is_there_to_the_byte() -> None:
    assert entry(base64.b64encode(zlib.compress(BODY))).body == BODY


@pytest.mark.parametrize("packed", [b"", b"?", base64.b64encode(b"not compressed")])
def test_a_body_that_was_damaged_is_one_error(packed: bytes) -> None:
    with pytest.raises(InvalidPayload, match="1-0 is damaged"):
        _ = entry(packed).body


def test_what_is_shown_of_it_is_all_but_the_body() -> None:
    shown = entry(base64.b64encode(zlib.compress(BODY))).to_json()
    assert "packed" not in shown
    assert shown["kind"] == "orphan"
