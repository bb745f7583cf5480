"""The state of a job: the only place where a state is decided.

queued → submitting → waiting → resuming → succeeded | failed | expired
           │    └→ unconfirmed ↗
           └→ queued (certainly not accepted: asked again later)
"""

from enum import StrEnum
from typing import Final


class JobState(StrEnum):
    """Where a job stands."""

    QUEUED = "queued"
    SUBMITTING = "submitting"
    UNCONFIRMED = "unconfirmed"
    WAITING = "waiting"
    RESUMING = "resuming"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    EXPIRED = "expired"


class Turn(StrEnum):
    """What can happen to a job."""

    SUBMIT = "submit"
    """A worker is about to call the provider."""
    REROUTE = "reroute"
    """It belongs to another queue, and waits there for a worker."""
    ACCEPT = "accept"
    """The provider took the work."""
    POSTPONE = "postpone"
    """The provider certainly did not take it, or is not ready: ask again later."""
    DOUBT = "doubt"
    """Nobody knows whether the provider took it."""
    CLAIM = "claim"
    """An event won the right to resume the job."""
    RECLAIM = "reclaim"
    """The sweep resumes a job whose claim went stale."""
    SUCCEED = "succeed"
    FAIL = "fail"
    EXPIRE = "expire"
    ADOPT = "adopt"
    """An operator takes the result of a job whose record is gone from a kept delivery."""


TERMINAL: Final = frozenset({JobState.SUCCEEDED, JobState.FAILED, JobState.EXPIRED})

_S = JobState
TRANSITIONS: Final[dict[Turn, tuple[frozenset[JobState | None], JobState]]] = {
    Turn.SUBMIT: (frozenset({None, _S.QUEUED}), _S.SUBMITTING),
    Turn.REROUTE: (frozenset({None}), _S.QUEUED),
    Turn.ACCEPT: (frozenset({_S.SUBMITTING, _S.UNCONFIRMED}), _S.WAITING),
    Turn.POSTPONE: (frozenset({_S.SUBMITTING}), _S.QUEUED),
    Turn.DOUBT: (frozenset({_S.SUBMITTING}), _S.UNCONFIRMED),
    # Also from queued: the callback is honoured from the moment its URL exists, and only the
    # provider can sign it. It means that work we thought refused was done after all.
    Turn.CLAIM: (
        frozenset({_S.QUEUED, _S.SUBMITTING, _S.UNCONFIRMED, _S.WAITING}),
        _S.RESUMING,
    ),
    Turn.RECLAIM: (frozenset({_S.RESUMING}), _S.RESUMING),
    Turn.SUCCEED: (frozenset({_S.RESUMING}), _S.SUCCEEDED),
    # Also from nothing: a wrong request fails before it is ever submitted.
    Turn.FAIL: (frozenset({None, _S.QUEUED, _S.RESUMING}), _S.FAILED),
    Turn.EXPIRE: (frozenset({_S.RESUMING}), _S.EXPIRED),
    Turn.ADOPT: (frozenset({None}), _S.SUCCEEDED),
}
"""For each turn: the states it may start from (None: no record yet), and the one it ends in."""
