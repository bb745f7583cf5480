"""The provider's checks of a request body, and its words when one fails.

Messages in `provider-api.md` §6 are used as they stand, with the limit in force. Where no message
is documented, one is made in the same manner.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from urllib.parse import urlsplit

from .replies import Refused
from .settings import Settings

Body = dict[str, object]
Check = Callable[[str, object], None]

# provider-api.md §3.1: both spellings of a model are accepted; the v6 ids came in September 2026.
OLD_VERSIONS = ("v3-5", "v4")
VERSIONS = (*OLD_VERSIONS, "v4-5", "v4-5-plus", "v5", "v5-5", "v6", "v6-wild", "v6-mini")
OLD_MODELS = frozenset(f"{family}-{v}" for family in ("sonic", "chirp") for v in OLD_VERSIONS)
MODELS = frozenset(f"{family}-{v}" for family in ("sonic", "chirp") for v in VERSIONS)

# provider-api.md §3.1, provider-api-2.md §3.1.
REQUIRED: Mapping[str, tuple[str, ...]] = {
    "create_music": ("custom_mode", "mv"),
    "extend_music": ("continue_clip_id", "continue_at", "custom_mode", "mv"),
    "extend_upload_music": ("continue_clip_id", "continue_at", "custom_mode", "mv"),
    "cover_music": ("continue_clip_id", "custom_mode", "mv"),
    "cover_upload_music": ("continue_clip_id", "custom_mode", "mv"),
    "concat_music": ("continue_clip_id",),
    "persona_music": ("persona_id", "custom_mode", "mv"),
    "remaster": ("continue_clip_id", "mv"),
    "add_vocals": ("continue_clip_id", "mv", "prompt"),
    "add_instrumental": ("continue_clip_id", "mv"),
}
WRITES_WORDS = frozenset({"create_music", "persona_music"})
HAS_DURATION = frozenset(task for task in REQUIRED if "custom_mode" in REQUIRED[task])
DEFAULT_TASK_TYPE = "create_music"
WEBHOOK_URL_LIMIT = 1024


def read_body(raw: bytes) -> Body:
    """Parse a request body. Raises `Refused` (400) unless it is a JSON object."""
    try:
        body = json.loads(raw)
    except ValueError:
        raise Refused(400, "The request body should be valid JSON.") from None
    if not isinstance(body, dict):
        raise Refused(400, "The request body should be a JSON object.")
    return body


def check_clip(body: Body, _settings: Settings) -> None:
    """Check the body of an endpoint that takes one finished clip and nothing else (§3.6)."""
    _require(body, ("clip_id",))
    _string("clip_id", body["clip_id"])


def check_create(body: Body, settings: Settings) -> None:
    """Check the body of `/sonic/create`, whatever its task type. Raises `Refused` (400)."""
    task_type = body.get("task_type", DEFAULT_TASK_TYPE)
    if not isinstance(task_type, str) or task_type not in REQUIRED:
        raise Refused(400, "The 'task_type' field is invalid.")
    required = REQUIRED[task_type]
    if "mv" in required:
        _model(body.get("mv"))
    if "custom_mode" in required:
        _boolean("custom_mode", body.get("custom_mode"))
    _check_fields(body)
    _require(body, required, f"task_type = {task_type}")
    if task_type in WRITES_WORDS:
        _require_words(body)
    _check_lengths(body)
    _check_uncertain(body, task_type, settings)
    _check_webhook(body, settings)


def _model(value: object) -> None:
    if value not in MODELS:
        raise Refused(
            400,
            "The 'mv' field is invalid. "
            "The model should be 'chirp-v3-5','chirp-v4' or 'chirp-v4-5'.",
        )


def _check_fields(body: Body) -> None:
    for name, check in FIELDS.items():
        if body.get(name) is not None:
            check(name, body[name])


def _require(body: Body, names: tuple[str, ...], case: str = "") -> None:
    for name in names:
        if body.get(name) in (None, ""):
            when = f" when {case}" if case else ""
            raise Refused(400, f"The '{name}' field is required{when}.")


def _require_words(body: Body) -> None:
    """Custom mode needs lyrics, unless there are none to sing; otherwise a description."""
    if not body["custom_mode"]:
        _require(body, ("gpt_description_prompt",), "custom_mode = false")
    elif not body.get("make_instrumental") and not body.get("lyrics"):
        _require(body, ("prompt",), "custom_mode = true")


def _check_lengths(body: Body) -> None:
    old = body.get("mv") in OLD_MODELS
    limits = {
        "prompt": ("prompt", 3000 if old else 5000),
        "lyrics": ("prompt", 3000 if old else 5000),
        "gpt_description_prompt": ("'gpt_description_prompt'", 400),
        "tags": ("tags", 200 if old else 1000),
        "negative_tags": ("negative_tags", 200),
        "title": ("title", 80),
    }
    for name, (label, limit) in limits.items():
        if len(str(body.get(name) or "")) > limit:
            raise Refused(400, f"The {label} character length should be less than {limit}.")


def _check_uncertain(body: Body, task_type: str, settings: Settings) -> None:
    """Check what the documents disagree on (§9.10, §9.11)."""
    if settings.require_use_suno_cdn:
        _boolean("use_suno_cdn", body.get("use_suno_cdn"))
    if body.get("duration") is not None and task_type not in HAS_DURATION:
        raise Refused(400, f"The 'duration' field is not allowed when task_type = {task_type}.")


def _check_webhook(body: Body, settings: Settings) -> None:
    """Check the webhook's address: HTTPS and short in one source, any URI in the other (§5.1)."""
    address = body.get("webhook_url")
    if address is None:
        return
    schemes = ("https",) if settings.require_https_webhooks else ("https", "http")
    if not _is_url(str(address), schemes) or len(str(address)) > WEBHOOK_URL_LIMIT:
        raise Refused(400, "The 'webhook_url' field is invalid.")


def _is_url(text: str, schemes: tuple[str, ...]) -> bool:
    try:
        parts = urlsplit(text)
    except ValueError:
        return False
    return parts.scheme in schemes and bool(parts.hostname)


def _string(name: str, value: object) -> None:
    if not isinstance(value, str):
        raise Refused(400, f"The '{name}' field should be a string.")


def _boolean(name: str, value: object) -> None:
    if not isinstance(value, bool):
        raise Refused(400, f"The '{name}' field should be boolean.")


def _number(name: str, value: object, *, at_most: float = float("inf")) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= at_most:
        limits = f" between 0 and {at_most:g}" if at_most < float("inf") else ""
        raise Refused(400, f"The '{name}' field should be a number{limits}.")


def _target_seconds(name: str, value: object) -> None:
    if type(value) is not int or not 10 <= value <= 360:
        raise Refused(400, f"The '{name}' field should be an integer between 10 and 360.")


def _weight(name: str, value: object) -> None:
    _number(name, value, at_most=1)


def _one_of(*choices: str) -> Check:
    def check(name: str, value: object) -> None:
        if value not in choices:
            allowed = " or ".join(f"'{choice}'" for choice in choices)
            raise Refused(400, f"The '{name}' field should be {allowed}.")

    return check


FIELDS: Mapping[str, Check] = {
    "make_instrumental": _boolean,
    "auto_lyrics": _boolean,
    "prompt": _string,
    "lyrics": _string,
    "gpt_description_prompt": _string,
    "title": _string,
    "tags": _string,
    "negative_tags": _string,
    "continue_clip_id": _string,
    "persona_id": _string,
    "style_weight": _weight,
    "weirdness_constraint": _weight,
    "audio_weight": _weight,
    "duration": _target_seconds,
    "continue_at": _number,
    "overpainting_start_s": _number,
    "overpainting_end_s": _number,
    "vocal_gender": _one_of("f", "m"),
    "variation_category": _one_of("subtle", "normal", "high"),
    "webhook_url": _string,
    "webhook_secret": _string,
}
