"""What a backend holds of what it has enqueued: a job, or a flow of jobs."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Final

from celery import Celery

from fermata_client.connections import Records, reachable
from fermata_client.contract import CANCEL_COMMAND
from fermata_client.errors import JobFailed, StillRunning, Unavailable
from fermata_client.flows import Step, ends
from fermata_client.status import Result, Status, Update, Watch

_REPLY_SECONDS: Final = 3.0
BY: Final = "the backend"


class Steps:
    """Jobs that were enqueued together, by their ids alone: nothing is read before it is asked."""

    def __init__(self, steps: Sequence[Step], records: Records, app: Callable[[], Celery]) -> None:
        self.steps = tuple(steps)
        self._records = records
        self._app = app

    @property
    def id(self) -> str:
        """The id of the first job; it is its Celery task id."""
        return self.steps[0].job_id

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.id!r}, {self.steps[0].operation!r})"

    def _look(self) -> list[Status]:
        found = self._records.read([step.job_id for step in self.steps])
        seen: dict[str | None, Status] = {}
        for step, status in zip(self.steps, found, strict=True):
            before = seen.get(step.after)
            stopped = status.state == "pending" and before and before.settled
            skipped = stopped and before and before.state != "succeeded"
            seen[step.job_id] = replace(status, state="skipped") if skipped else status
        return list(seen.values())

    def updates(self, timeout: float | None = None) -> Iterator[Update]:
        """Yield how it stands and then whatever is new, until it has settled or time is up.

        Events: ``state``, ``streaming`` (``status.progress`` has links that play already), and
        ``settled`` (with ``status.result`` or ``status.error``). Raises Unavailable.

        Args:
            timeout: seconds; a browser's EventSource, for one, asks again by itself.
        """
        watch = Watch(timeout)
        while True:
            yield from watch.see(self._look())
            if watch.over:
                return
            time.sleep(watch.pause)

    async def aupdates(self, timeout: float | None = None) -> AsyncIterator[Update]:
        """Do what :meth:`updates` does, without holding a thread."""
        watch = Watch(timeout)
        while True:
            for update in watch.see(await asyncio.to_thread(self._look)):
                yield update
            if watch.over:
                return
            await asyncio.sleep(watch.pause)

    def _wait(self, timeout: float | None) -> dict[str, Result]:
        """Wait for the results of all jobs, by job id.

        Raises JobFailed with the first that failed, StillRunning, Unavailable.
        """
        results: dict[str, Result] = {}
        for update in self.updates(timeout):
            status = update.status
            if status.result:
                results[status.job_id] = status.result
            elif status.settled:
                raise status.error or JobFailed("NotRun", f"{status.job_id} never ran")
        if len(results) < len(self.steps):
            raise StillRunning(f"{self!r} has not settled within {timeout} s; it goes on")
        return results

    def cancel(self, by: str = BY) -> bool:
        """Cancel whatever has not settled: it fails with ``JobCancelled``.

        The provider cannot be told, and may charge for what it has begun. A job that no worker
        has begun yet ends as soon as one would.

        Returns False where there was nothing left to cancel. Raises Unavailable, also where
        jobs are under way and no worker of Fermata's answers.
        """
        live = [status.job_id for status in self._look() if not status.settled]
        if not live:
            return False
        # A worker that is told of a job without a record would report it as revoked at once.
        begun = [job_id for job_id in live if not self._records.bar(job_id, by)]
        if not begun:
            return True
        if not _told(self._app(), {"job_ids": begun, "by": by}):
            raise Unavailable(f"no worker heard that {', '.join(begun)} shall be cancelled")
        return True


def _told(app: Celery, arguments: dict[str, Any]) -> bool:
    answers = []

    def listen(reply: dict[str, Any]) -> None:
        # A worker of another application answers that it does not know the command.
        if any("ok" in said for said in reply.values()):
            answers.append(reply)
            raise TimeoutError  # to kombu, the end of waiting: one answer is enough

    with reachable("the broker"):
        app.control.broadcast(
            CANCEL_COMMAND, arguments, reply=True, timeout=_REPLY_SECONDS, callback=listen
        )
    return bool(answers)


class Job(Steps):
    """One job. ``Fermata.job(job_id)`` returns it again, in any process."""

    def status(self) -> Status:
        """Read how it stands. Raises Unavailable."""
        return self._look()[0]

    def wait(self, timeout: float | None = None) -> Result:
        """Wait for its result.

        Raises JobFailed, StillRunning after ``timeout`` seconds, Unavailable.
        """
        return self._wait(timeout)[self.id]


class Flow(Steps):
    """A flow. ``Fermata.flow(name, flow_id)`` returns it again, in any process."""

    def statuses(self) -> list[Status]:
        """Read how its jobs stand, in the order of ``steps``. Raises Unavailable."""
        return self._look()

    def wait(self, timeout: float | None = None) -> list[Result]:
        """Wait for the results of its last jobs, in the order of its branches.

        Raises JobFailed as soon as one of its jobs has failed, StillRunning, Unavailable.
        """
        results = self._wait(timeout)
        return [results[job_id] for job_id in ends(self.steps)]
