"""Adapter: what is to be done now, and who does it.

Redis has two sorted sets. ``due`` has each job that a sweep must look at, by its due time.
``ready`` has each claimed job that a conductor must resume, by the time from which it may be
leased. Sweeps and conductors search no records: they lease a few jobs at a time from these sets.
Any number of them may run, and each job goes to one. A lease ends by itself, so another process
takes over the jobs of one that died.

A due time is by the clock of the process that sets it. Leases of ready jobs and the pace of polls
are by the server's clock, because the clocks of workers differ.
"""

import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, cast

from worker.core import keys
from worker.core.errors import InvalidPayload
from worker.core.job.lanes import tenant_of
from worker.core.job.models import Event, JobId, Leased, Source
from worker.core.wording import told
from worker.store.scripts import Script

if TYPE_CHECKING:
    from redis import Redis


class Agenda:
    """Hands out what there is to do. Every method raises StoreUnavailable if Redis is away."""

    def __init__(self, redis: "Redis") -> None:
        self._redis = redis
        self._lease_due = Script(redis, "lease_due")
        self._mark_published = Script(redis, "mark_published")
        self._reserve_poll = Script(redis, "reserve_poll")
        self._lease_ready = Script(redis, "lease_ready")
        self._renew_leases = Script(redis, "renew_leases")

    def due(self, *, now: float, lease_until: float, limit: int) -> list[JobId]:
        """Lease up to ``limit`` jobs that are due, and as many that only end."""
        leased = self._lease_due(
            due=keys.DUE,
            records=keys.RECORDS,
            ending=keys.ENDING,
            leaving=keys.LEAVING,
            ready=keys.READY,
            ring=keys.RING,
            now=now,
            until_at=lease_until,
            most=limit,
        )
        return cast(list[JobId], leased)

    def mark_published(self, job_id: JobId, *, stale_at: float, until: float) -> None:
        """Move a job's due time from ``stale_at``, set before its message was published."""
        self._mark_published(
            due=keys.DUE, job=keys.job(job_id), job_id=job_id, stale_at=stale_at, until_at=until
        )

    def reserve_poll(self, *, spacing_seconds: float) -> float:
        """Reserve the time of the next poll, among all sweeps; returns the seconds until then."""
        return float(self._reserve_poll(next=keys.POLL_PACE, spacing=spacing_seconds))

    def lease(self, *, seconds: float, limit: int) -> list[Leased]:
        """Lease up to ``limit`` jobs that are ready to be resumed; others may in ``seconds``."""
        found = self._lease_ready(
            ready=keys.READY, records=keys.RECORDS, seconds=seconds, most=limit
        )
        return [_leased(fields) for fields in found]

    def renew(self, job_ids: Iterable[JobId], *, seconds: float) -> None:
        """Let the leases of jobs end ``seconds`` from now; sooner, if somebody else is to try."""
        # A job that has settled meanwhile is not ready any more, and does not become so again.
        self._renew_leases(ready=keys.READY, seconds=seconds, job_ids=job_ids)

    def sign_of_life(self, worker: str) -> None:
        """Note that the conductor of a worker lives."""
        self._redis.zadd(keys.WORKERS, {worker: time.time()})

    def wait_for_ready(self, seconds: float) -> None:
        """Wait until a job is ready to be resumed, but not longer."""
        self._redis.blpop([keys.RING], timeout=seconds)

    def clock(self) -> float:
        """Read the server's clock."""
        seconds, microseconds = self._redis.time()
        return seconds + microseconds / 1e6


def _leased(fields: Sequence[Any]) -> Leased:
    job_id, operation, message, event, claims, clip_id, provider_task_id, *others = fields
    created_at, lane, traceparent, event_traceparent = others
    return Leased(
        job_id, operation, message, _event(event), claims,
        clip_id=clip_id or None, provider_task_id=provider_task_id or None,
        created_at=float(created_at) if created_at else None, tenant=tenant_of(lane),
        traceparent=traceparent or None, event_traceparent=event_traceparent or None,
    )  # fmt: skip


def _event(text: str | None) -> Event:
    """Read the event of a leased job. If it cannot be read, the job fails, and the others go on."""
    try:
        return Event.loads(text or "")
    except (KeyError, TypeError, ValueError) as error:
        why = InvalidPayload(f"the event on the job's record cannot be read: {told(error)}")
        return Event(Source.SWEEP, error=why.to_json())
