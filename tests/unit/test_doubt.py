"""What becomes of a job of which nobody knows whether the provider took it."""

import pytest

from worker.core.job.doubt import Doubt, decide, unconfirmed
from worker.core.job.timing import MOST_RESUBMISSIONS, OnUnconfirmed, Policy
from worker.core.providers.aimusic.operations import find

CAREFUL = Policy(on_unconfirmed=OnUnconfirmed.FAIL)
DARING = Policy(on_unconfirmed=OnUnconfirmed.RESUBMIT)


@pytest.mark.parametrize(
    ("name", "resubmissions", "policy", "decided"),
    [
        ("sonic.remaster", 0, CAREFUL, Doubt.WAIT),
        ("sonic.remaster", 0, DARING, Doubt.WAIT),
        ("account.credits", 0, CAREFUL, Doubt.ASK_AGAIN),
        ("sonic.wav", 0, CAREFUL, Doubt.FAIL),
        ("sonic.wav", 0, DARING, Doubt.RESUBMIT),
        ("sonic.stems_full", 0, CAREFUL, Doubt.FAIL),
        ("sonic.stems_full", MOST_RESUBMISSIONS, DARING, Doubt.FAIL),
    ],
)
def test_a_submission_in_doubt(
    name: str, resubmissions: int, policy: Policy, decided: Doubt
) -> None:
    assert decide(find(name), resubmissions, policy) is decided


def test_the_error_names_the_operation_and_the_reason() -> None:
    error = unconfirmed(find("sonic.wav"), "timed out")
    assert str(error).startswith("sonic.wav: the provider may or may not have accepted it (timed")
