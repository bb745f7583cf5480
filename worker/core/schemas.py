"""The only dictionary between the provider's words and ours.

What we send is checked strictly, in the provider's own field names (unknown keys raise);
what the provider sends is read tolerantly (unknown keys are ignored).
"""

import math
from collections.abc import Mapping
from typing import Any, Final

from marshmallow import EXCLUDE, RAISE, Schema, ValidationError, fields, validate, validates_schema

_MODEL_IDS = ("v3-5", "v4", "v4-5", "v4-5-plus", "v5", "v5-5", "v6", "v6-wild", "v6-mini")
MODELS: Final = tuple(f"{family}-{id_}" for family in ("sonic", "chirp") for id_ in _MODEL_IDS)
"""Both spellings are accepted (provider-api.md §1, §3.1)."""

_SHORT_TEXT_MODELS = tuple(m for m in MODELS if m.endswith(("-v3-5", "-v4")))


def _strict_bool(**options: Any) -> fields.Boolean:
    """Take true and false alone: the provider answers 400 to any other spelling."""
    return fields.Boolean(truthy={True}, falsy={False}, **options)


def _ratio() -> fields.Float:
    return fields.Float(validate=validate.Range(0, 1))


class RequestSchema(Schema):
    """Base of every request: an unknown field is an error that names it."""

    class Meta:
        unknown = RAISE


class NoParameters(RequestSchema):
    """A request without a body."""


class ClipRequest(RequestSchema):
    """A derivative of one clip (provider-api.md §3.6)."""

    clip_id = fields.String(required=True, validate=validate.Length(1, 128))


class Remaster(RequestSchema):
    """``POST /sonic/create`` with ``task_type: remaster`` (provider-api.md §3.1)."""

    continue_clip_id = fields.String(required=True, validate=validate.Length(1, 128))
    mv = fields.String(required=True, validate=validate.OneOf(MODELS))
    variation_category = fields.String(validate=validate.OneOf(("subtle", "normal", "high")))
    use_suno_cdn = _strict_bool(load_default=True)


class CreateMusic(RequestSchema):
    """``POST /sonic/create`` with ``task_type: create_music`` (provider-api-2.md §3.1)."""

    custom_mode = _strict_bool(required=True)
    mv = fields.String(required=True, validate=validate.OneOf(MODELS))
    prompt = fields.String()
    gpt_description_prompt = fields.String(validate=validate.Length(max=400))
    title = fields.String(validate=validate.Length(max=80))
    tags = fields.String()
    negative_tags = fields.String(validate=validate.Length(max=200))
    make_instrumental = _strict_bool()
    auto_lyrics = _strict_bool()
    vocal_gender = fields.String(validate=validate.OneOf(("f", "m")))
    style_weight = _ratio()
    weirdness_constraint = _ratio()
    duration = fields.Integer(strict=True, validate=validate.Range(10, 360))
    use_suno_cdn = _strict_bool(load_default=True)

    @validates_schema(skip_on_field_errors=False)
    def _mode_decides_the_text(self, data: Mapping[str, Any], **_: Any) -> None:
        wanted = "prompt" if data.get("custom_mode") else "gpt_description_prompt"
        wrong = {}
        if "custom_mode" in data and not data.get(wanted):
            wrong[wanted] = [f"Required when custom_mode is {data['custom_mode']}."]
        if data.get("auto_lyrics") and not data.get("custom_mode"):
            wrong["auto_lyrics"] = ["Only with custom_mode true."]
        if wrong:
            raise ValidationError(wrong)

    @validates_schema(skip_on_field_errors=False)
    def _model_decides_the_lengths(self, data: Mapping[str, Any], **_: Any) -> None:
        short = data.get("mv") in _SHORT_TEXT_MODELS
        limits = {"prompt": 3000, "tags": 200} if short else {"prompt": 5000, "tags": 1000}
        wrong = {
            name: [f"Longer than {limit}, the limit with {data.get('mv', 'any model')}."]
            for name, limit in limits.items()
            if len(data.get(name) or "") > limit
        }
        if wrong:
            raise ValidationError(wrong)


class _LenientSeconds(fields.Field[float | None]):
    """A duration may come as an integer, a decimal string or null (provider-api.md §4.1)."""

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> float | None:
        try:
            seconds = math.nan if isinstance(value, bool) else float(value)
        except (TypeError, ValueError, OverflowError):
            return None
        return seconds if math.isfinite(seconds) else None


def _text(**options: Any) -> fields.Raw:
    return fields.Raw(load_default=None, **options)


class Clip(Schema):
    """A clip as the provider describes it, in our words (provider-api.md §4.1)."""

    class Meta:
        unknown = EXCLUDE

    clip_id = fields.String(required=True)
    state = fields.String(load_default="pending")
    title = _text()
    audio_url = _text()
    video_url = _text()
    image_url = _text()
    duration_seconds = _LenientSeconds(data_key="duration", load_default=None)
    tags = _text()
    lyrics = _text()
    model = _text(data_key="mv")
    stem_type = _text()
    created_at = _text()
    error = _text()


class Envelope(Schema):
    """What the receiver checks of a delivery: which event (provider-api.md §5.5)."""

    class Meta:
        unknown = EXCLUDE

    event = fields.String(
        required=True,
        validate=validate.OneOf(("song.streaming", "song.completed", "song.failed")),
    )
    task_id = fields.String(load_default=None, allow_none=True)
