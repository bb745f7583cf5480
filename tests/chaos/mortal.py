"""A system whose worker, receiver and producer die at the points that a test arms."""

import json
from typing import Any

from redis import Redis

from tests import launcher
from tests.chaos.points import ARMED, OUT
from tests.system import System, wait_until
from worker.core import keys

PATIENT: dict[str, Any] = {
    # No due time comes by itself: a test brings it, so that luck of timing plays no part.
    "FERMATA_POLL_FIRST_SECONDS": "600",
    "FERMATA_POLL_EVERY_SECONDS": "600",
}


class Mortal(System):
    """A system whose processes die at given points, and are started again as by a supervisor."""

    receiver_app = "tests.chaos.points:receiver()"

    def __enter__(self) -> "Mortal":
        super().__enter__()
        self.redis = Redis.from_url(self.redis_url, decode_responses=True)
        self.revive()
        return self

    def revive(self) -> None:
        """Start the worker, with an empty log."""
        (self.folder / "worker.log").write_bytes(b"")
        self._worker = self.worker(app="tests.chaos.points_app", pool="prefork", concurrency=2)

    def arm(self, point: str, job_id: str) -> None:
        self.redis.sadd(ARMED, f"{point} {job_id}")

    def take_out(self, guard: str, job_id: str) -> None:
        self.redis.sadd(OUT, f"{guard} {job_id}")

    def passed(self, point: str, job_id: str) -> None:
        """Wait until the armed point was reached; the worker lives again after that."""
        armed = f"{point} {job_id}"
        wait_until(lambda: not self.redis.sismember(ARMED, armed), what=f"{point} is reached")

    def worker_died(self, *, long_ago: bool = False) -> None:
        """Wait until the worker is dead, and start it again.

        Args:
            long_ago: let the visibility timeout be over for the messages that it had in hand, so
                that Redis redelivers them. RabbitMQ does so at once.
        """
        wait_until(lambda: self._worker.poll() is not None, what="the worker is dead")
        if self.rabbitmq:
            self.revive()
            return
        with Redis.from_url(self.broker_url) as broker:
            in_hand = broker.hkeys("unacked") if long_ago else []
            for tag in in_hand:
                broker.zadd("unacked_index", {tag: 1}, xx=True)
            self.revive()
            for tag in in_hand:
                wait_until(lambda t=tag: not broker.hexists("unacked", t), what="it came back")

    def reads(self, queue: str) -> None:
        """Let the worker read another queue as well, until it dies."""
        to: dict[str, Any] = {"destination": ["worker@test"], "reply": True, "timeout": 5}
        # A worker says that it is ready before it receives broadcasts.
        wait_until(lambda: self.app.control.add_consumer(queue, **to), what=f"it reads {queue}")

    def produce(self, canvas: Any) -> None:
        """Enqueue a canvas through our own producer, in a process that may die of it."""
        code = "import sys; from tests.chaos.points import produce; produce(sys.argv[1])"
        launcher.run(
            "-c", code, json.dumps(canvas), environment=self.environment, folder=self.folder
        )

    def due_at(self, job_id: str) -> float | None:
        """Return when a job is due next: at a sweep, or as one that is ready at a conductor."""
        times = [self.redis.zscore(key, job_id) for key in (keys.DUE, keys.READY)]
        return next((at for at in times if at is not None), None)

    def time_comes(self, *job_ids: str) -> None:
        """Let jobs be due now, and wait until a sweep or a conductor has seen to them.

        A job without a due time stays as it is.
        """
        for key in (keys.DUE, keys.READY):
            self.redis.zadd(key, dict.fromkeys(job_ids, 1.0), xx=True)
        wait_until(
            lambda: all(self.due_at(job_id) != 1 for job_id in job_ids), what="somebody came by"
        )
