"""The settings of one simulator: every open question of the documents is one of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from .scenarios import Scenario


def _setting(default: object, help_text: str, _open_question: str = "") -> Any:
    return field(default=default, metadata={"help": help_text})


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings of one simulator. Each is an option of the command line too.

    The section beside a help text is the place in `provider-api.md` that leaves the question open.
    """

    scenario: Scenario = field(default_factory=Scenario)
    api_key: str = _setting("sk_simulator", "The only key that is accepted.")
    credits: float = _setting(100_000, "Credits to start with.")
    submits_per_second: float | None = _setting(
        None, "Answer 429 beyond so many, with a second's worth at once.", "§6"
    )
    in_flight: int | None = _setting(None, "Answer 429 beyond so many tasks under way.", "§6")
    public_url: str | None = _setting(None, "Begin media links so, not with the request's host.")
    strict_clips: bool = _setting(False, "Answer 404 to a clip that was not made here.")
    out_of_credits_status: Literal[402, 403] = _setting(402, "Answer without credits.", "§9.6")
    unknown_task_status: Literal[404, 400] = _setting(404, "Answer to an unknown task.", "§9.9")
    error_shape: Literal["message", "typed", "brief", "retriable", "text_code", "html", "empty"] = (
        _setting("message", "Body of an error.", "§6")
    )
    clip_hours: float = _setting(24.0, "How long a clip can be worked on.", "§8")
    old_clip_status: Literal[404, 400] = _setting(404, "Answer to a clip that is too old.", "§8")
    failed_step_status: Literal[200, 400] = _setting(
        200, "Answer to a submit whose second step fails.", "part 2 §9.7"
    )
    producer_polling: Literal["not_ready", "status"] = _setting(
        "not_ready", "How a producer task is polled.", "§4.2, part 2 §4"
    )
    riffusion: Literal["retired", "working"] = _setting(
        "retired", "Whether riffusion answers 410.", "part 2 §9.6"
    )
    nuro: Literal["retired", "working"] = _setting("retired", "Whether nuro answers 410.", "§3.9")
    upload_callback: Literal["unsigned", "signed"] = _setting(
        "unsigned", "How an upload's callback_url is called.", "§9.19"
    )
    narrow_limits: bool = _setting(False, "Where limits contradict, take the narrow one.", "§9.11")
    duration_form: Literal["text", "integer", "null"] = _setting(
        "text", "How a clip's duration is written.", "§4.1"
    )
    platform: Literal["suno", "sonic"] = _setting("suno", "Platform that webhooks name.", "§9.5")
    require_https_webhooks: bool = _setting(False, "Refuse a webhook_url without https.", "§5.1")
    require_use_suno_cdn: bool = _setting(False, "Refuse a create without use_suno_cdn.", "§9.10")
    retries: int = _setting(3, "Further tries of a delivery that is not answered 2xx.", "§9.1")
    retry_backoff_seconds: float = _setting(0.5, "Wait before the first retry; then doubled.")
    replay_timestamp: bool = _setting(
        False, "Retry with the first signature, not a new one.", "§9.3"
    )
    delivery_timeout_seconds: float = _setting(10.0, "How long a receiver may take.")
    delivery_threads: int = _setting(32, "How many deliveries are under way at once.")

    def retires(self, path: str) -> bool:
        """Say whether a path is of a family that answers 410."""
        family = path.split("/")[1]
        return getattr(self, family, "") == "retired"
