"""Lyrics operations; `make reference` writes this file from their table.

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


@provider_task(app, "lyrics.generate")
def generate(
    source: Source = None,
    *,
    description: str,
    pick: Pick = None,
    extra: dict[str, Any] | None = None,
) -> JSONObject:
    """Write lyrics in two versions: ``data.results`` is a list of ``{title, lyrics}``.

    2 credits; answers at once, or is asked again.

    Args:
        description: what the song is about; up to 119 characters

    Example::

        generate.delay(description="a note that is held")
    """
