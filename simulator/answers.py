"""The answers of operations that need no task: one function for each (`provider-api.md` §3)."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from typing import cast

from .books import Clip, ProviderTask
from .midi import report_notes
from .payloads import media_url
from .replies import JSON
from .songs import compose, duration_seconds
from .table import FORMATS
from .words import align, upsample, write_version


def _success(data: JSON) -> JSON:
    return {"code": 200, "data": data, "message": "success"}


def _url(task: ProviderTask, suffix: str) -> str:
    return media_url(f"{task.base_url}/media", task.sources[0], suffix)


def _upload(task: ProviderTask) -> JSON:
    return {"code": 200, "clip_id": task.clips[0].clip_id, "message": "success"}


def _persona(_task: ProviderTask) -> JSON:
    return {"code": 200, "persona_id": str(uuid.uuid4()), "message": "success"}


def _bpm(task: ProviderTask) -> JSON:
    beats = round(60e6 / compose(task.sources[0].source).microseconds_per_beat, 2)
    return _success({"avg_bpm": beats, "max_bpm": beats, "min_bpm": beats})


def _vox(task: ProviderTask) -> JSON:
    clip, asked = task.sources[0], task.request.get
    return _success(
        {
            "vox_audio_id": str(uuid.uuid4()),
            "status": "ready",
            "source_clip_id": clip.clip_id,
            "vocal_start_s": asked("vocal_start_s") or 0,
            "vocal_end_s": asked("vocal_end_s") or round(duration_seconds(clip.source), 2),
            "wave_response": {},
        }
    )


def _wav(task: ProviderTask) -> JSON:
    return {"message": "success", "data": {"wav_url": _url(task, "wav")}}  # no `code`: §3.6


def _midi(task: ProviderTask) -> JSON:
    notes = report_notes(task.sources[0].source, task.sources[0].stem)
    return _success({"midi_url": _url(task, "mid"), "instruments": notes})


def _aligned_lyrics(task: ProviderTask) -> JSON:
    clip: Clip = task.sources[0]
    return _success({"alignment": align(clip.lyrics, clip.source)})


def _download(task: ProviderTask) -> JSON:
    """Link to WAV whatever the format, under a name that says so: see `audio`."""
    formats = cast("list[str]", task.request.get("formats") or FORMATS)
    return _success({"files": [{"format": each, "url": _url(task, "wav")} for each in formats]})


def _upsample_tags(task: ProviderTask) -> JSON:
    return _success({"upsampled_tags": upsample(str(task.request["tags"]))})


def _lyrics(task: ProviderTask) -> JSON:
    versions = [write_version(f"{task.request['description']}/{nth}") for nth in (1, 2)]
    return {"code": 200, "results": versions, "message": "success"}


ANSWERS: Mapping[str, Callable[[ProviderTask], JSON]] = {
    "upload": _upload,
    "persona": _persona,
    "bpm": _bpm,
    "vox": _vox,
    "wav": _wav,
    "midi": _midi,
    "aligned_lyrics": _aligned_lyrics,
    "download": _download,
    "upsample_tags": _upsample_tags,
    "lyrics": _lyrics,
}
