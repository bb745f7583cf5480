"""Use case: bring back a job whose record is gone, from a delivery that the quarantine kept.

An orphan may hold a song that was paid for. ``fermata quarantine adopt`` calls this module with the
entry. It checks the signature again, writes a Celery result, so that the user's
``AsyncResult(job_id).get()`` answers, and then writes a record, as if the job had just ended.
"""

from collections.abc import Callable, Sequence

import structlog

from worker.core.contract import TENANT_HEADER
from worker.core.errors import InvalidRequest, TaskFailed
from worker.core.job.lanes import lane_of
from worker.core.job.models import Entry, JobId, JSONObject
from worker.core.job.states import JobState, Turn
from worker.core.ports import Clock, Provider, Readings, Records
from worker.core.signing import derive_secrets
from worker.core.wire import Operation

log = structlog.get_logger()


Outcome = JSONObject | TaskFailed
Answer = Callable[[JobId, Outcome], None]
"""Stores an outcome as the job's Celery result, unless a SUCCESS is stored already."""


class Adoption:
    """Adopts orphans: their songs were paid for, so their users get them back."""

    def __init__(
        self,
        *,
        records: Records,
        readings: Readings,
        provider: Provider,
        answer: Answer,
        signing_keys: Sequence[str],
        retention_seconds: int,
        clock: Clock,
    ) -> None:
        self._records = records
        self._readings = readings
        self._provider = provider
        self._answer = answer
        self._signing_keys = signing_keys
        self._retention_seconds = retention_seconds
        self._clock = clock

    def adopt(self, entry: Entry, operation: Operation, *, tenant: str | None = None) -> JobState:
        """Write the record and the Celery result of a job that has none, as if it had just ended.

        The job's canvas was lost with its record, so the steps after the job do not run. So was its
        tenant: without one it is the default tenant's.

        Raises InvalidSignature if the entry was changed or its signing key was retired;
        InvalidRequest if the job has a record, the operation takes no webhook, or there can be no
        such tenant;
        InvalidPayload and UnexpectedResponse if the delivery is no result of the operation.
        """
        secrets = derive_secrets(self._signing_keys, entry.job_id)
        self._provider.scheme.verify_kept(entry.headers, entry.body, secrets=secrets)
        if not operation.takes_webhook:
            raise InvalidRequest(f"{operation.name} takes no webhook: this is of another operation")
        lane = lane_of({TENANT_HEADER: tenant})
        if self._readings.state(entry.job_id):
            raise _recorded(entry)
        outcome = self._read(entry, operation)
        # The record comes last. If the process dies before it, there is still no record, so the
        # operator can run the command again.
        self._answer(entry.job_id, outcome)
        return self._record(entry, {"operation": operation.name, "lane": str(lane)}, outcome)

    def _record(self, entry: Entry, job: JSONObject, outcome: Outcome) -> JobState:
        turn, fields = Turn.ADOPT, {"result": outcome}
        if isinstance(outcome, TaskFailed):
            turn, fields = Turn.ADOPT_FAILURE, {"error": outcome.to_json()}
        won = self._records.turn(
            entry.job_id,
            turn,
            now=self._clock(),
            due_at=None,
            why=f"adopted from quarantine: {entry.entry_id}",
            # With the lane, so that the job is its tenant's from the first moment on.
            fields=job | fields,
            retain_seconds=self._retention_seconds,
        )
        if not won:
            raise _recorded(entry)
        log.info("job_adopted", job_id=entry.job_id, entry_id=entry.entry_id, outcome=turn)
        return self._readings.read(entry.job_id).state

    def _read(self, entry: Entry, operation: Operation) -> Outcome:
        delivery = self._provider.read_delivery(entry.body)
        if not delivery.final:
            raise InvalidRequest(f"entry {entry.entry_id} is no end of a job, but {delivery.event}")
        try:
            return self._provider.read_result(entry.job_id, operation.name, delivery.body)
        except TaskFailed as failed:
            return failed


def _recorded(entry: Entry) -> InvalidRequest:
    return InvalidRequest(f"job {entry.job_id} has a record: replay the entry instead")
