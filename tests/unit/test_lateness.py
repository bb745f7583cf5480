"""Whether a delivery that comes too late adds anything."""

from typing import Any

import pytest

from worker.core.job.lateness import adds


def result(*clip_ids: str | None, partial: bool = False) -> dict[str, Any]:
    clips = [
        {"clip_id": c, "audio_url": f"https://example.test/{n}"} for n, c in enumerate(clip_ids)
    ]
    return {"clips": clips, "partial": partial}


WHOLE, PART, NONE = result("a", "b"), result("a", partial=True), result()


@pytest.mark.parametrize(
    ("came", "ending", "was_resubmitted", "added"),
    [
        (WHOLE, None, False, True),
        (None, WHOLE, False, False),
        (WHOLE, WHOLE, False, False),
        (WHOLE, PART, False, True),
        (PART, WHOLE, False, False),
        (PART, PART, False, False),
        (result("c"), WHOLE, False, False),
        (result("c"), WHOLE, True, True),
        (result("a", "c"), WHOLE, True, False),
        (NONE, WHOLE, True, False),
        (result(None), result("a"), True, True),
    ],
)
def test_a_late_result(came: Any, ending: Any, was_resubmitted: bool, added: bool) -> None:
    assert adds(came, ending, was_resubmitted=was_resubmitted) is added
