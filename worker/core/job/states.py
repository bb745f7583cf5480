"""The state of a job: the only place where a state is decided.

queued → submitting → waiting → resuming → succeeded | failed | cancelled | expired
           │    └→ unconfirmed ↗
           └→ queued (certainly not accepted: asked again later)
queued → held → admitted → submitting (while the gate before the provider is closed)
"""

from enum import StrEnum
from typing import Final


class JobState(StrEnum):
    """Where a job stands."""

    QUEUED = "queued"
    HELD = "held"
    ADMITTED = "admitted"
    SUBMITTING = "submitting"
    UNCONFIRMED = "unconfirmed"
    WAITING = "waiting"
    RESUMING = "resuming"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


class Turn(StrEnum):
    """What can happen to a job."""

    ENQUEUE = "enqueue"
    """Its message is about to be published."""
    HOLD = "hold"
    """The gate before the provider is closed."""
    ADMIT = "admit"
    SUBMIT = "submit"
    """A worker is about to call the provider."""
    REROUTE = "reroute"
    """The job belongs to another queue, and waits there for a worker."""
    ACCEPT = "accept"
    """The provider took the work, perhaps after we had given the submission up."""
    POSTPONE = "postpone"
    """The provider certainly did not take it, or is not ready: it is submitted again later."""
    DOUBT = "doubt"
    """Nobody knows whether the provider took it."""
    RESUBMIT = "resubmit"
    """Nobody ever knew, and the operator chose to risk a second submission."""
    CLAIM = "claim"
    """An event ends the job: it is ready to be resumed."""
    SUCCEED = "succeed"
    FAIL = "fail"
    CANCEL = "cancel"
    EXPIRE = "expire"
    ADOPT = "adopt"
    """The record is gone: an operator writes a new one from a delivery in quarantine."""
    ADOPT_FAILURE = "adopt failure"


TERMINAL: Final = frozenset(
    {JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED, JobState.EXPIRED}
)
LIVE: Final = frozenset(JobState) - TERMINAL
UNSETTLED: Final = LIVE - {JobState.RESUMING}
"""The states in which no event has ended a job yet."""
LOST: Final = TERMINAL - {JobState.SUCCEEDED}
"""The states in which a job has ended without its result."""

_S = JobState
# None is among them: a job can end before it was ever submitted, and gets its record then.
_ENDS_FROM: Final = frozenset({None, _S.QUEUED, _S.ADMITTED, _S.RESUMING})
TRANSITIONS: Final[dict[Turn, tuple[frozenset[JobState | None], JobState]]] = {
    Turn.HOLD: (frozenset({None, _S.QUEUED}), _S.HELD),
    Turn.ADMIT: (frozenset({_S.HELD}), _S.ADMITTED),
    Turn.SUBMIT: (frozenset({None, _S.QUEUED, _S.ADMITTED}), _S.SUBMITTING),
    Turn.ENQUEUE: (frozenset({None}), _S.QUEUED),
    Turn.REROUTE: (frozenset({None, _S.QUEUED, _S.ADMITTED}), _S.QUEUED),
    Turn.ACCEPT: (
        frozenset({_S.QUEUED, _S.HELD, _S.ADMITTED, _S.SUBMITTING, _S.UNCONFIRMED}),
        _S.WAITING,
    ),
    Turn.POSTPONE: (frozenset({_S.SUBMITTING}), _S.QUEUED),
    Turn.DOUBT: (frozenset({_S.SUBMITTING}), _S.UNCONFIRMED),
    Turn.RESUBMIT: (frozenset({_S.UNCONFIRMED}), _S.QUEUED),
    # A job can be claimed before it is submitted: by a cancellation, or by a webhook. Such a
    # webhook is authentic, so the provider works on a submission that we thought was refused.
    Turn.CLAIM: (
        frozenset({_S.QUEUED, _S.HELD, _S.ADMITTED, _S.SUBMITTING, _S.UNCONFIRMED, _S.WAITING}),
        _S.RESUMING,
    ),
    Turn.SUCCEED: (frozenset({_S.RESUMING}), _S.SUCCEEDED),
    Turn.FAIL: (_ENDS_FROM, _S.FAILED),
    Turn.CANCEL: (_ENDS_FROM, _S.CANCELLED),
    Turn.EXPIRE: (_ENDS_FROM, _S.EXPIRED),
    Turn.ADOPT: (frozenset({None}), _S.SUCCEEDED),
    Turn.ADOPT_FAILURE: (frozenset({None}), _S.FAILED),
}
"""For each turn: the states it may start from (None: no record yet), and the one it ends in."""
