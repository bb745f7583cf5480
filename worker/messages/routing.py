"""Where a message goes that names no queue, and how its queue comes to be.

Celery sends it to the default queue of the application that publishes it. What follows a job is
published by Fermata's worker, whose default queue is Fermata's own. A backend's task would land
there, be taken by a worker that does not have it, and fail as not registered, after the job before
it was paid for.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

from celery.app.amqp import Queues
from kombu import Queue

from worker.core.contract import TASK_PREFIX

_ALWAYS_HERE: Final = (TASK_PREFIX, "celery.")
"""How the names of tasks begin that every worker of Fermata has: Fermata's own, and Celery's."""


def follow_up_route(queue: Callable[[], str]) -> Callable[..., dict[str, str] | None]:
    """Return a router, in Celery's sense, that sends what is not registered here to a queue.

    Args:
        queue: names the queue; called when there is something to send.
    """

    def route(
        name: str, args: Any, kwargs: Any, options: Mapping[str, Any], task: Any = None
    ) -> dict[str, str] | None:
        if task is not None or options.get("queue") or name.startswith(_ALWAYS_HERE):
            return None
        return {"queue": queue()}

    return route


class FoundQueue(Queue):
    """A queue that is left as it is if it is there already.

    RabbitMQ refuses a second declaration that differs from the first. A backend's worker may have
    made its queue a quorum queue, or one with priorities, and here nobody knows that.
    """

    def declare(self, nowait: bool = False, channel: Any = None) -> Any:
        """Declare the queue unless it is there."""
        channel = channel or self.channel
        if _is_there(self.name, channel):
            return self.name
        return super().declare(nowait=nowait, channel=channel)


def _is_there(name: str, channel: Any) -> bool:
    connection = channel.connection
    if connection.client.transport.driver_type != "amqp":
        return False  # elsewhere a declaration has nothing that could differ
    # RabbitMQ closes a channel that asks for a queue that is not there.
    with connection.channel() as asking:
        try:
            asking.queue_declare(name, passive=True)
        except connection.channel_errors:
            return False
    return True


class FoundQueues(Queues):
    """The queues of an application; those that only a message names are left as they are."""

    def new_missing(self, name: str) -> Queue:
        """Return the queue that is to be used under a name that the configuration does not know."""
        return FoundQueue(**super().new_missing(name).as_dict())
