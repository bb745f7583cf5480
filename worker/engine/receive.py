"""Use case of the receiver: from one webhook delivery to a resumed job.

The receiver calls ``receive`` for each POST. It checks the signature before it reads anything, then
reads the event, and claims the job with it: a conductor resumes the job. A duplicate changes
nothing. A delivery that is authentic but cannot be used goes into quarantine, and a song that comes
after its job has ended stays on the record, because both may hold what was paid for. ``fermata
quarantine replay`` calls ``replay``, which takes an entry through the same steps.
"""

import hashlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Final

import structlog

from worker import tracing
from worker.core.contract import PROBE_BODY, PROBE_ID
from worker.core.errors import FermataError, InvalidPayload, UnknownJob
from worker.core.job import lateness
from worker.core.job.models import (
    Entry,
    Event,
    Heard,
    JobId,
    JobRecord,
    JSONObject,
    Kind,
    Source,
)
from worker.core.job.states import LOST, TERMINAL, TRANSITIONS, JobState, Turn
from worker.core.job.timing import Policy
from worker.core.ports import Clock, Provider, Quarantine, Readings, Records
from worker.core.signing import derive_secrets
from worker.core.wire import Delivery

log = structlog.get_logger()

_ENDS: Final = TERMINAL | {JobState.RESUMING}
_NOTHING_NEW: Final = frozenset({JobState.RESUMING, JobState.SUCCEEDED})
"""A song that comes again is a duplicate in these alone. If the job failed, the song is kept."""
_DIGEST_LENGTH: Final = 32
_NOT_ACCEPTED: Final = TRANSITIONS[Turn.ACCEPT][0]


class Receipt(StrEnum):
    """What became of an authentic delivery."""

    RESUMED = "resumed"
    PROGRESS = "progress"
    WITHOUT_EFFECT = "without effect"
    """A duplicate, progress of a job that is over, or a probe of the doctor."""
    LATE = "late"
    """The job ends, or has ended, without this result; it is kept on the record."""
    QUARANTINED = "quarantined"


class Deliveries:
    """Receives deliveries: signature, then schema, then claim."""

    def __init__(
        self,
        *,
        records: Records,
        readings: Readings,
        provider: Provider,
        quarantine: Quarantine,
        signing_keys: Sequence[str],
        tolerance: timedelta,
        policy: Policy,
        clock: Clock,
    ) -> None:
        self._records = records
        self._readings = readings
        self._provider = provider
        self._evidence = (*provider.scheme.all_headers, "Content-Type", "User-Agent")
        self._quarantine = quarantine
        self._signing_keys = signing_keys
        self._tolerance = tolerance
        self._policy = policy
        self._clock = clock

    def receive(self, job_id: JobId, headers: Mapping[str, str], raw: bytes) -> Receipt:
        """Receive one delivery. When this returns, the delivery is stored, so a 200 is safe.

        Raises InvalidSignature (nothing is written then), StoreUnavailable.
        """
        self._provider.scheme.verify(
            headers,
            raw,
            secrets=derive_secrets(self._signing_keys, job_id),
            now=datetime.fromtimestamp(self._clock(), UTC),
            tolerance=self._tolerance,
        )
        if (job_id, raw) == (PROBE_ID, PROBE_BODY):
            # This is `fermata doctor` probing the URL. The signature is valid, so answer 200 and
            # change nothing.
            return Receipt.WITHOUT_EFFECT
        try:
            return self._use(job_id, headers, raw)
        except InvalidPayload as error:
            kind, why = Kind.UNREADABLE, error.message
        except UnknownJob as error:
            kind, why = Kind.ORPHAN, error.message
        now = self._clock()
        evidence = {name: headers[name] for name in self._evidence if name in headers}
        entry_id = self._quarantine.keep(kind, job_id, evidence, raw, why, now=now)
        self._records.note(
            job_id, now=now, what="quarantined", why=f"{entry_id}: {why}", sources=JobState
        )
        # We cannot use the delivery, but it may be the end of the job. So make a waiting job due
        # now: the sweep polls it.
        self._records.note(job_id, now=now, sources=(JobState.WAITING,), due_at=now)
        log.warning("delivery_quarantined", job_id=job_id, entry_id=entry_id, kind=kind, why=why)
        return Receipt.QUARANTINED

    def verify(self, entry: Entry) -> Delivery:
        """Check a delivery from quarantine again, and read it; nothing is changed.

        Raises InvalidSignature if the entry was changed or its signing key was retired;
        InvalidPayload if the delivery still cannot be read.
        """
        self._verify_kept(entry)
        return self._provider.read_delivery(entry.body)

    def _verify_kept(self, entry: Entry) -> None:
        secrets = derive_secrets(self._signing_keys, entry.job_id)
        self._provider.scheme.verify_kept(entry.headers, entry.body, secrets=secrets)

    def replay(self, entry: Entry) -> Receipt:
        """Use a delivery from quarantine as if it had just come, whatever its age.

        Raises InvalidSignature if the entry was changed or its signing key was retired;
        InvalidPayload or UnknownJob if the delivery still cannot be used.
        """
        self._verify_kept(entry)
        now = self._clock()
        self._records.note(
            entry.job_id, now=now, what="replayed", why=entry.entry_id, sources=JobState
        )
        return self._use(entry.job_id, entry.headers, entry.body)

    def _use(self, job_id: JobId, headers: Mapping[str, str], raw: bytes) -> Receipt:
        # Only a traced delivery pays for this read.
        if tracing.is_recorded():
            tracing.link(self._readings.traceparent(job_id))
        delivery = self._provider.read_delivery(raw)
        delivery_id = headers.get(self._provider.scheme.id_header, "")[:128]
        if not delivery.final:
            return self._progress(job_id, delivery, delivery_id)
        heard = self._records.hear(
            job_id,
            Event(Source.WEBHOOK, body=delivery.body, delivery_id=delivery_id),
            now=self._clock(),
            digest=hashlib.sha256(raw).hexdigest()[:_DIGEST_LENGTH],
            again_in=_NOTHING_NEW if delivery.brings_work else _ENDS,
            again=f"{delivery.event} again",
        )
        if heard is Heard.WON:
            return Receipt.RESUMED
        if heard is Heard.AGAIN:
            return Receipt.WITHOUT_EFFECT
        return self._too_late(job_id, delivery, delivery_id)

    def _progress(self, job_id: JobId, delivery: Delivery, delivery_id: str) -> Receipt:
        now, fields = self._clock(), {"progress": delivery.progress}
        why = f"webhook {delivery_id}"
        state = self._records.note(
            job_id,
            now=now,
            what=delivery.event,
            why=why,
            fields=fields,
            receipt=Receipt.PROGRESS,
        )
        if state is None or state in TERMINAL:
            if delivery.brings_work:
                return self._too_late(job_id, delivery, delivery_id)
            # Progress is not worth keeping, even if the job is gone: the final delivery repeats it.
            return Receipt.WITHOUT_EFFECT
        if delivery.provider_task_id and state in _NOT_ACCEPTED:
            # A provider that reports progress has accepted the job. Take the turn even if the
            # submit's answer is lost: a second submission would be paid for again.
            known = {"provider_task_id": delivery.provider_task_id[:256]}
            due_at = now + self._policy.poll_every_seconds
            self._records.turn(job_id, Turn.ACCEPT, now=now, due_at=due_at, why=why, fields=known)
        return Receipt.PROGRESS

    def _too_late(self, job_id: JobId, delivery: Delivery, delivery_id: str) -> Receipt:
        now, why = self._clock(), f"webhook {delivery_id}"
        # Only a song was paid for. A second failure of a failed job is just noted.
        if delivery.brings_work:
            late: JSONObject = {"at": now, "delivery_id": delivery_id, "final": delivery.final}
            if self._records.keep_late(
                job_id,
                late | {"body": delivery.body},
                now=now,
                why=why,
                sources=_ENDS if self._adds(job_id, delivery) else LOST,
                retain_seconds=self._policy.retention_seconds,
            ):
                return Receipt.LATE
        what = f"{delivery.event} again"
        noted = self._records.note(
            job_id,
            now=now,
            what=what,
            why=why,
            sources=TERMINAL,
            receipt=Receipt.WITHOUT_EFFECT,
        )
        if noted is None:
            raise UnknownJob(
                f"there is no job {job_id}: past its retention, or its record was lost"
            )
        return Receipt.WITHOUT_EFFECT

    def _adds(self, job_id: JobId, delivery: Delivery) -> bool:
        """Say whether this delivery holds something that the event or result of its job lacks."""
        if self._readings.state(job_id) is None:
            return False
        # Read the event first: a job that succeeds drops it. In the other order, a job that settles
        # in between would show neither a result nor an event.
        event, record = self._readings.event(job_id), self._readings.read(job_id)
        if event and event.body == delivery.body:
            return False
        ending = self._result(record, event.body) if event else record.result
        # Beside a failed job anything is new: this delivery need not be read now to be kept.
        came = None if ending is None else self._result(record, delivery.body)
        return lateness.adds(came, ending, was_resubmitted=record.resubmissions > 0)

    def _result(self, record: JobRecord, body: str | None) -> JSONObject | None:
        """Read a body into its job's result; None if the body holds no result."""
        try:
            return self._provider.read_result(record.job_id, record.operation, body or "")
        except FermataError:
            return None
