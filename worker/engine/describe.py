"""A job's record as JSON, for programs: the command line and the desk's HTTP API print the same."""

from worker.core.errors import FermataError
from worker.core.job.lanes import tenant_of
from worker.core.job.models import JobRecord, JSONObject
from worker.core.ports import Provider


def record_json(record: JobRecord, provider: Provider) -> JSONObject:
    """Return a record as JSON; a late delivery is read as a result would be."""
    described = record.to_json() | {"tenant": tenant_of(record.lane)}
    if record.late:
        described["late"] = record.late | read_late(record, provider)
    return described


def read_late(record: JobRecord, provider: Provider) -> JSONObject:
    """Read a delivery that came after its job had ended: ``{"result": …}`` or ``{"error": …}``."""
    try:
        result = provider.read_result(
            record.job_id,
            record.operation,
            (record.late or {})["body"],
            clip_id=record.clip_id,
            provider_task_id=record.provider_task_id,
        )
    except FermataError as error:
        return {"error": error.to_json()}
    return {"result": result}
