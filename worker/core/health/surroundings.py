"""Judges the surroundings of a set-up: its addresses, keys and files, the receiver, the provider.

These are rules like those of :mod:`worker.core.health.checks`, for all but Redis and Celery.
"""

from collections.abc import Collection, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from worker.core.errors import FermataError, InvalidPayload, OutOfCredits, ProviderError
from worker.core.health.checks import Finding, Level
from worker.core.providers import chosen
from worker.core.visitors import Visitor
from worker.core.wire import Answer, AnswerLost, NeverSent, parse


def _shown(url: str) -> str:
    """Show a URL without its user and password."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def check_provider_url(url: str) -> Finding:
    """Judge the provider's address; the settings refuse plain http to another machine."""
    if urlsplit(url).scheme == "https":
        return Finding("provider URL", Level.OK, f"{_shown(url)}.")
    return Finding("provider URL", Level.NOTE, f"{_shown(url)} is on this machine: a simulator?")


def check_public_url(url: str) -> Finding:
    """Judge the address that we give the provider; the settings refuse plain http elsewhere."""
    if not url:
        do = "Set FERMATA_PUBLIC_URL to an https address of the receiver."
        return Finding("public URL", Level.DANGER, "FERMATA_PUBLIC_URL is not set.", do)
    if urlsplit(url).scheme == "https":
        return Finding("public URL", Level.OK, f"{_shown(url)}.")
    said = f"{_shown(url)}: only a provider on this machine, such as the simulator, can call back."
    return Finding("public URL", Level.NOTE, said)


def check_keys(signing_keys: Collection[str], api_key: str) -> Finding:
    """Judge the signing keys; the settings refuse weak ones."""
    name = "signing keys"
    if not signing_keys:
        do = "Set FERMATA_SIGNING_KEYS, the same for worker and receiver."
        return Finding(name, Level.DANGER, "FERMATA_SIGNING_KEYS is not set.", do)
    if api_key in signing_keys:
        said = "The API key is also a signing key: the provider could forge any webhook."
        return Finding(name, Level.DANGER, said, "Make a random signing key.")
    if len(signing_keys) == 1:
        return Finding(name, Level.OK, "One strong key.")
    said = f"{len(signing_keys)} strong keys: the first signs, all verify."
    do = "Drop the old ones when the jobs that they signed have ended."
    return Finding(name, Level.NOTE, said, do)


def check_receiver(answer: Answer | str, *, signed: bool) -> Finding:
    """Judge the public URL's answer to a delivery that changes nothing.

    Args:
        answer: the answer, or why there was none.
        signed: whether the delivery was signed with the first of our signing keys.
    """
    if isinstance(answer, str):
        said = f"The public URL cannot be reached from here: {answer}. Jobs end late, by polling."
        do = "Start the receiver, and check DNS, TLS and the proxy before it."
        return Finding("receiver", Level.DANGER, said, do)
    match answer.status, _said(answer):
        case 200, {"status": "without effect"}:
            said = "Our receiver answers at the public URL, with the same signing key."
            return Finding("receiver", Level.OK, said)
        case 401, {"error": "invalid signature"} if signed:
            said = "Our receiver answers, but refuses our signature: no webhook will be taken."
            do = "Give it the first of these FERMATA_SIGNING_KEYS; check its clock."
            return Finding("receiver", Level.DANGER, said, do)
        case 401, {"error": "invalid signature"}:
            return Finding("receiver", Level.OK, "Our receiver answers at the public URL.")
    said = f"HTTP {answer.status} at the public URL, and not by our receiver: no webhook arrives."
    do = "Let the proxy pass POST /webhooks/ to the receiver, its body and headers unchanged."
    return Finding("receiver", Level.DANGER, said, do)


def check_health(answer: Answer | str) -> Finding:
    """Judge the receiver's word on its own Redis."""
    name = "receiver's Redis"
    if isinstance(answer, Answer):
        match answer.status, _said(answer):
            case 200, {"status": "ok"}:
                return Finding(name, Level.OK, "The receiver can store what it is told.")
            case 503, {"status": _}:
                said = "The receiver cannot write to its Redis: every webhook is answered 503."
                return Finding(name, Level.DANGER, said, "Check its FERMATA_REDIS_URL.")
    said = "The public URL does not answer for /healthz, so this cannot be checked from here."
    return Finding(name, Level.NOTE, said)


def check_desk(url: str, answer: Answer | str) -> Finding:
    """Judge the desk's answer to ``GET /healthz``; a system runs well without a desk."""
    if isinstance(answer, str):
        said = f"No desk answers at {url}: {answer}. `fermata desk` starts one here."
        do = "If it listens elsewhere, as by DESK_PORT, set FERMATA_DESK_URL."
        return Finding("desk", Level.NOTE, said, do)
    if answer.status == 204:
        return Finding("desk", Level.OK, f"It answers at {url}.")
    if answer.status == 400:
        said = f"It does not go by the name in {url}."
        return Finding("desk", Level.WARNING, said, "Add the name to FERMATA_DESK_HOSTS.")
    said = f"HTTP {answer.status} at {url}, and not by our desk."
    return Finding("desk", Level.WARNING, said, "Correct FERMATA_DESK_URL.")


def check_visitors(visitors: Collection[Visitor]) -> Finding:
    """Say who may enter the desk, by the tokens that this machine knows."""
    if not visitors:
        said = "Without FERMATA_DESK_TOKENS a desk opens on its machine alone, by a link it prints."
        return Finding("desk's visitors", Level.NOTE, said)
    told = ", ".join(map(_visitor, visitors))
    return Finding("desk's visitors", Level.OK, f"{told}.")


def _visitor(each: Visitor) -> str:
    return f"{each.name} ({each.role}{f' for {each.tenant}' if each.tenant else ''})"


def check_account(answered: float | FermataError) -> Finding:
    """Judge the API key and the credits.

    Args:
        answered: the credits that are left, or why the provider did not say.
    """
    match answered:
        case float() | int():
            return _credits(answered)
        case OutOfCredits():
            return Finding("API key", Level.WARNING, _sentence(answered), "Top up.")
        case ProviderError() if answered.http_status in {401, 403}:
            said = f"The provider refuses it: {_sentence(answered)}"
            return Finding("API key", Level.DANGER, said, "Check FERMATA_API_KEY.")
        case ProviderError():
            said = f"The provider refuses to say: {_sentence(answered)}"
            return Finding("API key", Level.WARNING, said)
        case NeverSent() | AnswerLost():
            said = f"No answer from the provider: {_sentence(answered)}"
            do = "Check FERMATA_PROVIDER_URL, and the way out of this machine."
            return Finding("API key", Level.DANGER, said, do)
        case _:
            said = f"The provider did not say how many credits are left: {_sentence(answered)}"
            return Finding("API key", Level.WARNING, said, "Ask again later.")


NO_API_KEY: Final = Finding(
    "API key", Level.DANGER, "FERMATA_API_KEY is not set: no worker starts.", "Set it."
)


def _credits(left: float) -> Finding:
    dearest = max(chosen().operations.values(), key=lambda row: row.credits)
    said = f"The provider takes it; {left:g} credits are left"
    if left >= dearest.credits:
        return Finding("API key", Level.OK, f"{said}.")
    said += f", and {dearest.name} alone costs {dearest.credits:g}."
    return Finding("API key", Level.WARNING, said, "Top up.")


def check_provider_clock(ahead_seconds: float, tolerance_seconds: float) -> Finding:
    """Judge the provider's clock against ours, to the second.

    Args:
        tolerance_seconds: how far a webhook's timestamp may be from now.
    """
    apart = abs(ahead_seconds)
    said = f"The provider's clock and this machine's are {apart:.0f} s apart"
    if apart <= tolerance_seconds / 2:
        return Finding("provider's clock", Level.OK, f"{said}.")
    said += f"; a webhook may be {tolerance_seconds:.0f} s off."
    level = Level.WARNING
    if apart > tolerance_seconds:
        level, said = Level.DANGER, f"{said} All are refused."
    return Finding("provider's clock", level, said, "Keep this machine's time by NTP.")


def check_file(path: str, mode: int) -> Finding:
    """Judge who may read a file that holds secrets."""
    if mode & 0o004:
        said = f"Everyone on this machine can read {path}, which holds secrets."
        return Finding("secrets", Level.WARNING, said, f"Run: chmod 600 {path}")
    return Finding("secrets", Level.OK, f"Not everyone on this machine can read {path}.")


def _sentence(reason: object) -> str:
    return f"{str(reason).rstrip('.')}."


def _said(answer: Answer) -> Mapping[str, Any]:
    try:
        return parse(answer.body)
    except InvalidPayload:
        return {}
