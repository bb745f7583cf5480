"""The state of a clip, read in one place for webhooks, polls, results and sources."""

from collections.abc import Mapping
from typing import Any, Final, Literal

from worker.core.providers.aimusic.refusals import task_status

State = Literal["running", "succeeded", "failed"]

_ADDRESSES: Final = ("audio_url", "video_url", "wav_url")


def clip_state(clip: Mapping[str, Any], task: Mapping[str, Any] | None = None) -> State:
    """Read a clip's state, in any case and by any of its synonyms.

    An unknown word means that the provider still works on the clip (provider-api-2.md §4). An item
    without a state, such as a download's URL, has ended. A state that is null or blank counts as
    running, unless there is something to fetch.

    Args:
        task: the body that the clip came in. Its status counts if the clip has no state.
    """
    state = clip.get("state")
    if state is not None and not (isinstance(state, str) and not state.strip()):
        return task_status({"status": state}) or "running"
    if said := task_status(clip) or task_status(task or {}):
        return said
    fetchable = any(clip.get(name) for name in _ADDRESSES)
    return "succeeded" if fetchable or "state" not in clip else "running"
