"""The provider's bodies in our words. They are read tolerantly: unknown keys are ignored."""

import math
from typing import Any

from marshmallow import EXCLUDE, Schema, fields, validate


class _LenientSeconds(fields.Field[float | None]):
    """A duration may come as an integer, a decimal string or null (provider-api.md §4.1)."""

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> float | None:
        try:
            seconds = math.nan if isinstance(value, bool) else float(value)
        except (TypeError, ValueError, OverflowError):
            return None
        return seconds if math.isfinite(seconds) else None


def _any(**options: Any) -> fields.Raw:
    return fields.Raw(load_default=None, **options)


class Clip(Schema):
    """A clip as the provider describes it, in our words (provider-api.md §4.1)."""

    class Meta:
        unknown = EXCLUDE

    clip_id = fields.String(load_default=None, allow_none=True)
    title = _any()
    audio_url = _any()
    video_url = _any()
    image_url = _any()
    wav_url = _any()
    duration_seconds = _LenientSeconds(data_key="duration", load_default=None, allow_none=True)
    tags = _any()
    sound = _any()
    lyrics = _any()
    model = _any(data_key="mv")
    stem_type = _any()
    created_at = _any()
    error = _any()


class Envelope(Schema):
    """The part of a delivery that the receiver checks: its event (provider-api.md §5.5)."""

    class Meta:
        unknown = EXCLUDE

    event = fields.String(
        required=True,
        validate=validate.OneOf(("song.streaming", "song.completed", "song.failed")),
    )
    task_id = fields.String(load_default=None, allow_none=True)
