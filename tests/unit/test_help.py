"""``--help``: what a person reads first."""

import pytest
from click.testing import CliRunner

from worker.cli.commands import main


@pytest.mark.parametrize("group", ["", "batch", "quarantine", "schedules"])
def test_a_list_of_commands_cuts_no_sentence_at_80_columns(group: str) -> None:
    shown = CliRunner().invoke(main, [*group.split(), "--help"], terminal_width=80).output
    commands = shown.partition("Commands:")[2].splitlines()
    assert len(commands) > 3
    assert not [line for line in commands if line.endswith("...")]
