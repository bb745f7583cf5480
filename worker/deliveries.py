"""Use case of the receiver: from one webhook delivery to a resumed job."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum

import structlog

from worker.core import protocol, signing
from worker.core.contract import PROBE_ID
from worker.core.errors import InvalidPayload, UnknownJob
from worker.core.models import Event, JobId, Source
from worker.core.protocol import Delivery
from worker.core.states import TERMINAL, JobState, Turn
from worker.handover import Clock, Handover
from worker.store import Store

log = structlog.get_logger()

_KEPT_HEADERS = (
    signing.DELIVERY_ID_HEADER,
    signing.TIMESTAMP_HEADER,
    "X-Webhook-Event",
    "Content-Type",
)


class Receipt(StrEnum):
    """What became of an authentic delivery."""

    RESUMED = "resumed"
    PROGRESS = "progress"
    WITHOUT_EFFECT = "without effect"
    """A duplicate, or one that came after settlement."""
    QUARANTINED = "quarantined"


class Deliveries:
    """Receives deliveries: signature, then schema, then claim and publish."""

    def __init__(
        self,
        *,
        store: Store,
        handover: Handover,
        signing_keys: Sequence[str],
        tolerance: timedelta,
        poll_every_seconds: float,
        clock: Clock,
    ) -> None:
        self._store = store
        self._handover = handover
        self._signing_keys = signing_keys
        self._tolerance = tolerance
        self._poll_every_seconds = poll_every_seconds
        self._clock = clock

    def receive(self, job_id: JobId, headers: Mapping[str, str], raw: bytes) -> Receipt:
        """Receive one delivery; when this returns, it is stored.

        Raises InvalidSignature, UnknownJob (nothing is written then), StoreUnavailable.
        """
        now = self._clock()
        signing.verify(
            headers,
            raw,
            secrets=[signing.derive_secret(key, job_id) for key in self._signing_keys],
            now=datetime.fromtimestamp(now, UTC),
            tolerance=self._tolerance,
        )
        if job_id == PROBE_ID:
            # Whoever asks has our signing key, and now knows that its deliveries come through.
            return Receipt.WITHOUT_EFFECT
        try:
            delivery = protocol.read_delivery(raw)
        except InvalidPayload as error:
            return self._quarantine(job_id, headers, raw, error.message)
        delivery_id = headers.get(signing.DELIVERY_ID_HEADER, "")[:128]
        if not delivery.final:
            return self._progress(job_id, delivery, delivery_id)
        event = Event(Source.WEBHOOK, body=delivery.body, delivery_id=delivery_id)
        if self._handover.resume(job_id, event):
            return Receipt.RESUMED
        what, why = f"{delivery.event} again", f"webhook {delivery_id}"
        state = self._store.note(job_id, now=now, what=what, why=why, sources=TERMINAL)
        _known(job_id, state)
        return Receipt.WITHOUT_EFFECT

    def _progress(self, job_id: JobId, delivery: Delivery, delivery_id: str) -> Receipt:
        now, fields = self._clock(), {"progress": delivery.progress}
        why = f"webhook {delivery_id}"
        state = self._store.note(job_id, now=now, what=delivery.event, why=why, fields=fields)
        _known(job_id, state)
        if delivery.provider_task_id and state in {JobState.SUBMITTING, JobState.UNCONFIRMED}:
            # Whoever streams has accepted: even if the submit's answer is lost, we can poll now.
            known = {"provider_task_id": delivery.provider_task_id[:256]}
            due_at = now + self._poll_every_seconds
            self._store.turn(job_id, Turn.ACCEPT, now=now, due_at=due_at, why=why, fields=known)
        return Receipt.PROGRESS

    def _quarantine(
        self, job_id: JobId, headers: Mapping[str, str], raw: bytes, why: str
    ) -> Receipt:
        _known(job_id, self._store.state(job_id))
        now = self._clock()
        kept = {name: headers[name] for name in _KEPT_HEADERS if name in headers}
        entry = self._store.quarantine(job_id, kept, raw, why, now=now)
        self._store.note(job_id, now=now, what="quarantined", why=f"{entry}: {why}")
        # The provider had something to say: a job that can be polled is polled at once.
        self._store.note(job_id, now=now, sources=(JobState.WAITING,), due_at=now)
        log.warning("delivery_quarantined", job_id=job_id, entry=entry, why=why)
        return Receipt.QUARANTINED


def _known(job_id: JobId, state: JobState | None) -> None:
    if state is None:
        raise UnknownJob(f"there is no job {job_id}")
