"""The handles of a backend on what it has enqueued: a job, or a flow of jobs."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from celery import Celery

from fermata_client.connections import Records, reachable
from fermata_client.contract import CANCEL_COMMAND
from fermata_client.errors import JobFailed, StillRunning, Unavailable
from fermata_client.flows import Step, ends
from fermata_client.status import Result, State, Status, Update, Watch, unknown_job

_REPLY_SECONDS: Final = 3.0
BY: Final = "the backend"


class Sent:
    """The jobs that this client has sent, and of which it has seen no record yet.

    The worker that takes a job writes its record. Until then only this client knows that the job
    was sent. Its message may be lost, so after a day the client no longer counts on it.
    """

    SECONDS: Final = 86400
    MOST: Final = 20_000

    def __init__(self) -> None:
        self._at: OrderedDict[str, float] = OrderedDict()

    def add(self, job_id: str) -> None:
        self._at.pop(job_id, None)
        self._at[job_id] = time.monotonic()
        while len(self._at) > self.MOST:
            self._at.popitem(last=False)

    def forget(self, job_id: str) -> None:
        self._at.pop(job_id, None)

    def __contains__(self, job_id: str) -> bool:
        at = self._at.get(job_id)
        return at is not None and time.monotonic() - at < self.SECONDS


class Steps:
    """Jobs that were enqueued together, known by their ids. Each call reads their state anew."""

    def __init__(
        self,
        steps: Sequence[Step],
        records: Records,
        app: Callable[[], Celery],
        sent: Sent,
        begin_seconds: float,
    ) -> None:
        self.steps = tuple(steps)
        self._records = records
        self._app = app
        self._sent = sent
        self._begin_seconds = begin_seconds

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
            if status.state == "unknown":
                seen[step.job_id] = replace(status, state=self._unrecorded(step, seen))
            else:
                self._sent.forget(step.job_id)
                seen[step.job_id] = status
        return list(seen.values())

    def _unrecorded(self, step: Step, seen: Mapping[str | None, Status]) -> State:
        """Return the state of a job that has no record."""
        before = seen.get(step.after)
        if before is None:
            return "pending" if step.job_id in self._sent else "unknown"
        if before.state in {"succeeded", "unknown"}:
            return "unknown"  # the record of a follow-up is there before its job has succeeded
        return "skipped" if before.settled else "pending"

    def updates(self, timeout: float | None = None) -> Iterator[Update]:
        """Yield the state, then each change, until the job has settled or the time is up.

        Events: ``state``, ``streaming`` (``status.progress`` has links that play already), and
        ``settled`` (with ``status.result`` or ``status.error``).

        Raises UnknownJob if there is no record of a job after the time that a worker may take to
        begin it (``begin_seconds`` of :class:`Fermata`); Unavailable.

        Args:
            timeout: seconds. A browser's EventSource, for example, asks again by itself.
        """
        watch = Watch(timeout, self._begin_seconds)
        while True:
            yield from watch.see(self._look())
            if watch.over():
                return
            time.sleep(watch.pause)

    async def aupdates(self, timeout: float | None = None) -> AsyncIterator[Update]:
        """Yield as :meth:`updates` does, without holding a thread."""
        watch = Watch(timeout, self._begin_seconds)
        while True:
            for update in watch.see(await asyncio.to_thread(self._look)):
                yield update
            if watch.over():
                return
            await asyncio.sleep(watch.pause)

    def _wait(self, timeout: float | None) -> dict[str, Result]:
        """Wait for the results of all jobs, by job id.

        Raises JobFailed with the first that failed, StillRunning, UnknownJob, Unavailable.
        """
        results: dict[str, Result] = {}
        states: dict[str, State] = {}
        for update in self.updates(timeout):
            status = update.status
            states[status.job_id] = status.state
            if status.result:
                results[status.job_id] = status.result
            elif status.settled:
                raise status.error or JobFailed("NotRun", f"{status.job_id} never ran")
        if len(results) < len(self.steps):
            for job_id, state in states.items():
                if state == "unknown":
                    raise unknown_job(job_id, f"after {timeout:g} s")
            begun = "it goes on" if states[self.id] != "pending" else "no worker has begun it"
            raise StillRunning(f"{self!r} has not settled within {timeout} s; {begun}")
        return results

    def cancel(self, by: str = BY) -> bool:
        """Cancel every job that has not settled: it fails with ``JobCancelled``.

        The provider cannot be told, and may charge for a song that it has begun. A job that no
        worker has begun yet ends when a worker takes its message.

        Returns False if there was nothing left to cancel. Raises Unavailable, also if jobs are
        under way and no worker of Fermata's answers.
        """
        live = [status.job_id for status in self._look() if not status.settled]
        if not live:
            return False
        # A job without a record gets the mark. Told of such an id, a worker would take it for any
        # task and report it as revoked at once.
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
            raise TimeoutError  # one answer is enough: kombu ends its wait at this error

    with reachable("the broker"):
        app.control.broadcast(
            CANCEL_COMMAND, arguments, reply=True, timeout=_REPLY_SECONDS, callback=listen
        )
    return bool(answers)


class Job(Steps):
    """One job. ``Fermata.job(job_id)`` returns it again, in any process."""

    def status(self) -> Status:
        """Read its state. Raises Unavailable."""
        return self._look()[0]

    def wait(self, timeout: float | None = None) -> Result:
        """Wait for its result.

        Raises JobFailed, StillRunning after ``timeout`` seconds, UnknownJob, Unavailable.
        """
        return self._wait(timeout)[self.id]


class Flow(Steps):
    """A flow. ``Fermata.flow(name, flow_id)`` returns it again, in any process."""

    def statuses(self) -> list[Status]:
        """Read the states of its jobs, in the order of ``steps``. Raises Unavailable."""
        return self._look()

    def wait(self, timeout: float | None = None) -> list[Result]:
        """Wait for the results of its last jobs, in the order of its branches.

        Raises JobFailed as soon as one of its jobs has failed, StillRunning, UnknownJob,
        Unavailable.
        """
        results = self._wait(timeout)
        return [results[job_id] for job_id in ends(self.steps)]
