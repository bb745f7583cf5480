"""The keys in Redis stand apart from the broker's, and from each other."""

from collections.abc import Callable

import pytest

from worker.core import keys
from worker.core.contract import JOB_ID

QUARANTINE = (keys.QUARANTINE, keys.QUARANTINE_INDEX, keys.QUARANTINE_UNREADABLE)
TABLES = (keys.DUE, keys.ENDING, keys.LEAVING, keys.JOBS, *QUARANTINE, keys.HEALTH)


def test_every_key_is_marked_as_ours_and_no_two_are_the_same() -> None:
    of_a_job = (keys.job, keys.message, keys.timeline)
    ours = [*TABLES, *(key(job_id) for key in of_a_job for job_id in ("job-1", "job-2"))]
    assert all(key.startswith("fermata:") for key in ours)
    assert len(set(ours)) == len(ours)


def test_no_job_id_makes_a_key_of_another_kind() -> None:
    others = set(TABLES)
    assert others.isdisjoint(keys.job(job_id) for job_id in ("due", "jobs", "quarantine", ""))


@pytest.mark.parametrize("beside", [keys.message, keys.timeline])
def test_no_job_has_its_record_where_another_ones_stands(beside: Callable[[str], str]) -> None:
    assert beside("job-1").startswith(keys.job("job-1"))
    assert not JOB_ID.fullmatch(beside("job-1").removeprefix(keys.RECORDS))


def test_the_table_names_every_key() -> None:
    table = keys.__doc__ or ""
    assert all(f"| {key} " in table for key in TABLES)
    assert f"| {keys.job('<job_id>')} " in table
