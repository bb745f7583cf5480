"""Translates between the simulator's requests and bodies, and the toy provider's."""

import json
from collections.abc import Mapping
from typing import Any, Final

JSON = dict[str, Any]

PATHS: Final = {
    "sonic.remaster": "/sonic/create",
    "sonic.create_music": "/sonic/create",
    "sonic.mashup": "/sonic/mashup",
    "sonic.stems_full": "/sonic/stems/full",
    "sonic.vox": "/sonic/vox",
    "sonic.wav": "/sonic/wav",
}
_ALSO: Final[Mapping[str, JSON]] = {
    "sonic.remaster": {"task_type": "remaster"},
    "sonic.create_music": {"task_type": "create_music", "mv": "chirp-v5", "custom_mode": False},
    "sonic.mashup": {"mv": "chirp-v5", "custom_mode": False},
}
_TOPICS: Final = {
    "song.completed": "job.done",
    "song.streaming": "job.working",
    "song.failed": "job.broken",
}
_PHASES: Final = {"succeeded": "done", "failed": "broken"}


def to_simulator(wanted: Mapping[str, Any], webhook_url: str) -> JSON:
    """Translate a submit into the simulator's words."""
    of = wanted["of"]
    said = {
        "mv": of.get("engine"),
        "gpt_description_prompt": of.get("about"),
    }
    body = {name: value for name, value in said.items() if value is not None}
    match wanted["kind"], of:
        case _, {"refs": refs}:
            body["mashup_clip_ids"] = refs
        case "sonic.remaster", {"ref": ref}:
            body["continue_clip_id"] = ref
        case _, {"ref": ref}:
            body["clip_id"] = ref
    body |= _ALSO.get(wanted["kind"], {})
    if "notify" in wanted:
        body |= {"webhook_url": webhook_url, "webhook_secret": wanted["notify"]["key"]}
    return body


def to_toy(body: Mapping[str, Any]) -> JSON:
    """Translate a body of the simulator into the toy provider's words."""
    data = body.get("data")
    songs = [_song(item) for item in data if isinstance(item, dict)] if type(data) is list else []
    broken = body.get("type") in {"failed", "timeout", "forbidden", "api_error"}
    broken = broken or (bool(songs) and all(song["phase"] == "broken" for song in songs))
    words = next((body[key] for key in ("message", "detail", "error") if body.get(key)), None)
    said = {
        "handle": body.get("task_id"),
        "topic": _TOPICS.get(str(body.get("event")), body.get("event")),
        "phase": "broken" if broken else None,
        "says": words,
        "songs": songs or None,
        "files": data if isinstance(data, dict) else None,
        "refund": body.get("refund_processed", body.get("already_refunded")),
        "coins": body.get("credits"),
    }
    return {name: value for name, value in said.items() if value is not None}


def to_toy_bytes(raw: bytes) -> bytes:
    """Translate the bytes of a body; a body that is no JSON object stays as it is."""
    try:
        body = json.loads(raw)
    except ValueError:
        return raw
    return json.dumps(to_toy(body)).encode() if isinstance(body, dict) else raw


def _song(clip: Mapping[str, Any]) -> JSON:
    return {
        "ref": clip.get("clip_id"),
        "link": clip.get("audio_url"),
        "stem": clip.get("stem_type"),
        "phase": _PHASES.get(str(clip.get("state")), "working"),
    }
