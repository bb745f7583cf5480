"""The state of a job: no sequence of turns leads out of a terminal state."""

import itertools
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.core.job import states
from worker.core.job.states import TERMINAL, TRANSITIONS, JobState, Turn

State = JobState | None
EDGES = {(before, after) for sources, after in TRANSITIONS.values() for before in sources}


def reachable(start: State) -> set[State]:
    found: set[State] = {start}
    while new := {after for before, after in EDGES if before in found} - found:
        found |= new
    return found


@given(st.lists(st.sampled_from(Turn), max_size=30))
def test_no_sequence_of_turns_leaves_a_terminal_state(turns: list[Turn]) -> None:
    state: State = None
    for turn in turns:
        sources, target = TRANSITIONS[turn]
        if state in sources:
            assert state not in TERMINAL
            state = target


def test_every_turn_is_in_the_table() -> None:
    assert set(TRANSITIONS) == set(Turn)


@pytest.mark.parametrize("state", sorted(TERMINAL))
def test_no_turn_starts_from_a_terminal_state(state: JobState) -> None:
    assert reachable(state) == {state}


@pytest.mark.parametrize("state", [None, *sorted(set(JobState) - TERMINAL)])
def test_every_state_that_is_not_terminal_can_reach_every_terminal_one(state: State) -> None:
    assert reachable(state) >= TERMINAL


def test_every_state_can_be_reached_from_nothing() -> None:
    assert reachable(None) == {None, *JobState}


@pytest.mark.parametrize("state", ["submitting", "unconfirmed", "waiting"])
def test_a_completion_is_accepted_from_the_moment_the_callback_exists(state: str) -> None:
    sources, target = TRANSITIONS[Turn.CLAIM]
    assert JobState(state) in sources
    assert target is JobState.RESUMING


def test_only_a_claimed_job_succeeds() -> None:
    assert TRANSITIONS[Turn.SUCCEED][0] == {JobState.RESUMING}


def drawn() -> set[tuple[JobState, JobState]]:
    """Read the arrows of the docstring's picture: its rows, and the branches off submitting."""
    picture = (states.__doc__ or "").split("\n\n")[1].splitlines()
    arrows: set[tuple[str, str]] = set()
    for line in picture:
        if line[0] != " ":
            steps = [step.strip().split(" | ") for step in line.partition("(")[0].split("→")]
            arrows |= {(a, b) for (a,), row in itertools.pairwise(steps) for b in row}
            continue
        branch = re.search(r"└→ (\w+)( ↗)?", line)
        assert branch, line
        arrows.add(("submitting", branch[1]))
        if branch[2]:
            arrows.add((branch[1], "waiting"))
    return {(JobState(a), JobState(b)) for a, b in arrows}


def test_the_picture_draws_every_state() -> None:
    assert {state for arrow in drawn() for state in arrow} == set(JobState)


def test_every_arrow_of_the_picture_is_in_the_table() -> None:
    assert drawn() <= EDGES


def test_what_the_picture_leaves_out_is_the_claim_the_early_end_and_the_ways_back() -> None:
    left_out = {(a, b) for a, b in EDGES - drawn() if a is not None}
    claims = {(a, JobState.RESUMING) for a in TRANSITIONS[Turn.CLAIM][0] if a}
    again = {(JobState.RESUMING, JobState.RESUMING)}
    begun = (JobState.QUEUED, JobState.ADMITTED)
    early = {(a, end) for a in begun for end in TERMINAL - {JobState.SUCCEEDED}}
    back = {(a, JobState.QUEUED) for a in (*begun, JobState.UNCONFIRMED)}
    taken_after_all = {(a, JobState.WAITING) for a in (*begun, JobState.HELD)}
    assert left_out <= claims | again | early | back | taken_after_all
