"""Reads ``source``, the first argument of every operation, into the parameters it stands for."""

from collections.abc import Iterator
from typing import Any, Final

from worker.core.errors import InvalidRequest
from worker.core.job.models import JSONObject
from worker.core.providers.aimusic.endings import clip_state
from worker.core.providers.aimusic.operations.row import Operation

Source = str | dict[str, Any] | list[Any] | None
"""Nothing, a clip id, a clip, the result of the job before, or a list of these (as a chord's)."""

TITLE_LIMIT: Final = 80

Pick = int | str | None
"""Which clip of the source: its index from 0 or its clip id; None: the first that succeeded."""


def read(operation: Operation, source: Source, pick: Pick = None) -> JSONObject:
    """Read a source into the parameters that an operation takes from it.

    Raises InvalidRequest if it brings nothing that the operation can use.
    """
    carried = _carried(operation, source, pick)
    if operation.clip_field is None:
        if not carried:
            raise InvalidRequest(_useless(operation))
        return carried
    if operation.clips == 1:
        return carried | {operation.clip_field: choose(source, pick)}
    sources = source if isinstance(source, list) else [source]
    return carried | {operation.clip_field: [choose(each, pick) for each in sources]}


def choose(source: Source, pick: Pick = None) -> str:
    """Choose the clip a source means; returns its id.

    Raises InvalidRequest if there is no such clip.
    """
    clips = list(_clips(source))
    if pick is None:
        chosen = next((c for c in clips if clip_state(c) == "succeeded"), None)
    elif isinstance(pick, int):
        chosen = clips[pick] if -len(clips) <= pick < len(clips) else None
    else:
        chosen = next((c for c in clips if c["clip_id"] == pick), None)
    if chosen is None:
        wanted = "that succeeded" if pick is None else f"for pick={pick!r}"
        raise InvalidRequest(f"the source has no clip {wanted} ({len(clips)} clips in all)")
    return str(chosen["clip_id"])


def _clips(source: Source) -> Iterator[JSONObject]:
    match source:
        case str(clip_id) if clip_id:
            yield {"clip_id": clip_id}
        case {"clips": list(clips)}:
            # The clip of a producer download has a URL and no id, so no operation can use it.
            usable = (
                c for c in clips if not (isinstance(c, dict) and c.get("clip_id", "") is None)
            )
            yield from (clip for each in usable for clip in _clips(each))
        case dict(clip) if isinstance(clip.get("clip_id"), str) and clip["clip_id"]:
            yield clip
        case list():
            yield from (clip for each in source for clip in _clips(each))
        case _:
            raise InvalidRequest(
                "source must be a clip id, a clip, a result with clips, or a list of these; "
                f"it is a {type(source).__name__}"
            )


def _carried(operation: Operation, source: Source, pick: Pick) -> JSONObject:
    """Fill parameters from the source's data, by the paths that the table gives."""
    data = source.get("data") if isinstance(source, dict) else None
    chosen = str(0 if pick is None or operation.clip_field else pick)
    found = {
        name: _follow(data, path.format(pick=chosen).split("."))
        for name, path in operation.carries.items()
    }
    if isinstance(found.get("title"), str):
        # The provider may make up a title that is longer than its own limit. Cut it, or the song
        # that it belongs to would be refused.
        found["title"] = found["title"][:TITLE_LIMIT]
    return {name: value for name, value in found.items() if value is not None}


def _follow(value: Any, path: list[str]) -> Any:
    for step in path:
        match value:
            case dict():
                value = value.get(step)
            case list() if step.isdigit() and int(step) < len(value):
                value = value[int(step)]
            case _:
                return None
    return value


def _useless(operation: Operation) -> str:
    wanted = " or ".join(operation.carries)
    if not wanted:
        return f"{operation.name} takes no source; in a chain, use .si(…)"
    return f"the source brings no {wanted} for {operation.name}; in a chain, use .si(…)"
