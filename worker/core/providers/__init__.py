"""One folder for each provider: everything that only this provider says or does.

Fermata ships with one provider. A process speaks to one alone, ``chosen()``. Another one, such as
the toy provider of the tests, must be chosen before anything of ``worker`` asks for it.
"""

from worker.core import wire
from worker.core.contract import TASK_PREFIX
from worker.core.ports import Provider
from worker.core.providers.aimusic.provider import AIMusic
from worker.core.wire import Operation

_chosen: Provider = AIMusic()


def chosen() -> Provider:
    """Return the provider of this process."""
    return _chosen


def choose(provider: Provider) -> None:
    """Let this process speak to another provider."""
    global _chosen  # noqa: PLW0603
    _chosen = provider


def find(name: str) -> Operation:
    """Find an operation of the provider by name.

    Raises InvalidRequest, with the names there are.
    """
    return wire.find(_chosen.operations, name)


def operation_of(task: str) -> Operation | None:
    """Return an operation of the provider by the name of its task; None if it is another task."""
    if not task.startswith(TASK_PREFIX):
        return None
    return _chosen.operations.get(task.removeprefix(TASK_PREFIX))
