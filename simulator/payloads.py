"""The provider's words about a task: clips, poll answers, and the bodies of webhooks."""

from __future__ import annotations

import json
import uuid
from datetime import UTC, datetime

from .books import Clip, ProviderTask, State
from .covers import VIDEO
from .instruments import instrument_name
from .operations import Result
from .replies import JSON, Reply
from .scenarios import FailureForm, Outcome
from .settings import Settings
from .songs import duration_seconds
from .words import INSTRUMENTAL, write_version

NOT_READY = Reply(202, {"type": "not_ready"})
AUDIBLE_EARLY = frozenset({"sonic", "riffusion"})


def poll_reply(task: ProviderTask, state: State, settings: Settings) -> Reply:
    """Answer `GET /<family>/task/{id}` (`provider-api.md` §4, `provider-api-2.md` §4)."""
    family = task.operation.family
    if family == "producer" and settings.producer_polling == "status":
        return Reply(200, _with_status(task, state, settings))
    if state is State.FAILED:
        return _failure(task, settings)
    if family == "nuro":
        return Reply(200, _nuro(task, state))
    if state is State.PENDING or (state is State.RUNNING and not can_stream(task)):
        return NOT_READY
    interim = family == "riffusion" and state is State.RUNNING
    return Reply(200, _result(task, state, settings, "processing" if interim else "success"))


def can_stream(task: ProviderTask) -> bool:
    """Say whether a task has something to show, or to hear, before its end."""
    return task.operation.result is Result.SONGS and task.operation.family in AUDIBLE_EARLY


def _with_status(task: ProviderTask, state: State, settings: Settings) -> JSON:
    """Show a producer task as aim does: the phase in words, and nothing until the end (§4.2)."""
    match state:
        case State.SUCCEEDED:
            return _result(task, state, settings, "success") | {"status": "SUCCESS"}
        case State.FAILED:
            message = "Generation failed. Credits have been returned."
            more = {"status": "FAILED", "type": task.scenario.failure_type, "message": message}
            return {"code": 200, "data": [], **more}
        case _:
            return {"code": 200, "status": state.upper(), "message": "processing", "data": []}


def _failure(task: ProviderTask, settings: Settings) -> Reply:
    listed = bool(task.clips) and task.operation.family != "nuro"
    match task.scenario.failure_form:
        case FailureForm.CLIPS if listed:
            return Reply(200, _result(task, State.FAILED, settings, "success"))
        case FailureForm.GATEWAY_TIMEOUT:
            message = "Task failed due to timeout. Credits were previously refunded."
            return Reply(504, {"message": message, "type": "api_error", "already_refunded": True})
        case _:
            return Reply(200, {"type": task.scenario.failure_type, "error": "Generation failed"})


def streaming_body(task: ProviderTask, settings: Settings) -> bytes:
    """Word a `song.streaming` webhook (§5.5): running clips, with an address to listen at."""
    body = _result(task, State.RUNNING, settings, "streaming")
    return _envelope(body, task, "song.streaming", settings)


def final_body(task: ProviderTask, settings: Settings) -> bytes:
    """Word the webhook that ends a task (§5.5). A failed one has neither `code` nor `data`."""
    if task.failed:
        failed: JSON = {"type": "failed", "message": "Generation failed", "refund_processed": True}
        return _envelope(failed, task, final_event(task), settings)
    if task.operation.family == "nuro":
        completed = _nuro(task, State.SUCCEEDED)
        completed |= {name: task.request.get(name) for name in ("prompt", "theme", "instrument")}
    else:
        completed = _result(task, State.SUCCEEDED, settings, "success")
    return _envelope(completed, task, final_event(task), settings)


def callback_body(task: ProviderTask) -> bytes:
    """Word the callback of an upload, which no document shows: the synchronous answer's words."""
    body: JSON = {"type": "failed", "message": "Upload failed"}
    if not task.failed:
        body = {"code": 200, "clip_id": task.clips[0].clip_id, "message": "success"}
    return json.dumps(body | {"task_id": task.provider_task_id}).encode()


def final_event(task: ProviderTask) -> str:
    return "song.failed" if task.failed else "song.completed"


def _envelope(body: JSON, task: ProviderTask, event: str, settings: Settings) -> bytes:
    family = task.operation.family
    platform = settings.platform if family == "sonic" else family
    body |= {"task_id": task.provider_task_id, "platform": platform, "event": event}
    return json.dumps(body, separators=(",", ":")).encode()


def _result(task: ProviderTask, state: State, settings: Settings, message: str) -> JSON:
    body: JSON = {"code": 200, "data": _data(task, state, settings), "message": message}
    return body | {"clip_id": task.clips[0].clip_id} if task.operation.result == "upload" else body


def _data(task: ProviderTask, state: State, settings: Settings) -> object:
    media = f"{task.base_url}/media"
    match task.operation.result:
        case Result.SONGS if task.operation.pairs(task.request):
            return _pairs(task, state, settings)
        case Result.VOICE:
            persona_id = uuid.uuid5(uuid.UUID(task.provider_task_id), "persona")
            return {"persona_id": str(persona_id), "name": "Custom voice"}
        case Result.LYRICS:
            asked = task.request.get
            return [write_version(str(asked("prompt") or asked("description")))]
        case Result.VIDEO:
            clip = task.sources[0]
            url = f"{media}/{clip.source}-{VIDEO}.svg"
            return [{"clip_id": clip.clip_id, "video_url": url, "state": state}]
        case Result.FILE:
            return [{"audio_url": media_url(media, task.sources[0], "wav")}]
        case _:
            return _songs(task, state, settings)


def _songs(task: ProviderTask, state: State, settings: Settings) -> list[JSON]:
    """List every clip in `state`; the last one failed if the outcome is partial."""
    show = {"producer": _producer_song, "riffusion": _riffusion_song}.get(task.operation.family)
    states = [state] * len(task.clips)
    if state is State.SUCCEEDED and task.scenario.outcome is Outcome.PARTIAL:
        states[-1] = State.FAILED
    if task.operation.family == "riffusion" and state is State.RUNNING:
        states = [State.SUCCEEDED]  # one song, which means that another is to come (part 2 §4)
    clips = zip(task.clips, states, strict=False)
    return [(show or _clip)(task, clip, each, settings) for clip, each in clips]


def _pairs(task: ProviderTask, state: State, settings: Settings) -> list[JSON]:
    """Pair each section with the joined song, which is null until it is there (§3.5)."""
    joining = state is State.RUNNING
    songs = _songs(task, State.SUCCEEDED if joining else state, settings)
    pairs = zip(songs[::2], songs[1::2], strict=True)
    return [
        {
            task.operation.section: section,
            "full": None if joining or full["state"] == State.FAILED else full,
        }
        for section, full in pairs
    ]


def _clip(task: ProviderTask, clip: Clip, state: State, settings: Settings) -> JSON:
    asked = task.request.get
    shown: JSON = {
        "clip_id": clip.clip_id,
        "state": state,
        "title": clip.title,
        "tags": asked("tags"),
        "lyrics": clip.lyrics or INSTRUMENTAL,
        "image_url": _image_url(task, clip),
        "audio_url": _audio_url(task, clip, state),
        "video_url": None,
        "created_at": _timestamp(task.accepted_at),
        "gpt_description_prompt": asked("gpt_description_prompt"),
        "duration": _duration(clip, settings) if state is State.SUCCEEDED else None,
        "negative_tags": asked("negative_tags"),
        "style_weight": asked("style_weight"),
        "weirdness_constraint": asked("weirdness_constraint"),
        "mv": asked("mv") or "chirp-v5",
    }
    return shown | {"stem_type": stem_type(clip.stem)} if clip.stem else shown


def _plain_song(task: ProviderTask, clip: Clip, state: State, model: str) -> JSON:
    """Show the part that the songs of producer and riffusion have in common."""
    finished = state is State.SUCCEEDED
    return {
        "clip_id": clip.clip_id,
        "title": clip.title,
        "sound": task.request.get("sound"),
        "lyrics": clip.lyrics,
        "image_url": _image_url(task, clip),
        "audio_url": _audio_url(task, clip, state),
        "video_url": None,
        "created_at": _timestamp(task.accepted_at),
        "mv": task.request.get("mv") or model,
        "duration": round(duration_seconds(clip.source), 2) if finished else None,
        "state": state,
    }


def _producer_song(task: ProviderTask, clip: Clip, state: State, _settings: Settings) -> JSON:
    song = _plain_song(task, clip, state, "FUZZ-2.0")
    return song | {"wav_url": song["audio_url"], "seed": str(task.request.get("seed") or 1)}


def _riffusion_song(task: ProviderTask, clip: Clip, state: State, _settings: Settings) -> JSON:
    song = _plain_song(task, clip, state, "FUZZ-1.1 Pro")
    return song | {"timestamp": {}, "vocal_variation": task.request.get("vocal_variation")}


def _nuro(task: ProviderTask, state: State) -> JSON:
    """Show a nuro task: flat, and empty until it is done (§4.3, part 2 §4)."""
    asked, clip, done = task.request.get, task.clips[0], state is State.SUCCEEDED
    progress = {State.PENDING: 2, State.RUNNING: 50}
    return {
        "task_id": task.provider_task_id,
        "status": state,
        "progress": progress.get(state, 100),
        "audio_url": _audio_url(task, clip, state) if done else "",
        "lyrics": clip.lyrics if done else "",
        "duration": round(duration_seconds(clip.source), 2) if done else 0,
        **{name: asked(name) or "" for name in ("genre", "mood", "gender", "timbre")},
    }


def _image_url(task: ProviderTask, clip: Clip) -> str:
    return f"{task.base_url}/media/{clip.source}.svg"


def _audio_url(task: ProviderTask, clip: Clip, state: State) -> str | None:
    """Return the clip's address: another one while it streams (§4.1), and none if it failed."""
    if state is State.FAILED:
        return None
    folder = "audiopipe" if state is State.RUNNING else "media"
    return media_url(f"{task.base_url}/{folder}", clip, "wav")


def media_url(folder: str, clip: Clip, suffix: str) -> str:
    """Return the address of a clip's file. Its name says all that is needed to render the file."""
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
