"""Where a message without a queue goes, and how its queue is declared.

Celery sends such a message to the default queue of the application that publishes it. Fermata's
worker publishes the follow-ups of a job, and its default queue is Fermata's own. A backend's task
would land there, a worker that does not have the task would take it, and it would fail as not
registered, after the job before it was paid for. So ``recording`` adds a route for every task that
is not registered here.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

from celery.app.amqp import Queues
from kombu import Queue

from worker.core.contract import TASK_PREFIX

_ALWAYS_HERE: Final = (TASK_PREFIX, "celery.")
"""How the names of tasks begin that every worker of Fermata has: its own, and Celery's."""


def follow_up_route(queue: Callable[[], str]) -> Callable[..., dict[str, str] | None]:
    """Return a router, in Celery's sense, that sends tasks not registered here to a queue.

    Args:
        queue: names the queue; called for each task that is sent there.
    """

    def route(
        name: str, args: Any, kwargs: Any, options: Mapping[str, Any], task: Any = None
    ) -> dict[str, str] | None:
        if task is not None or options.get("queue") or name.startswith(_ALWAYS_HERE):
            return None
        return {"queue": queue()}

    return route


class FoundQueue(Queue):
    """A queue that is declared only if it does not exist.

    RabbitMQ refuses a second declaration that differs from the first. A backend's worker may have
    declared its queue as a quorum queue, or with priorities, and this process does not know that.
    """

    def declare(self, nowait: bool = False, channel: Any = None) -> Any:
        """Declare the queue unless it exists."""
        channel = channel or self.channel
        if _is_there(self.name, channel):
            return self.name
        return super().declare(nowait=nowait, channel=channel)


def _is_there(name: str, channel: Any) -> bool:
    connection = channel.connection
    if connection.client.transport.driver_type != "amqp":
        return False  # elsewhere a declaration has nothing that could differ
    # RabbitMQ closes a channel that asks for a queue that does not exist: ask on one of its own.
    with connection.channel() as asking:
        try:
            asking.queue_declare(name, passive=True)
        except connection.channel_errors:
            return False
    return True


class FoundQueues(Queues):
    """The queues of an application; a queue that the configuration lacks is a ``FoundQueue``."""

    def new_missing(self, name: str) -> Queue:
        """Return the queue for a name that the configuration does not know."""
        return FoundQueue(**super().new_missing(name).as_dict())
