"""Reads the provider's refusals, in any of their shapes, into one tree of errors.

Bodies are not uniform (provider-api.md §6, provider-api-2.md §6): ``{code, message}``,
``{error, type, detail}``, ``{error, retriable}``, ``{message, type, already_refunded}``, a reason
below ``steps``, HTML, or nothing.
"""

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, Literal

from worker.core import errors
from worker.core.errors import ProviderError
from worker.core.job.models import JSONObject

if TYPE_CHECKING:
    from worker.core.providers.aimusic.operations import Operation

# A task that failed is polled as HTTP 200 with one of these and neither code nor data
# (provider-api-2.md §4).
_FAILURE_TYPES: Final = frozenset({"failed", "timeout", "forbidden", "api_error"})
# Producer and nuro name the task's own status, in either case (provider-api.md §4.2, §4.3).
_STATUS: Final[Mapping[str, Literal["running", "succeeded", "failed"]]] = {
    "pending": "running", "running": "running", "processing": "running",
    "success": "succeeded", "succeeded": "succeeded", "completed": "succeeded",
    "failed": "failed", "error": "failed",
}  # fmt: skip
_WORDS_LIMIT: Final = 500
_NO_REFUND: Final = re.compile(r"\b(not (be |been )?|no credits (were |have been )?)refunded\b")


def read_error(
    operation: "Operation",
    status: int,
    body: Mapping[str, Any],
    *,
    retry_after: float | None = None,
) -> ProviderError:
    """Read an error answer.

    Args:
        retry_after: the seconds that the answer's header asks for.
    """
    words, details = find_words(body), _details(status, body)
    if retry_after is not None:
        details |= {"retry_after": retry_after}
    match status:
        case 401:
            return errors.KeyRefused(words, details)
        case 429:
            return errors.RateLimited(words, details)
        case 410:
            return _retired(operation, words, details)
        case _ if status == 408 or status >= 500:
            return errors.ProviderUnavailable(words, details)
        # 402, or a 403 told apart from moderation by its text (provider-api.md §9.6).
        case 402 | 403 if status == 402 or _about_credits(body):
            return errors.OutOfCredits(words, details)
        case _ if 300 <= status < 400:
            return errors.UnexpectedResponse("redirected: check FERMATA_PROVIDER_URL", details)
    return errors.RequestRefused(words, details)


def _retired(operation: "Operation", words: str, details: JSONObject) -> errors.OperationRetired:
    instead = f"; use {operation.retired}" if operation.retired else ""
    message = f"the provider has retired {operation.name}{instead} ({words})"
    return errors.OperationRetired(message, details | {"instead": operation.retired})


def _about_credits(body: Mapping[str, Any]) -> bool:
    said = " ".join(str(body.get(key, "")) for key in ("error", "message", "detail")).lower()
    # A refusal may end in "Credits refunded.", which does not mean that there are none.
    said = re.sub(r"\bcredits?\b[^.,;]*\brefunded\b", "", said)
    return any(word in said for word in ("credit", "subscription"))


def task_failed(status: int | None, body: Mapping[str, Any]) -> errors.TaskFailed:
    """Build the error of a task that the provider accepted and failed."""
    return errors.TaskFailed(find_words(body), _details(status, body))


def says_failed(body: Mapping[str, Any]) -> bool:
    """Say whether a body tells of a failed task, whatever the HTTP status."""
    if body.get("event") == "song.failed" or task_status(body) == "failed":
        return True
    return is_one_of(body.get("type"), _FAILURE_TYPES) and not body.get("data")


def says_refunded(body: Mapping[str, Any]) -> bool:
    """Say whether a body speaks of a refund."""
    return bool(_details(None, body).get("refunded"))


def task_status(body: Mapping[str, Any]) -> Literal["running", "succeeded", "failed"] | None:
    """Read a task's own status: running, succeeded, failed; None if the body names none."""
    status = body.get("status")
    return _STATUS.get(status.strip().lower()) if isinstance(status, str) else None


def is_one_of(value: Any, known: frozenset[Any]) -> bool:
    """Look a value up in a set. A list or an object is not in it, and cannot be hashed."""
    return isinstance(value, str | int) and value in known


def find_words(body: Mapping[str, Any]) -> str:
    """Find the provider's own words for people."""
    steps = _object(body.get("steps")).values()
    failed = [_object(step) for step in steps if _object(step).get("success") is not True]
    # A failed step says more than the body around it, so look there first.
    for place in (*failed, body):
        for key in ("error", "message", "detail", "type"):
            if isinstance(place.get(key), str) and place[key]:
                return str(place[key])[:_WORDS_LIMIT]
    return "no reason given"


def _object(value: Any) -> JSONObject:
    return value if isinstance(value, dict) else {}


def _details(status: int | None, body: Mapping[str, Any]) -> JSONObject:
    refunds = [body.get(key) for key in ("refund_processed", "already_refunded")]
    refunded = next((flag for flag in refunds if isinstance(flag, bool)), None)
    words = find_words(body).lower()
    if refunded is None and re.search(r"\brefunded\b", words) and not _NO_REFUND.search(words):
        refunded = True
    known = {"http_status": status, "provider_type": body.get("type"), "refunded": refunded}
    return {name: value for name, value in known.items() if value is not None}
