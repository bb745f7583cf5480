"""Account operations; `make reference` writes this file from their table.

Every task takes ``source`` first: nothing, a clip id, a clip, the result of the task before it in
a chain, or a list of these. ``pick`` chooses the clip of a result (index from 0, or clip id; by
default the first that succeeded), and ``extra`` passes fields to the provider unchecked.

Every task returns ``{"job_id", "operation", "provider_task_id", "clips", "data", "partial"}``
and raises one of :mod:`worker.core.errors`.
"""

from typing import Any

from worker.app import app
from worker.app.job_task import provider_task
from worker.core.job.models import JSONObject
from worker.core.providers.aimusic.sources import Pick, Source


@provider_task(app, "account.credits")
def credits(
    source: Source = None,
    *,
    pick: Pick = None,
    extra: dict[str, Any] | None = None,
) -> JSONObject:
    """Ask how many credits are left: ``data`` is ``{credits, extra_credits}``.

    Free; answers at once, or is asked again.

    Example::

        credits.delay()
    """
