"""Account operations."""

from worker.core.providers.aimusic.fields import Nothing
from worker.core.providers.aimusic.operations.row import Operation

ROWS = (
    Operation(
        name="account.credits",
        method="GET",
        path="/get-credits",
        schema=Nothing,
        summary="Ask how many credits are left: `data` is `{credits, extra_credits}`.",
        repeatable=True,
        makes_clips=False,
        deadline_seconds=300,
    ),
)
