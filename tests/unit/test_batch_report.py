"""A batch's report: what one line says of a row."""

import json
import re
from typing import Any

import pytest

from tests.unit import recorded
from tests.unit.test_results import expected, result
from worker.batch import BatchRow, Job, report
from worker.core.job.canvas import Step
from worker.core.job.models import JobId
from worker.core.job.states import JobState

FIRST = JobId("job-0")
WAV = {"clips": [], "data": {"wav_url": "https://example.com/a.wav"}}


def described(*jobs: Job) -> dict[str, Any]:
    steps = tuple(Step(JobId(f"job-{n}"), "sonic.wav") for n, _ in enumerate(jobs))
    return report.describe(BatchRow(JobId("job-0"), 1, "sonic.wav", None, steps), list(jobs))


@pytest.mark.parametrize("case", sorted(recorded.cases("result.json")))
def test_a_row_names_every_file_of_a_recorded_result_once(case: str) -> None:
    operation, clip_id, _ = expected(case)
    read = result(case, operation, clip_id=clip_id)
    usable = [clip for clip in read["clips"] if clip["state"] == "succeeded"]
    links = re.findall(r'https://[^"\s\\]+', json.dumps([usable, read["data"]]))
    urls = described(Job(FIRST, JobState.SUCCEEDED, read))["urls"]
    assert (set(urls), len(urls)) == (set(links), len(set(links)))


def test_the_files_of_a_download_are_named_in_their_order() -> None:
    operation, clip_id, _ = expected("download")
    read = result("download", operation, clip_id=clip_id)
    urls = described(Job(FIRST, JobState.SUCCEEDED, read))["urls"]
    assert [url.rpartition(".")[2] for url in urls] == ["mp3", "m4a", "wav"]


def test_a_file_that_two_jobs_of_a_row_name_is_listed_once() -> None:
    done = Job(FIRST, JobState.SUCCEEDED, WAV)
    assert described(done, done)["urls"] == ["https://example.com/a.wav"]


def test_a_row_is_forgotten_when_the_record_of_its_first_job_is_gone() -> None:
    done, gone = Job(FIRST, JobState.SUCCEEDED, WAV), Job(FIRST, None)
    assert described(gone)["state"] == described(gone, gone)["state"] == "forgotten"
    assert described(done, gone)["state"] == "not begun"
