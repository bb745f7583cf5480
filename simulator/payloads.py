"""What the provider says about a task: clips, poll answers, and the bodies of webhooks."""

from __future__ import annotations

import json
from datetime import UTC, datetime

from .books import Clip, ProviderTask, State
from .instruments import instrument_name
from .replies import JSON, Reply
from .scenarios import FailureForm, Outcome
from .settings import Settings
from .songs import duration_seconds

NOT_READY = Reply(202, {"type": "not_ready"})


def poll_reply(task: ProviderTask, state: State, settings: Settings) -> Reply:
    """Answer `GET /sonic/task/{id}` (`provider-api.md` §4.1, `provider-api-2.md` §4)."""
    if state is State.PENDING:
        return NOT_READY
    if state is State.FAILED:
        return _failure(task, settings)
    return Reply(200, _clips(task, state, settings, "success"))


def _failure(task: ProviderTask, settings: Settings) -> Reply:
    match task.scenario.failure_form:
        case FailureForm.TYPED:
            return Reply(200, {"type": "failed", "error": "Generation failed"})
        case FailureForm.GATEWAY_TIMEOUT:
            message = "Task failed due to timeout. Credits were previously refunded."
            return Reply(504, {"message": message, "type": "api_error", "already_refunded": True})
        case FailureForm.CLIPS:
            return Reply(200, _clips(task, State.FAILED, settings, "success"))


def streaming_body(task: ProviderTask, settings: Settings) -> bytes:
    """Word a `song.streaming` webhook (§5.5): running clips, with an address to listen at."""
    body = _clips(task, State.RUNNING, settings, "streaming")
    return _envelope(body, task, "song.streaming", settings)


def final_body(task: ProviderTask, settings: Settings) -> bytes:
    """Word the webhook that ends a task (§5.5). A failed one has neither `code` nor `data`."""
    if task.failed:
        failed: JSON = {"type": "failed", "message": "Generation failed", "refund_processed": True}
        return _envelope(failed, task, final_event(task), settings)
    completed = _clips(task, State.SUCCEEDED, settings, "success")
    return _envelope(completed, task, final_event(task), settings)


def final_event(task: ProviderTask) -> str:
    return "song.failed" if task.failed else "song.completed"


def _envelope(body: JSON, task: ProviderTask, event: str, settings: Settings) -> bytes:
    body |= {"task_id": task.provider_task_id, "platform": settings.platform, "event": event}
    return json.dumps(body, separators=(",", ":")).encode()


def _clips(task: ProviderTask, state: State, settings: Settings, message: str) -> JSON:
    """Show every clip in `state`; the last one failed if the outcome is partial."""
    states = [state] * len(task.clips)
    if state is State.SUCCEEDED and task.scenario.outcome is Outcome.PARTIAL:
        states[-1] = State.FAILED
    clips = zip(task.clips, states, strict=True)
    data = [_clip(task, clip, each, settings) for clip, each in clips]
    return {"code": 200, "data": data, "message": message}


def _clip(task: ProviderTask, clip: Clip, state: State, settings: Settings) -> JSON:
    asked = task.request.get
    shown: JSON = {
        "clip_id": clip.clip_id,
        "state": state,
        "title": clip.title,
        "tags": asked("tags"),
        "lyrics": asked("prompt") or asked("lyrics") or "[Instrumental]",
        "image_url": f"{task.base_url}/media/{clip.source}.svg",
        "audio_url": _audio_url(task, clip, state),
        "video_url": None,
        "created_at": _timestamp(task.accepted_at),
        "gpt_description_prompt": asked("gpt_description_prompt"),
        "duration": _duration(clip, settings) if state is State.SUCCEEDED else None,
        "negative_tags": asked("negative_tags"),
        "style_weight": asked("style_weight"),
        "weirdness_constraint": asked("weirdness_constraint"),
        "mv": asked("mv", "chirp-v5"),
    }
    return shown | {"stem_type": stem_type(clip.stem)} if clip.stem else shown


def _audio_url(task: ProviderTask, clip: Clip, state: State) -> str | None:
    """Give the clip's address: another one while it streams (§4.1), and none if it failed."""
    if state is State.FAILED:
        return None
    folder = "audiopipe" if state is State.RUNNING else "media"
    return media_url(f"{task.base_url}/{folder}", clip, "wav")


def media_url(folder: str, clip: Clip, suffix: str) -> str:
    """Give the address of a clip's file; the name holds all that is needed to render it."""
    name = f"{clip.source}-{clip.stem}" if clip.stem else clip.source
    return f"{folder}/{name}.{suffix}"


def stem_type(stem: str) -> str:
    """Name a stem as the provider would: `voices` are the vocals of a two-stem split."""
    return instrument_name("vocals" if stem == "voices" else stem)


def _duration(clip: Clip, settings: Settings) -> str | int | None:
    seconds = duration_seconds(clip.source)
    match settings.duration_form:
        case "text":
            return f"{seconds:.2f}"
        case "integer":
            return round(seconds)
        case "null":
            return None


def _timestamp(moment: float) -> str:
    text = datetime.fromtimestamp(moment, UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")
