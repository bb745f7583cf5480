"""What a person sees in the terminal, of every recorded result."""

import io
from typing import Any

import pytest
from rich.console import Console

from tests.unit import recorded
from worker import show
from worker.core import protocol, results
from worker.core.models import JobId, JobRecord
from worker.core.operations import OPERATIONS
from worker.core.states import JobState


def printed(renderable: Any) -> str:
    console = Console(width=200, file=io.StringIO())
    console.print(renderable)
    return console.file.getvalue()  # type: ignore[attr-defined]


@pytest.mark.parametrize("case", sorted(recorded.cases("result.json")))
def test_a_job_is_shown_with_whatever_its_result_is(case: str) -> None:
    wanted = recorded.load(case, "result.json")
    body = protocol.parse(recorded.answer(case).body)
    result = results.read_result(
        OPERATIONS[wanted["operation"]], body, clip_id=wanted.get("clip_id")
    )
    record = JobRecord(
        JobId("job-1"), wanted["operation"], JobState.SUCCEEDED, 1.0, 2.0, result=result
    )
    shown = printed(show.job(record))
    assert wanted["operation"] in shown
    assert all(str(clip["clip_id"] or "") in shown or clip["title"] for clip in result["clips"])


def test_every_operation_is_shown_with_what_to_use_instead() -> None:
    shown = printed(show.operations_table(OPERATIONS.values()))
    assert all(name in shown for name in OPERATIONS)
    assert "retired: use sonic.create_music" in shown


def test_a_held_job_is_shown_with_what_it_waits_for() -> None:
    turn = {"at": 1.0, "what": "hold", "state": "held", "why": "the credits left are not enough"}
    record = JobRecord(JobId("job-1"), "sonic.wav", JobState.HELD, 1.0, 2.0, timeline=(turn,))
    assert "the credits left are not enough" in printed(show.jobs_table([record]))
    assert "the credits left are not enough" in printed(show.job(record))
