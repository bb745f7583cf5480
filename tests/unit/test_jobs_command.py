"""``fermata jobs``: what it refuses before it asks anybody."""

import pytest
from click.testing import CliRunner

from worker.cli.commands import main


@pytest.mark.parametrize("limit", ["0", "-1"])
def test_a_limit_that_would_mean_all_jobs_is_refused(limit: str) -> None:
    ran = CliRunner().invoke(main, ["jobs", "--limit", limit])
    assert ran.exit_code == 2
    assert "--limit" in ran.stderr
