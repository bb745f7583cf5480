"""How a clip stands: whoever asks it of a webhook, a poll, a result or a source asks here."""

from collections.abc import Mapping
from typing import Any, Final, Literal

from worker.core.providers.aimusic.refusals import task_status

State = Literal["running", "succeeded", "failed"]

_ADDRESSES: Final = ("audio_url", "video_url", "wav_url")


def clip_state(clip: Mapping[str, Any], task: Mapping[str, Any] | None = None) -> State:
    """Read a clip's state, in any case and by any of its synonyms.

    A word that nobody knows is the provider's way to say that it still works on the clip
    (provider-api-2.md §4). Some things have no state at all, such as a download's address: they
    have ended. A state that is null or blank is not said yet, unless there is something to fetch.

    Args:
        task: what the clip came in, whose own status counts if the clip says nothing.
    """
    state = clip.get("state")
    if state is not None and not (isinstance(state, str) and not state.strip()):
        return task_status({"status": state}) or "running"
    if said := task_status(clip) or task_status(task or {}):
        return said
    fetchable = any(clip.get(name) for name in _ADDRESSES)
    return "succeeded" if fetchable or "state" not in clip else "running"
