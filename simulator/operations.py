"""The table of what the provider can be asked to do: one row for each path."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .books import Clip
from .midi import report_notes
from .payloads import media_url
from .replies import JSON
from .settings import Settings
from .songs import Part
from .validation import DEFAULT_TASK_TYPE, OLD_MODELS, Body, check_clip, check_create


@dataclass(frozen=True, slots=True)
class Operation:
    """One paid request. It starts a task, unless it has an `answer` to give at once."""

    path: str
    name: str
    check: Callable[[Body, Settings], None]
    price: Callable[[Body], float]
    clip_field: str = "clip_id"
    webhook: bool = False
    stems: tuple[str, ...] = ()  # one clip for each; without, two new songs
    answer: Callable[[Clip, str], JSON] | None = None
    may_wait: bool = False  # can answer 202 first

    def task_type(self, body: Body) -> str:
        """Name what was asked: the operation, unless the body has a `task_type` of its own."""
        return str(body.get("task_type") or self.name)


# Prices are the "aim" column of provider-api.md §7.
MAKES_OR_COVERS = frozenset({"create_music", "cover_music", "cover_upload_music"})


def _create_price(body: Body) -> float:
    task_type = body.get("task_type", DEFAULT_TASK_TYPE)
    described = body.get("custom_mode") is False
    if task_type in MAKES_OR_COVERS and (described or body.get("mv") not in OLD_MODELS):
        return 14
    return 2 if task_type == "concat_music" else 10


def _flat(price: float) -> Callable[[Body], float]:
    return lambda _body: price


def _wav(clip: Clip, base_url: str) -> JSON:
    url = media_url(f"{base_url}/media", clip, "wav")
    return {"message": "success", "data": {"wav_url": url}}  # no `code`: §3.6


def _midi(clip: Clip, base_url: str) -> JSON:
    url = media_url(f"{base_url}/media", clip, "mid")
    data = {"midi_url": url, "instruments": report_notes(clip.source, clip.stem)}
    return {"code": 200, "data": data, "message": "success"}


OPERATIONS = (
    Operation(
        "/sonic/create",
        DEFAULT_TASK_TYPE,
        check_create,
        _create_price,
        clip_field="continue_clip_id",
        webhook=True,
    ),
    Operation(
        "/sonic/stems/basic",
        "stems_basic",
        check_clip,
        _flat(20),
        stems=("voices", "instrumental"),
    ),
    Operation("/sonic/stems/full", "stems_full", check_clip, _flat(50), stems=tuple(Part)),
    Operation("/sonic/wav", "wav", check_clip, _flat(1), answer=_wav),
    Operation("/sonic/midi", "midi", check_clip, _flat(1), answer=_midi, may_wait=True),
)
