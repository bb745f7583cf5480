"""How a page says things: times, links, what strangers wrote. Pure, and the same for all."""

import json
import re
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import urlsplit

from markupsafe import Markup, escape

HIDDEN: Final = "••••••"
_SECRET: Final = re.compile(r"key|secret|token|password|signature", re.IGNORECASE)
_LONGEST: Final = 20_000
"""So many characters of a text of a stranger are shown at most."""


def ago(at: float, *, now: float) -> Markup:
    """Write how long ago something was, roughly, with the time in UTC behind it."""
    return _time(at, _roughly(now - at), "age")


def _roughly(seconds: float) -> str:
    for unit, size, most in (("s", 1, 60), ("min", 60, 60), ("h", 3600, 48)):
        if seconds < size * most:
            return f"{max(int(seconds // size), 0)} {unit}"
    return f"{int(seconds // 86400)} d"


def moment(at: float | None) -> Markup:
    """Write a time; the page's script shows it in the reader's zone."""
    if at is None:
        return Markup("–")
    return _time(at, f"{datetime.fromtimestamp(at, UTC):%d %b %H:%M:%S} UTC", "at")


def day(at: float) -> str:
    """Write a day of UTC."""
    return f"{datetime.fromtimestamp(at, UTC):%a %d %b}"


def _time(at: float, shown: str, kind: str) -> Markup:
    utc = datetime.fromtimestamp(at, UTC)
    return Markup('<time class="{}" datetime="{}" title="{}">{}</time>').format(
        kind, utc.isoformat(timespec="milliseconds"), f"{utc:%Y-%m-%d %H:%M:%S} UTC", shown
    )


def link(url: object) -> str | None:
    """Return an address that a page may link to: http and https alone, from a stranger's text."""
    if not isinstance(url, str):
        return None
    try:
        parts = urlsplit(url)
    except ValueError:
        return None
    return url if parts.scheme in {"http", "https"} and parts.hostname else None


def without_query(url: str) -> str:
    """Write an address without its user and its query, which may hold a secret."""
    parts = urlsplit(url)
    shown = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
    return shown + ("?…" if parts.query else "")


def hide(value: Any, name: str = "") -> Any:
    """Copy JSON without its secrets: values that are named so, and the queries of addresses."""
    if isinstance(value, dict):
        return {key: hide(each, str(key)) for key, each in value.items()}
    if isinstance(value, list):
        return [hide(each, name) for each in value]
    if isinstance(value, str) and value and _SECRET.search(name):
        return HIDDEN
    return without_query(value) if link(value) else value


def document(value: Any) -> str:
    """Write JSON for a person to read; a very long one is cut."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}\n… ({len(text):,} characters)"


def readable(body: bytes) -> str:
    """Write a body of any bytes as text: JSON laid out, control characters escaped."""
    text = body.decode(errors="backslashreplace")
    try:
        return document(json.loads(text))
    except (ValueError, RecursionError):
        shown = "".join(c if c.isprintable() or c in "\n\t" else ascii(c)[1:-1] for c in text)
        return shown[:_LONGEST]


def breakable(name: str) -> Markup:
    """Write a name that may break after its dots and underscores, and nowhere else."""
    return Markup("").join(
        Markup("{}<wbr>").format(part) if part in {".", "_"} else escape(part)
        for part in re.split(r"([._])", name)
    )


def mark(state: str) -> Markup:
    """Draw the mark of a state: its shape tells it apart where its colour does not."""
    name = state.replace(" ", "-")
    return Markup(
        '<svg class="mark s-{0}" width="14" height="14" aria-hidden="true">'
        '<use href="#m-{0}"/></svg>'
    ).format(name)
