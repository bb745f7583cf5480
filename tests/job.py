"""A job by the name of its task, as a backend that has none of our code sends it; its record."""

from typing import Any

from celery.canvas import Signature

from worker.core import keys
from worker.core.job import canvas
from worker.core.job.models import Parked
from worker.messages.press import pack, press


class Job(Signature[Any]):
    """A signature that has its id from the start: scenarios and books are looked up by it."""

    @property
    def id(self) -> str:
        return str(self.options["task_id"])

    def __ror__(self, step: Signature[Any]) -> Signature[Any]:  # type: ignore[override]
        """Follow a step as any signature does; without this, mypy takes ``|`` for a dict's."""
        return step.__or__(self)


def record_keys(job_id: str) -> set[str]:
    """The Redis keys of a job's record."""
    return {keys.job(job_id), keys.message(job_id), keys.timeline(job_id)}


def pressed(signature: Signature[Any]) -> Parked:
    """The message that ``signature.apply_async()`` would publish now, as a record keeps it."""
    message = press(lambda to: signature.apply_async(producer=to, add_to_parent=False, declare=[]))
    return Parked(pack(message), canvas.place(message["headers"]))
