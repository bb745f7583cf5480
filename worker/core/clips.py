"""From ``source``, the first argument of every operation, to the one clip it means."""

from collections.abc import Iterator
from typing import Any

from worker.core.errors import InvalidRequest

Source = str | dict[str, Any] | list[Any] | None
"""Nothing, a clip id, a clip, the result of the job before, or a list of these (as a chord's)."""

Pick = int | str | None
"""Which clip of the source: its index from 0 or its clip id; None: the first that succeeded."""


def choose(source: Source, pick: Pick = None) -> str | None:
    """Choose the clip a source means; returns its id, or None where the source is nothing.

    Raises InvalidRequest where there is no such clip.
    """
    if source is None:
        return None
    clips = list(_clips(source))
    if pick is None:
        chosen = next((c for c in clips if c.get("state", "succeeded") == "succeeded"), None)
    elif isinstance(pick, int):
        chosen = clips[pick] if -len(clips) <= pick < len(clips) else None
    else:
        chosen = next((c for c in clips if c["clip_id"] == pick), None)
    if chosen is None:
        wanted = "that succeeded" if pick is None else f"for pick={pick!r}"
        raise InvalidRequest(f"the source has no clip {wanted} ({len(clips)} clips in all)")
    return str(chosen["clip_id"])


def _clips(source: Source) -> Iterator[dict[str, Any]]:
    match source:
        case str(clip_id) if clip_id:
            yield {"clip_id": clip_id}
        case {"clips": list(clips)}:
            yield from (clip for each in clips for clip in _clips(each))
        case dict(clip) if isinstance(clip.get("clip_id"), str):
            yield clip
        case list():
            yield from (clip for each in source for clip in _clips(each))
        case _:
            raise InvalidRequest(
                "source must be a clip id, a clip, a result with clips, or a list of these; "
                f"it is a {type(source).__name__}"
            )
