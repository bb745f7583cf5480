"""The keys in Redis stand apart from the broker's, and from each other."""

from worker.core import keys

QUARANTINE = (keys.QUARANTINE, keys.QUARANTINE_INDEX, keys.QUARANTINE_UNREADABLE)
TABLES = (keys.DUE, keys.ENDING, keys.LEAVING, keys.JOBS, *QUARANTINE, keys.HEALTH)


def test_every_key_is_marked_as_ours_and_no_two_are_the_same() -> None:
    ours = [*TABLES, keys.job("job-1"), keys.job("job-2")]
    assert all(key.startswith("fermata:") for key in ours)
    assert len(set(ours)) == len(ours)


def test_no_job_id_makes_a_key_of_another_kind() -> None:
    others = set(TABLES)
    assert others.isdisjoint(keys.job(job_id) for job_id in ("due", "jobs", "quarantine", ""))


def test_the_table_names_every_key() -> None:
    table = keys.__doc__ or ""
    assert all(f"| {key} " in table for key in TABLES)
    assert f"| {keys.job('<job_id>')} " in table
