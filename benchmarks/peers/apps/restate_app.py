"""The workflow on Restate, as a service that its server calls.

Over HTTP/1.1 a handler that waits is suspended at once, and holds nothing.
"""

import json
from typing import Any

import restate
from restate.serde import BytesSerde

from benchmarks.peers.apps.provider import submit

song = restate.Workflow("Song")


@song.main()
async def run(context: restate.WorkflowContext) -> list[Any]:
    """Submit a song, wait for its webhook, and return what came."""
    webhook_id, webhook = context.awakeable(serde=BytesSerde())
    await context.run_typed("submit", submit, webhook_id=webhook_id)
    clips: list[Any] = json.loads(await webhook)["data"]
    return clips


app = restate.app([song])
