"""Decides what becomes of a job if nobody knows whether the provider took it.

A submit leg asks if the provider's answer was lost; a sweep asks if the leg itself died. Both get
the same decision, because it is made here alone.
"""

from enum import StrEnum

from worker.core.errors import SubmissionUnconfirmed
from worker.core.job.timing import Policy, resubmits
from worker.core.wire import Operation


class Doubt(StrEnum):
    """What is done about a submission that may or may not have been accepted."""

    ASK_AGAIN = "ask again"
    """A second request costs nothing, so it is sent."""
    WAIT = "wait"
    """A webhook would settle it: the job is unconfirmed for the grace period."""
    RESUBMIT = "resubmit"
    """No webhook will come, and the operator chose to risk paying twice; this is counted."""
    FAIL = "fail"
    """No webhook will come, and the operator does not risk paying twice: the job fails."""


def decide(operation: Operation, resubmissions: int, policy: Policy) -> Doubt:
    """Decide what becomes of a job whose submission is in doubt.

    Args:
        resubmissions: how often it was resubmitted before.
    """
    if operation.repeatable:
        return Doubt.ASK_AGAIN
    if operation.takes_webhook:
        return Doubt.WAIT
    return Doubt.RESUBMIT if resubmits(resubmissions, policy) else Doubt.FAIL


def unconfirmed(operation: Operation, reason: str) -> SubmissionUnconfirmed:
    """Say that nobody knows whether a submission was accepted."""
    return SubmissionUnconfirmed(
        f"{operation.name}: the provider may or may not have accepted it ({reason}); it was not "
        "sent again, so that nothing is paid twice. Look at the provider's own list of tasks."
    )
