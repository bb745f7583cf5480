"""What a pause of the gate is about: all jobs, those of one tenant, or those of one operation."""

from worker.core.errors import InvalidRequest
from worker.core.job.lanes import EVERYTHING, TENANT, TENANT_FORM
from worker.core.providers import find


def part(*, tenant: str | None = None, operation: str | None = None) -> str:
    """Name a part of all jobs as the gate does: ``tenant:acme``, ``operation:sonic.wav``.

    Raises InvalidRequest if both are given, or if there can be no such tenant or operation.
    """
    if tenant is not None and operation is not None:
        raise InvalidRequest("name a tenant or an operation, not both")
    if operation is not None:
        return f"operation:{find(operation).name}"
    if tenant is None:
        return EVERYTHING
    if not TENANT.fullmatch(tenant):
        raise InvalidRequest(f"a tenant must be {TENANT_FORM}")
    return f"tenant:{tenant}"
